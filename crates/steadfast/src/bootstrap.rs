//! What every cluster has from its first moment: the default storage class, the priorities of the system, and the Services of the
//! API server and of DNS.

use std::net::{Ipv4Addr, SocketAddrV4};

use informer::{Api, Watched};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{PatchParams, PostParams};
use kube::{Client, Resource};
use network::Cidr;
use serde_json::{Value, json};

/// Who made these objects.
const MANAGER: &str = "steadfast";

/// The classes of the system's own pods: name, priority, and which pods they are.
const SYSTEM_PRIORITIES: [(&str, i32, &str); 2] = [
    ("system-cluster-critical", 2_000_000_000, "must run in the cluster, but can be moved to another node if necessary"),
    ("system-node-critical", 2_000_001_000, "must not be moved from their current node"),
];

/// Where the cluster's own services are.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub services: Cidr,
    /// The API server, as pods reach it.
    pub api: SocketAddrV4,
    /// The DNS server, as pods reach it; absent where pods are only simulated.
    pub dns: Option<Ipv4Addr>,
}

/// The address of the `kubernetes` Service: the first of the network.
pub fn api_service_address(services: Cidr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(services.address) + 1)
}

/// The address of the `kube-dns` Service: the tenth of the network.
fn dns_service_address(services: Cidr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(services.address) + 10)
}

/// Makes what is missing; what users changed stays, but where the services are is brought up to date.
pub async fn run(client: &Client, addresses: Addresses) -> Result<(), kube::Error> {
    create(&Api::<StorageClass>::all(client.clone()), storage_class()).await?;
    for (name, value, whom) in SYSTEM_PRIORITIES {
        let class =
            json!({"metadata": {"name": name}, "value": value, "description": format!("Used for system critical pods that {whom}.")});
        create(&Api::<PriorityClass>::all(client.clone()), class).await?;
    }
    let api_ports = [("https", "TCP", 443, addresses.api.port())];
    let api = api_service_address(addresses.services);
    publish(client, "default", "kubernetes", api, *addresses.api.ip(), &api_ports).await?;
    let Some(dns) = addresses.dns else { return Ok(()) };
    let dns_ports = [("dns", "UDP", 53, 53), ("dns-tcp", "TCP", 53, 53)];
    publish(client, "kube-system", "kube-dns", dns_service_address(addresses.services), dns, &dns_ports).await
}

/// A Service without a selector and what is behind it. Ports are `(name, protocol, port, target)`.
async fn publish(
    client: &Client,
    namespace: &str,
    name: &str,
    service_address: Ipv4Addr,
    endpoint: Ipv4Addr,
    ports: &[(&str, &str, u16, u16)],
) -> Result<(), kube::Error> {
    let labels = json!({"kubernetes.io/cluster-service": "true", "k8s-app": name});
    let service_ports: Vec<Value> = ports
        .iter()
        .map(|(name, protocol, port, target)| json!({"name": name, "protocol": protocol, "port": port, "targetPort": target}))
        .collect();
    let service = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": service_address, "ports": service_ports},
    });
    create(&namespaced::<Service>(client, namespace), service).await?;
    let endpoint_ports: Vec<Value> =
        ports.iter().map(|(name, protocol, _, target)| json!({"name": name, "protocol": protocol, "port": target})).collect();
    let endpoints = json!({
        "metadata": {"name": name, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": endpoint}], "ports": endpoint_ports}],
    });
    create_or_merge(&namespaced::<Endpoints>(client, namespace), endpoints).await?;
    let slice = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": MANAGER}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [endpoint], "conditions": {"ready": true, "serving": true, "terminating": false}}],
        "ports": endpoint_ports,
    });
    create_or_merge(&namespaced::<EndpointSlice>(client, namespace), slice).await
}

fn storage_class() -> Value {
    json!({
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "steadfast.dev/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn namespaced<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Watched + Resource<Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), namespace)
}

/// Creates an object; one of the same name is left as it is. Returns whether it was created.
async fn create<K>(api: &Api<K>, object: Value) -> Result<bool, kube::Error>
where
    K: Watched + serde::Serialize,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    // A Service that exists would be refused for its address before its name.
    if api.get_opt(name).await?.is_some() {
        return Ok(false);
    }
    let object = kinds::object::from_tree(&object).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }, &object).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates an object, or brings one of the same name up to date.
async fn create_or_merge<K>(api: &Api<K>, object: Value) -> Result<(), kube::Error>
where
    K: Watched + serde::Serialize,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if !create(api, object.clone()).await? {
        api.patch(&name, &PatchParams::default(), &kube::api::Patch::Merge(object)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_have_the_addresses_that_clients_expect() {
        let services = Cidr { address: [10, 43, 0, 0].into(), prefix: 16 };
        assert_eq!(api_service_address(services), Ipv4Addr::new(10, 43, 0, 1));
        assert_eq!(dns_service_address(services), Ipv4Addr::new(10, 43, 0, 10));
    }
}
