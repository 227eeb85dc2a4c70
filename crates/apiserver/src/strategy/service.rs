//! Services. Which address a service gets is decided at admission; here is what a service may ask for.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::check::{self, fill};
use super::{Strategy, names};
use crate::field::{FieldError, Path};

/// The address of a headless service.
pub(crate) const NONE: &str = "None";
const EXTERNAL_NAME: &str = "ExternalName";
/// Three hours: how long a client stays with its endpoint when nobody says.
const AFFINITY_SECONDS: i32 = 10_800;
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// The rules of Services.
pub(super) struct Services;

impl Strategy for Services {
    type Kind = Service;

    fn default(&self, service: &mut Service) {
        if let Some(spec) = &mut service.spec {
            default_spec(spec);
        }
    }

    fn prepare_create(&self, service: &mut Service) {
        service.status = Some(no_status());
    }

    fn prepare_update(&self, service: &mut Service, old: &Service) {
        service.status.clone_from(&old.status);
        if let (Some(spec), Some(old)) = (&mut service.spec, &old.spec) {
            keep_address(spec, old);
        }
    }

    fn prepare_status_update(&self, service: &mut Service, old: &Service) {
        service.spec.clone_from(&old.spec);
    }

    fn validate(&self, service: &Service) -> Vec<FieldError> {
        validate_spec(&service.spec.clone().unwrap_or_default())
    }

    fn validate_update(&self, service: &Service, old: &Service) -> Vec<FieldError> {
        let (spec, old) = (service.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let mut errors = validate_spec(&spec);
        if has_address(&spec) && has_address(&old) && !old.cluster_ip.as_deref().unwrap_or_default().is_empty() {
            let path = Path::new("spec").child("clusterIPs").index(0);
            if spec.cluster_ip != old.cluster_ip {
                errors.push(FieldError::invalid(path, check::shown(&spec.cluster_ips), "may not change once set"));
            }
        }
        errors
    }

    fn validate_name(&self, name: &str) -> Option<String> {
        names::dns_label(name)
    }
}

/// Whether a service of this type has an address in the cluster, or is headless.
pub(crate) fn has_address(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some(EXTERNAL_NAME)
}

fn no_status() -> ServiceStatus {
    ServiceStatus { load_balancer: Some(LoadBalancerStatus::default()), ..ServiceStatus::default() }
}

fn default_spec(spec: &mut ServiceSpec) {
    fill(&mut spec.type_, "ClusterIP");
    default_affinity(spec);
    for port in spec.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    let external = spec.external_ips.as_ref().is_some_and(|addresses| !addresses.is_empty());
    if matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")) || (external && has_address(spec)) {
        fill(&mut spec.external_traffic_policy, "Cluster");
    }
    if has_address(spec) {
        fill(&mut spec.internal_traffic_policy, "Cluster");
        fill(&mut spec.ip_family_policy, "SingleStack");
        if spec.ip_families.as_ref().is_none_or(Vec::is_empty) {
            spec.ip_families = Some(vec!["IPv4".to_owned()]);
        }
    }
    if let Some(address) = check::some(spec.cluster_ip.as_ref())
        && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty)
    {
        spec.cluster_ips = Some(vec![address.to_owned()]);
    }
}

fn default_affinity(spec: &mut ServiceSpec) {
    fill(&mut spec.session_affinity, "None");
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let config: &mut SessionAffinityConfig = spec.session_affinity_config.get_or_insert_default();
            let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
        }
        _ => {}
    }
}

/// A client that replaces a service need not repeat the address it was given.
fn keep_address(spec: &mut ServiceSpec, old: &ServiceSpec) {
    if !has_address(spec) {
        if has_address(old) && spec.cluster_ip == old.cluster_ip {
            spec.cluster_ip = None;
            spec.cluster_ips = None;
        }
        return;
    }
    if !has_address(old) {
        return;
    }
    if check::some(spec.cluster_ip.as_ref()).is_none() && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty) {
        spec.cluster_ip.clone_from(&old.cluster_ip);
        spec.cluster_ips.clone_from(&old.cluster_ips);
    }
}

fn validate_spec(spec: &ServiceSpec) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = ports(spec, &path.child("ports"));
    let types = ["ClusterIP", EXTERNAL_NAME, "LoadBalancer", "NodePort"];
    errors.extend(check::required_one_of(path.child("type"), spec.type_.as_ref(), &types));
    errors.extend(check::labels(&path.child("selector"), spec.selector.as_ref()));
    errors.extend(affinity(spec, &path));
    errors.extend(addresses(spec, &path));
    errors.extend(check::one_of(path.child("internalTrafficPolicy"), spec.internal_traffic_policy.as_ref(), &["Cluster", "Local"]));
    let distribution = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    errors.extend(check::one_of(path.child("trafficDistribution"), spec.traffic_distribution.as_ref(), &distribution));
    errors.extend(
        spec.external_ips.iter().flatten().enumerate().filter_map(|(index, ip)| check::ip(path.child("externalIPs").index(index), ip)),
    );
    if !has_address(spec) {
        let name = spec.external_name.as_deref().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        errors.extend(check::named(path.child("externalName"), name, names::dns_subdomain));
    }
    errors
}

fn ports(spec: &ServiceSpec, path: &Path) -> Vec<FieldError> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some(NONE);
    let mut errors = Vec::new();
    if ports.is_empty() && !headless && has_address(spec) {
        errors.push(FieldError::required(path.clone(), ""));
    }
    for (index, port) in ports.iter().enumerate() {
        errors.extend(one_port(port, &path.index(index), ports.len() > 1, spec.type_.as_deref()));
    }
    let named = ports.iter().enumerate();
    let named = named.filter_map(|(index, port)| Some((path.index(index).child("name"), check::some(port.name.as_ref())?)));
    errors.extend(check::unique(named));
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate().filter(|(_, port)| !seen.insert((port.port, &port.protocol))) {
        errors.push(FieldError::duplicate(path.index(index), check::shown(port)));
    }
    errors
}

fn one_port(port: &ServicePort, path: &Path, named: bool, kind: Option<&str>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(match check::some(port.name.as_ref()) {
        None if named => Some(FieldError::required(path.child("name"), "")),
        None => None,
        Some(name) => check::named(path.child("name"), name, names::dns_label),
    });
    errors.extend(names::port_number(port.port).map(|wrong| FieldError::invalid(path.child("port"), port.port, wrong)));
    errors.extend(check::required_one_of(path.child("protocol"), port.protocol.as_ref(), &["SCTP", "TCP", "UDP"]));
    if let Some(target) = &port.target_port {
        errors.extend(check::port(path.child("targetPort"), target));
    }
    if port.node_port.unwrap_or(0) != 0 && !matches!(kind, Some("NodePort" | "LoadBalancer")) {
        let detail = format!("may not be used when `type` is '{}'", kind.unwrap_or_default());
        errors.push(FieldError::forbidden(path.child("nodePort"), detail));
    }
    errors
}

fn affinity(spec: &ServiceSpec, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<_> =
        check::required_one_of(path.child("sessionAffinity"), spec.session_affinity.as_ref(), &["ClientIP", "None"]).into_iter().collect();
    let seconds =
        spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()).and_then(|client| client.timeout_seconds);
    if let Some(seconds) = seconds.filter(|seconds| !(1..=MAX_AFFINITY_SECONDS).contains(seconds)) {
        let path = path.child("sessionAffinityConfig").child("clientIP").child("timeoutSeconds");
        errors.push(FieldError::invalid(path, seconds, format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}")));
    }
    errors
}

fn addresses(spec: &ServiceSpec, path: &Path) -> Vec<FieldError> {
    let first = spec.cluster_ip.as_deref().unwrap_or_default();
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    let place = path.child("clusterIPs");
    if !has_address(spec) {
        return match all {
            [] => Vec::new(),
            _ => vec![FieldError::forbidden(place, "may not be used when `type` is 'ExternalName'")],
        };
    }
    let mut errors = Vec::new();
    if first.is_empty() && !all.is_empty() {
        errors.push(FieldError::required(path.child("clusterIP"), "must be set when `clusterIPs` is specified"));
    } else if all.first().is_some_and(|one| one != first) {
        errors.push(FieldError::invalid(path.child("clusterIP"), first, "must match `clusterIPs[0]`"));
    }
    for (index, address) in all.iter().enumerate().filter(|(_, address)| *address != NONE) {
        errors.extend(check::ip(place.index(index), address));
    }
    if all.len() > 1 || spec.ip_family_policy.as_deref() == Some("RequireDualStack") {
        errors.push(FieldError::invalid(
            path.child("ipFamilyPolicy"),
            check::shown(&spec.ip_family_policy),
            "this cluster is not configured for dual-stack services",
        ));
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    errors.extend(check::one_of(path.child("ipFamilyPolicy"), spec.ip_family_policy.as_ref(), &policies));
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        let path = path.child("ipFamilies").index(index);
        errors.extend(match family.as_str() {
            "IPv4" => None,
            "IPv6" => Some(FieldError::invalid(path, family.as_str(), "not configured on this cluster")),
            other => Some(FieldError::not_supported(path, other, &["IPv4", "IPv6"])),
        });
    }
    errors
}
