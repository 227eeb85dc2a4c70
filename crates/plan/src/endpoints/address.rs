//! A pod as an endpoint.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};

use super::publishes_unready;

/// A slice holds addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    V4,
    V6,
}

impl AddressFamily {
    /// The `addressType` of a slice.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The families a Service publishes; without a word on it, IPv4.
    pub fn of_service(service: &Service) -> Vec<Self> {
        let named = service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten());
        let families: Vec<_> = named.map(|name| if name == "IPv6" { Self::V6 } else { Self::V4 }).collect();
        if families.is_empty() { vec![Self::V4] } else { families }
    }

    fn holds(self, address: &str) -> bool {
        match address.parse() {
            Ok(IpAddr::V4(_)) => self == Self::V4,
            Ok(IpAddr::V6(_)) => self == Self::V6,
            Err(_) => false,
        }
    }
}

/// What a pod is as an endpoint of one Service.
#[derive(Clone, Debug, PartialEq)]
pub struct PodEndpoint {
    pub address: String,
    /// Ready to be called: never while terminating, always where the Service publishes what isn't ready.
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub hostname: Option<String>,
    pub node: Option<String>,
    pub target: ObjectReference,
}

/// The pod as an endpoint of the Service; none once it has ended or while it has no address of the family.
pub fn pod_endpoint(service: &Service, pod: &Pod, family: AddressFamily) -> Option<PodEndpoint> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let address = address_of(pod, family)?;
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    Some(PodEndpoint {
        address,
        ready: publishes_unready(service) || (serving && !terminating),
        serving,
        terminating,
        hostname: hostname(service, pod),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target: target(pod),
    })
}

fn address_of(pod: &Pod, family: AddressFamily) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|entry| &entry.ip).chain(status.pod_ip.as_ref());
    all.into_iter().find(|address| family.holds(address)).cloned()
}

/// Whether the pod's agent says that it serves.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A pod has a name of its own under the Service that its subdomain names.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let governed = spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|hostname| governed && !hostname.is_empty())
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
