//! What every cluster has from its first moment: the default storage class, the priorities of the system, and the Services of the
//! API server and of DNS.

use std::net::Ipv4Addr;

use informer::{Api, Watched};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use network::Cidr;
use plan::servers::Served;
use serde_json::{Value, json};

/// The Services of the cluster itself: namespace and name.
const API: (&str, &str) = ("default", "kubernetes");
const DNS: (&str, &str) = ("kube-system", "kube-dns");
/// Who made these objects.
const MANAGER: &str = "steadfast";

/// The classes of the system's own pods: name, priority, and which pods they are.
const SYSTEM_PRIORITIES: [(&str, i32, &str); 2] = [
    ("system-cluster-critical", 2_000_000_000, "must run in the cluster, but can be moved to another node if necessary"),
    ("system-node-critical", 2_000_001_000, "must not be moved from their current node"),
];

/// A port of a Service: name, protocol, port, and where it leads to.
type Port = (&'static str, &'static str, u16, u16);

/// What is behind a Service: addresses, and the ports that are served at them.
type Backends = (Vec<Ipv4Addr>, Vec<Port>);

/// The address of the `kubernetes` Service: the first of the network.
pub fn api_service_address(services: Cidr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(services.address) + 1)
}

/// The address of the `kube-dns` Service: the tenth of the network.
fn dns_service_address(services: Cidr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(services.address) + 10)
}

/// Makes what is missing; what users changed stays. The API server is at this port, wherever that is; see [`publish_api`].
pub async fn run(client: &Client, services: Cidr, api_port: u16) -> Result<(), kube::Error> {
    create(&Api::<StorageClass>::all(client.clone()), storage_class()).await?;
    for (name, value, whom) in SYSTEM_PRIORITIES {
        let class =
            json!({"metadata": {"name": name}, "value": value, "description": format!("Used for system critical pods that {whom}.")});
        create(&Api::<PriorityClass>::all(client.clone()), class).await?;
    }
    create_service(client, API, api_service_address(services), &[api_backend_port(api_port)]).await
}

/// Publishes where pods reach the DNS server.
pub async fn publish_dns(client: &Client, services: Cidr, dns: Ipv4Addr) -> Result<(), kube::Error> {
    let ports = vec![("dns", "UDP", 53, 53), ("dns-tcp", "TCP", 53, 53)];
    create_service(client, DNS, dns_service_address(services), &ports).await?;
    publish(client, DNS, &[(vec![dns], ports)]).await
}

/// Publishes where the API is served.
pub async fn publish_api(client: &Client, served: &Served) -> Result<(), kube::Error> {
    let backends: Vec<_> =
        served.iter().map(|(port, addresses)| (addresses.iter().copied().collect(), vec![api_backend_port(*port)])).collect();
    publish(client, API, &backends).await
}

fn api_backend_port(port: u16) -> Port {
    ("https", "TCP", 443, port)
}

/// A Service without a selector.
async fn create_service(client: &Client, (namespace, name): (&str, &str), address: Ipv4Addr, ports: &[Port]) -> Result<(), kube::Error> {
    let labels = json!({"kubernetes.io/cluster-service": "true", "k8s-app": name});
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, protocol, port, target)| json!({"name": name, "protocol": protocol, "port": port, "targetPort": target}))
        .collect();
    let service = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address, "ports": ports},
    });
    create(&namespaced::<Service>(client, namespace), service).await.map(drop)
}

/// Brings up to date what is behind such a Service.
async fn publish(client: &Client, (namespace, name): (&str, &str), backends: &[Backends]) -> Result<(), kube::Error> {
    let ports_of = |ports: &[Port]| -> Vec<Value> {
        ports.iter().map(|(name, protocol, _, target)| json!({"name": name, "protocol": protocol, "port": target})).collect()
    };
    let addresses_of = |addresses: &[Ipv4Addr]| -> Vec<Value> { addresses.iter().map(|address| json!({"ip": address})).collect() };
    let subsets: Vec<Value> =
        backends.iter().map(|(addresses, ports)| json!({"addresses": addresses_of(addresses), "ports": ports_of(ports)})).collect();
    let endpoints = json!({
        "metadata": {"name": name, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets,
    });
    create_or_merge(&namespaced::<Endpoints>(client, namespace), endpoints).await?;
    let slices = namespaced::<EndpointSlice>(client, namespace);
    let mut names = Vec::new();
    // All addresses of one slice have the same ports.
    for (number, (addresses, ports)) in backends.iter().enumerate() {
        let slice_name = if number == 0 { name.to_owned() } else { format!("{name}-{number}") };
        let ready = json!({"ready": true, "serving": true, "terminating": false});
        let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address], "conditions": ready})).collect();
        let labels = json!({"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": MANAGER});
        let slice = json!({
            "metadata": {"name": slice_name, "labels": labels},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports_of(ports),
        });
        create_or_merge(&slices, slice).await?;
        names.push(slice_name);
    }
    let ours = format!("kubernetes.io/service-name={name},endpointslice.kubernetes.io/managed-by={MANAGER}");
    for slice in slices.list(&ListParams::default().labels(&ours)).await? {
        let slice_name = slice.name_any();
        if !names.contains(&slice_name) {
            delete(&slices, &slice_name).await?;
        }
    }
    Ok(())
}

/// Deletes what may be gone already.
pub async fn delete<K: Watched>(api: &Api<K>, name: &str) -> Result<(), kube::Error> {
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted,
    }
}

fn storage_class() -> Value {
    json!({
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "steadfast.dev/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

pub fn namespaced<K>(client: &Client, namespace: &str) -> Api<K>
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
        // Another server may have been first.
        Err(error) => {
            if api.get_opt(name).await?.is_some() {
                Ok(false)
            } else {
                Err(error)
            }
        }
    }
}

/// Creates an object, or brings one of the same name up to date.
pub async fn create_or_merge<K>(api: &Api<K>, object: Value) -> Result<(), kube::Error>
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
