//! Whether the node takes a pod that was bound to it. The scheduler looked at the same things, but others bind pods too.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use kinds::Quantity;

use super::unit::{Role, roles};

/// The pod's reason and message for having failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

impl Rejection {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }

    /// What this node can't do, by the name of the field.
    fn unsupported(field: &str) -> Option<Self> {
        Some(Self::new("UnsupportedFeature", format!("this node does not support {field}")))
    }
}

/// Checks a pod against its node and the pods that the node has admitted before.
pub fn admit<'a>(pod: &Pod, node: &Node, others: impl Iterator<Item = &'a Pod> + Clone) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else { return Err(Rejection::new("UnexpectedAdmissionError", "the pod has no specification")) };
    let refusal = unsupported(spec).or_else(|| wrong_node(spec, node)).or_else(|| taken_port(spec, others.clone()));
    match refusal.or_else(|| lacking(spec, node, others)) {
        Some(rejection) => Err(rejection),
        None => Ok(()),
    }
}

fn unsupported(spec: &PodSpec) -> Option<Rejection> {
    let fields = [
        ("spec.hostPID", spec.host_pid == Some(true)),
        ("spec.hostIPC", spec.host_ipc == Some(true)),
        ("spec.hostUsers: false", spec.host_users == Some(false)),
        ("spec.runtimeClassName", spec.runtime_class_name.is_some()),
        ("spec.resourceClaims", spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty())),
        ("spec.os.name: windows", spec.os.as_ref().is_some_and(|os| os.name == "windows")),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, used)| *used) {
        return Rejection::unsupported(field);
    }
    let of_container = roles(spec).find_map(|(_, container)| unsupported_in_container(container));
    of_container.or_else(|| spec.volumes.iter().flatten().find_map(unsupported_volume))
}

fn unsupported_in_container(container: &Container) -> Option<Rejection> {
    let name = &container.name;
    let probes = [&container.startup_probe, &container.liveness_probe, &container.readiness_probe];
    if probes.into_iter().flatten().any(|probe| probe.grpc.is_some()) {
        return Rejection::unsupported(&format!("gRPC probes (container {name})"));
    }
    if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Rejection::unsupported(&format!("volumeDevices (container {name})"));
    }
    let seccomp = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    if seccomp.is_some_and(|profile| profile.type_ == "Localhost") {
        return Rejection::unsupported(&format!("seccompProfile of type Localhost (container {name})"));
    }
    None
}

fn unsupported_volume(volume: &Volume) -> Option<Rejection> {
    volume.ephemeral.as_ref()?;
    Rejection::unsupported(&format!("ephemeral volumes (volume {})", volume.name))
}

fn wrong_node(spec: &PodSpec, node: &Node) -> Option<Rejection> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let differs = |(key, value): (&String, &String)| labels.get(key) != Some(value);
    let wrong = spec.node_selector.iter().flatten().any(differs);
    wrong.then(|| {
        Rejection::new("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
    })
}

/// Host ports as (address, protocol, port).
fn host_ports(spec: &PodSpec) -> impl Iterator<Item = (&str, &str, i32)> {
    let host_network = spec.host_network == Some(true);
    let ports = roles(spec).filter(|(role, _)| *role != Role::Init).flat_map(|(_, container)| container.ports.iter().flatten());
    ports.filter_map(move |port| {
        let number = port.host_port.or(host_network.then_some(port.container_port)).filter(|number| *number != 0)?;
        Some((port.host_ip.as_deref().unwrap_or("0.0.0.0"), port.protocol.as_deref().unwrap_or("TCP"), number))
    })
}

fn taken_port<'a>(spec: &PodSpec, others: impl Iterator<Item = &'a Pod>) -> Option<Rejection> {
    let wanted: BTreeSet<_> = host_ports(spec).collect();
    if wanted.is_empty() {
        return None;
    }
    let taken: Vec<_> = others.filter_map(|pod| pod.spec.as_ref()).flat_map(host_ports).collect();
    let clash = |(address, protocol, port): &(&str, &str, i32)| {
        let overlaps = |other: &str| other == *address || other == "0.0.0.0" || *address == "0.0.0.0";
        taken.iter().any(|(other, other_protocol, other_port)| other_port == port && other_protocol == protocol && overlaps(other))
    };
    let message = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    wanted.iter().any(clash).then(|| Rejection::new("NodePorts", message))
}

fn lacking<'a>(spec: &PodSpec, node: &Node, others: impl Iterator<Item = &'a Pod> + Clone) -> Option<Rejection> {
    let status = node.status.clone().unwrap_or_default();
    let allocatable = status.allocatable.unwrap_or_default();
    let others = others.filter_map(|pod| pod.spec.as_ref());
    let lack = |name: &str, wanted: i64, used: i64, whole: i64| {
        let message = format!("Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {whole}");
        (wanted > 0 && used.saturating_add(wanted) > whole).then(|| Rejection::new(&format!("OutOf{name}"), message))
    };
    if let Some(pods) = read(&allocatable, "pods") {
        let used = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
        if let Some(rejection) = lack("pods", 1, used, pods.value()) {
            return Some(rejection);
        }
    }
    ["cpu", "memory"].into_iter().find_map(|name| {
        let unit = |quantity: Quantity| if name == "cpu" { quantity.milli_value() } else { quantity.value() };
        let used = others.clone().fold(Quantity::default(), |sum, other| sum + request(other, name));
        lack(name, unit(request(spec, name)), unit(used), unit(read(&allocatable, name)?))
    })
}

/// What a pod asks for: the sum of its containers and sidecars, or the largest init container if that is more.
pub fn request(spec: &PodSpec, name: &str) -> Quantity {
    let of = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| read(requests, name)).unwrap_or_default()
    };
    let mut together = Quantity::default();
    let mut peak = Quantity::default();
    for (role, container) in roles(spec) {
        match role {
            Role::Init => peak = peak.max(together + of(container)),
            Role::Sidecar | Role::Main | Role::Ephemeral => together = together + of(container),
        }
    }
    let overhead = spec.overhead.as_ref().and_then(|overhead| read(overhead, name)).unwrap_or_default();
    together.max(peak) + overhead
}

fn read(amounts: &BTreeMap<String, Amount>, name: &str) -> Option<Quantity> {
    amounts.get(name)?.0.parse().ok()
}
