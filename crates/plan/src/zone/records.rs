//! The records that follow from one Service and its slices.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::{Data, REVERSE, Record};
use crate::service::{Protocol, cluster_addresses};

/// All records of a Service in the given domain.
pub(super) fn of_service<'a>(service: &Service, slices: impl Iterator<Item = &'a Arc<EndpointSlice>>, domain: &str) -> BTreeSet<Record> {
    let (Some(spec), Some(name), Some(namespace)) = (&service.spec, &service.metadata.name, &service.metadata.namespace) else {
        return BTreeSet::new();
    };
    let mut records = Records { name: format!("{name}.{namespace}.svc.{domain}").to_ascii_lowercase().into(), set: BTreeSet::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        records.external(spec);
    } else if spec.cluster_ip.as_deref() == Some("None") {
        for slice in slices.filter(|slice| slice.address_type == "IPv4") {
            records.endpoints(spec, slice);
        }
    } else {
        records.cluster(spec);
    }
    records.set
}

/// The address a name such as `10-77-0-5` stands for.
pub(super) fn address_of_dashed(label: &str) -> Option<Ipv4Addr> {
    label.replace('-', ".").parse().ok().filter(|_| !label.contains('.'))
}

/// The name under which the name of an address is asked for.
pub(super) fn reverse_name(address: Ipv4Addr) -> Arc<str> {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.{REVERSE}").into()
}

struct Records {
    /// The Service's full name.
    name: Arc<str>,
    set: BTreeSet<Record>,
}

impl Records {
    fn add(&mut self, name: impl Into<Arc<str>>, data: Data) {
        self.set.insert(Record { name: name.into(), data });
    }

    fn external(&mut self, spec: &ServiceSpec) {
        let target = spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        if !target.is_empty() {
            self.add(self.name.clone(), Data::Alias(target.into()));
        }
    }

    fn cluster(&mut self, spec: &ServiceSpec) {
        let addresses = cluster_addresses(spec);
        for address in &addresses {
            self.add(self.name.clone(), Data::Address(*address));
            self.add(reverse_name(*address), Data::Pointer(self.name.clone()));
        }
        for port in spec.ports.iter().flatten().filter(|_| !addresses.is_empty()) {
            self.port(port.name.as_deref(), port.protocol.as_deref(), Some(port.port), &self.name.clone());
        }
    }

    fn endpoints(&mut self, spec: &ServiceSpec, slice: &EndpointSlice) {
        let publish = spec.publish_not_ready_addresses == Some(true);
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| publish || is_ready(endpoint)) {
            for address in endpoint.addresses.iter().filter_map(|address| address.parse().ok()) {
                let host = self.host(endpoint, address);
                self.add(self.name.clone(), Data::Address(address));
                self.add(host.clone(), Data::Address(address));
                self.add(reverse_name(address), Data::Pointer(host.clone()));
                for port in slice.ports.iter().flatten() {
                    self.port(port.name.as_deref(), port.protocol.as_deref(), port.port, &host);
                }
            }
        }
    }

    /// The full name of an endpoint: its host name, or its address with dashes.
    fn host(&self, endpoint: &Endpoint, address: Ipv4Addr) -> Arc<str> {
        let label = match endpoint.hostname.as_deref() {
            Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
            _ => address.to_string().replace('.', "-"),
        };
        format!("{label}.{}", self.name).into()
    }

    /// A port without a name has no record.
    fn port(&mut self, name: Option<&str>, protocol: Option<&str>, port: Option<i32>, target: &Arc<str>) {
        let number = port.and_then(|port| u16::try_from(port).ok());
        if let (Some(name), Some(protocol), Some(port)) = (name.filter(|name| !name.is_empty()), Protocol::of(protocol), number) {
            let owner = format!("_{}._{}.{}", name.to_ascii_lowercase(), protocol.name(), self.name);
            self.add(owner, Data::Service { port, target: target.clone() });
        }
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true))
}
