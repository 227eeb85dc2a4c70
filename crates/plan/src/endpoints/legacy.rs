//! The classic Endpoints object.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::address::{AddressFamily, PodEndpoint, pod_endpoint};
use super::ports::ports_of;
use super::{HEADLESS, is_headless, publishes_unready};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// As many addresses as the one object may hold.
const CAPACITY: usize = 1000;

/// The Endpoints object as it should be, if it is not.
pub fn plan_endpoints(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Option<Endpoints> {
    let (subsets, truncated) = subsets(service, pods);
    let mut wanted = Endpoints { metadata: metadata(service, current), subsets: Some(subsets) };
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.remove(OVER_CAPACITY);
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    wanted.metadata.annotations.take_if(|annotations| annotations.is_empty());
    let same = current.is_some_and(|current| {
        current.metadata == wanted.metadata
            && current.subsets.as_deref().unwrap_or_default() == wanted.subsets.as_deref().unwrap_or_default()
    });
    (!same).then_some(wanted)
}

fn metadata(service: &Service, current: Option<&Endpoints>) -> ObjectMeta {
    let meta = &service.metadata;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let known = current.map(|current| current.metadata.clone()).unwrap_or_default();
    ObjectMeta { name: meta.name.clone(), namespace: meta.namespace.clone(), labels: Some(labels), ..known }
}

/// Addresses by the ports they offer, and whether some had to be left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let family = AddressFamily::of_service(service)[0];
    let shown = |endpoint: &PodEndpoint| !endpoint.terminating || publishes_unready(service);
    let mut found: Vec<_> = pods.iter().filter_map(|pod| Some((pod, pod_endpoint(service, pod, family).filter(shown)?))).collect();
    found.sort_by(|(_, a), (_, b)| (!a.ready, &a.address).cmp(&(!b.ready, &b.address)));
    let truncated = found.len() > CAPACITY;
    let mut subsets: Vec<EndpointSubset> = Vec::new();
    for (pod, endpoint) in found.into_iter().take(CAPACITY) {
        let ports = ports(service, pod);
        let subset = match subsets.iter().position(|subset| subset.ports == ports) {
            Some(place) => &mut subsets[place],
            None => subsets.push_mut(EndpointSubset { ports, ..EndpointSubset::default() }),
        };
        let list = if endpoint.ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address(endpoint));
    }
    (subsets, truncated)
}

fn ports(service: &Service, pod: &Pod) -> Option<Vec<EndpointPort>> {
    let unnamed = |name: Option<String>| name.filter(|name| !name.is_empty());
    let port = |port: k8s_openapi::api::discovery::v1::EndpointPort| EndpointPort {
        name: unnamed(port.name),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol,
        app_protocol: port.app_protocol,
    };
    let ports: Vec<_> = ports_of(service, pod).into_iter().map(port).collect();
    Some(ports).filter(|ports| !ports.is_empty())
}

fn address(endpoint: PodEndpoint) -> EndpointAddress {
    EndpointAddress { ip: endpoint.address, hostname: endpoint.hostname, node_name: endpoint.node, target_ref: Some(endpoint.target) }
}
