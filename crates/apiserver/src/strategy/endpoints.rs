//! Endpoints, the older form of what EndpointSlices say.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use super::{Strategy, check, names};
use crate::field::{FieldError, Path};

/// The rules of Endpoints.
pub(super) struct EndpointsStrategy;

impl Strategy for EndpointsStrategy {
    type Kind = Endpoints;

    fn default(&self, endpoints: &mut Endpoints) {
        let ports = endpoints.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten());
        ports.for_each(|port| check::fill(&mut port.protocol, "TCP"));
    }

    fn validate(&self, endpoints: &Endpoints) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
            let path = Path::new("subsets").index(index);
            let (ready, waiting) =
                (subset.addresses.as_deref().unwrap_or_default(), subset.not_ready_addresses.as_deref().unwrap_or_default());
            if ready.is_empty() && waiting.is_empty() {
                errors.push(FieldError::required(path.clone(), "must specify `addresses` or `notReadyAddresses`"));
            }
            errors.extend(addresses(ready, &path.child("addresses")));
            errors.extend(addresses(waiting, &path.child("notReadyAddresses")));
            errors.extend(ports(subset.ports.as_deref().unwrap_or_default(), &path.child("ports")));
        }
        errors
    }
}

fn addresses(addresses: &[EndpointAddress], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let path = path.index(index);
        errors.extend(check::ip(path.child("ip"), &address.ip));
        errors.extend(check::maybe_named(path.child("hostname"), address.hostname.as_ref(), names::dns_label));
        errors.extend(check::maybe_named(path.child("nodeName"), address.node_name.as_ref(), names::dns_subdomain));
    }
    errors
}

fn ports(ports: &[EndpointPort], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        match check::some(port.name.as_ref()) {
            None if ports.len() > 1 => errors.push(FieldError::required(path.child("name"), "")),
            name => errors.extend(name.and_then(|name| check::named(path.child("name"), name, names::dns_label))),
        }
        errors.extend(names::port_number(port.port).map(|wrong| FieldError::invalid(path.child("port"), port.port, wrong)));
        errors.extend(check::required_one_of(path.child("protocol"), port.protocol.as_ref(), &["SCTP", "TCP", "UDP"]));
    }
    errors
}
