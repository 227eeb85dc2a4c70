//! EndpointSlices.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::{Strategy, check, names};
use crate::field::{FieldError, Path, Reason};

/// Endpoints in one slice.
const MAX_ENDPOINTS: usize = 1000;
/// Addresses of one endpoint.
const MAX_ADDRESSES: usize = 100;
/// Ports in one slice.
const MAX_PORTS: usize = 20_000;

/// The rules of EndpointSlices.
pub(super) struct EndpointSlices;

impl Strategy for EndpointSlices {
    type Kind = EndpointSlice;

    fn default(&self, slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            check::fill(&mut port.protocol, "TCP");
        }
    }

    fn prepare_create(&self, slice: &mut EndpointSlice) {
        slice.metadata.generation = Some(1);
    }

    fn spec_changed(&self, slice: &EndpointSlice, old: &EndpointSlice) -> bool {
        slice.metadata.labels != old.metadata.labels
            || !check::same(&slice.endpoints, &old.endpoints)
            || !check::same(&slice.ports, &old.ports)
    }

    fn validate(&self, slice: &EndpointSlice) -> Vec<FieldError> {
        let kind = Some(&slice.address_type);
        let mut errors: Vec<_> = check::required_one_of(Path::new("addressType"), kind, &["FQDN", "IPv4", "IPv6"]).into_iter().collect();
        errors.extend(endpoints(slice.endpoints.as_deref().unwrap_or_default(), &slice.address_type));
        errors.extend(ports(slice.ports.as_deref().unwrap_or_default()));
        errors
    }

    fn validate_update(&self, slice: &EndpointSlice, old: &EndpointSlice) -> Vec<FieldError> {
        let mut errors = self.validate(slice);
        errors.extend(check::immutable(Path::new("addressType"), &slice.address_type, &old.address_type));
        errors
    }
}

fn too_many(path: Path, found: usize, limit: usize) -> Option<FieldError> {
    let detail = format!("must have at most {limit} items");
    (found > limit).then_some(FieldError { path, reason: Reason::TooMany, value: None, detail })
}

fn endpoints(endpoints: &[Endpoint], kind: &str) -> Vec<FieldError> {
    let path = Path::new("endpoints");
    let mut errors: Vec<_> = too_many(path.clone(), endpoints.len(), MAX_ENDPOINTS).into_iter().collect();
    for (index, endpoint) in endpoints.iter().enumerate().take(MAX_ENDPOINTS) {
        let path = path.index(index);
        let place = path.child("addresses");
        if endpoint.addresses.is_empty() {
            errors.push(FieldError::required(place.clone(), "must contain at least 1 address"));
        }
        errors.extend(too_many(place.clone(), endpoint.addresses.len(), MAX_ADDRESSES));
        for (index, text) in endpoint.addresses.iter().enumerate().take(MAX_ADDRESSES) {
            errors.extend(address(place.index(index), text, kind));
        }
        errors.extend(check::maybe_named(path.child("hostname"), endpoint.hostname.as_ref(), names::dns_label));
        errors.extend(check::maybe_named(path.child("nodeName"), endpoint.node_name.as_ref(), names::dns_subdomain));
    }
    errors
}

fn address(path: Path, text: &str, kind: &str) -> Option<FieldError> {
    match kind {
        "IPv4" => text.parse::<std::net::Ipv4Addr>().is_err().then(|| FieldError::invalid(path, text, "must be an IPv4 address")),
        "IPv6" => text.parse::<std::net::Ipv6Addr>().is_err().then(|| FieldError::invalid(path, text, "must be an IPv6 address")),
        _ => names::dns_subdomain(text).map(|wrong| FieldError::invalid(path, text, wrong)),
    }
}

fn ports(ports: &[EndpointPort]) -> Vec<FieldError> {
    let path = Path::new("ports");
    let mut errors: Vec<_> = too_many(path.clone(), ports.len(), MAX_PORTS).into_iter().collect();
    for (index, port) in ports.iter().enumerate().take(MAX_PORTS) {
        let path = path.index(index);
        errors.extend(check::maybe_named(path.child("name"), port.name.as_ref(), names::dns_label));
        errors.extend(check::required_one_of(path.child("protocol"), port.protocol.as_ref(), &["SCTP", "TCP", "UDP"]));
    }
    let named = ports.iter().enumerate().map(|(index, port)| (path.index(index).child("name"), port.name.as_deref().unwrap_or_default()));
    errors.extend(check::unique(named));
    errors
}
