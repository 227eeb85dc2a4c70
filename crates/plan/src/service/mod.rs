//! What the kernel must know to make Services work: which address and port leads to which endpoints, and what has to
//! change to get there from what it knows now.

mod cidr;
mod diff;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use kinds::ObjectKey;

pub use cidr::{Cidr, ParseCidrError};
pub use diff::{Change, diff};

/// The label of Services another proxy takes care of.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The label of Services that are to be treated as headless.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// How long a client stays with its endpoint when the Service does not say, in seconds.
const DEFAULT_AFFINITY: u32 = 10_800;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// As DNS and humans write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Reads a port's `protocol`, which is TCP when it is not given.
    pub fn of(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub address: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The Service this belongs to.
    pub service: ObjectKey,
    /// Never empty: a frontend without endpoints has no rule, and is refused.
    pub endpoints: BTreeSet<SocketAddrV4>,
    /// For how many seconds a client that came once comes back to the same endpoint.
    pub affinity: Option<u32>,
}

/// All rules of one node. Changed Service by Service with [`Ruleset::set`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    frontends: BTreeMap<Frontend, Backend>,
    services: BTreeMap<ObjectKey, BTreeSet<Frontend>>,
}

impl Ruleset {
    /// Replaces the rules of one Service; without rules, it is forgotten.
    pub fn set(&mut self, service: &ObjectKey, rules: BTreeMap<Frontend, Backend>) {
        for frontend in self.services.remove(service).unwrap_or_default() {
            // Another Service may have taken the address over in the meantime.
            if self.frontends.get(&frontend).is_some_and(|backend| backend.service == *service) {
                self.frontends.remove(&frontend);
            }
        }
        if !rules.is_empty() {
            self.services.insert(service.clone(), rules.keys().copied().collect());
            self.frontends.extend(rules);
        }
    }

    /// Every frontend and where it leads.
    pub fn frontends(&self) -> &BTreeMap<Frontend, Backend> {
        &self.frontends
    }

    /// The addresses of all endpoints.
    pub fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.frontends.values().flat_map(|backend| &backend.endpoints).map(|endpoint| *endpoint.ip()).collect()
    }
}

/// The rules of one Service as `node` needs them: for each of its addresses and ports that has endpoints, those.
pub fn rules_of<S: Borrow<EndpointSlice>>(service: &Service, slices: &[S], node: &str) -> BTreeMap<Frontend, Backend> {
    let Some(spec) = service.spec.as_ref().filter(|spec| is_proxied(service, spec)) else { return BTreeMap::new() };
    let meta = &service.metadata;
    let key = ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let mut rules = BTreeMap::new();
    for port in spec.ports.iter().flatten() {
        let (Some(protocol), Ok(number)) = (Protocol::of(port.protocol.as_deref()), u16::try_from(port.port)) else { continue };
        let endpoints = endpoints_of(spec, slices, port, protocol, node);
        if endpoints.is_empty() {
            continue;
        }
        for address in cluster_addresses(spec) {
            let backend = Backend { service: key.clone(), endpoints: endpoints.clone(), affinity: affinity_of(spec) };
            rules.insert(Frontend { address, protocol, port: number }, backend);
        }
    }
    rules
}

/// The IPv4 addresses of the Service itself; none for a headless one.
pub(crate) fn cluster_addresses(spec: &ServiceSpec) -> BTreeSet<Ipv4Addr> {
    spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|address| address.parse().ok()).collect()
}

fn is_proxied(service: &Service, spec: &ServiceSpec) -> bool {
    let labelled = |label| service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label));
    spec.type_.as_deref() != Some("ExternalName") && !labelled(PROXY_NAME) && !labelled(HEADLESS)
}

fn affinity_of(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let seconds = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Some(seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(DEFAULT_AFFINITY))
}

/// The ready endpoints of a port; when there is none, those that still serve while they terminate.
fn endpoints_of<S: Borrow<EndpointSlice>>(
    spec: &ServiceSpec,
    slices: &[S],
    port: &ServicePort,
    protocol: Protocol,
    node: &str,
) -> BTreeSet<SocketAddrV4> {
    let local_only = spec.internal_traffic_policy.as_deref() == Some("Local");
    let eligible = |endpoint: &&Endpoint| !local_only || endpoint.node_name.as_deref() == Some(node);
    let (mut ready, mut draining) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices.iter().map(Borrow::borrow).filter(|slice| slice.address_type == "IPv4") {
        let Some(number) = port_in(slice, port, protocol) else { continue };
        for endpoint in slice.endpoints.iter().flatten().filter(eligible) {
            let Some(address) = usable_address(endpoint) else { continue };
            let socket = SocketAddrV4::new(address, number);
            match state_of(endpoint) {
                EndpointState::Ready => ready.insert(socket),
                EndpointState::Draining => draining.insert(socket),
                EndpointState::Unready => false,
            };
        }
    }
    if ready.is_empty() { draining } else { ready }
}

enum EndpointState {
    Ready,
    /// It terminates, and still answers.
    Draining,
    Unready,
}

fn state_of(endpoint: &Endpoint) -> EndpointState {
    let Some(conditions) = &endpoint.conditions else { return EndpointState::Ready };
    let ready = conditions.ready.unwrap_or(true);
    if ready {
        EndpointState::Ready
    } else if conditions.serving.unwrap_or(ready) && conditions.terminating.unwrap_or(false) {
        EndpointState::Draining
    } else {
        EndpointState::Unready
    }
}

fn port_in(slice: &EndpointSlice, port: &ServicePort, protocol: Protocol) -> Option<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let same = |candidate: &&EndpointPort| {
        candidate.name.as_deref().unwrap_or_default() == name && Protocol::of(candidate.protocol.as_deref()) == Some(protocol)
    };
    u16::try_from(slice.ports.iter().flatten().find(same)?.port?).ok().filter(|number| *number != 0)
}

/// The endpoint's address, unless it would lead into the node itself or to nobody in particular.
fn usable_address(endpoint: &Endpoint) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = endpoint.addresses.first()?.parse().ok()?;
    let refused =
        address.is_loopback() || address.is_link_local() || address.is_multicast() || address.is_unspecified() || address.is_broadcast();
    (!refused).then_some(address)
}
