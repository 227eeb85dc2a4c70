//! How much one object uses.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kinds::{Object, Quantity, Resource};

/// Kinds whose number is also counted under their own name.
const PLAIN_COUNTS: [&str; 6] = ["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];
/// Resources of which quotas know requests and limits.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// So much, and whether it is best shown with a binary suffix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub quantity: Quantity,
    pub binary: bool,
}

impl Amount {
    fn of(text: &Text) -> Self {
        Self { quantity: text.0.parse().unwrap_or_default(), binary: text.0.ends_with('i') }
    }

    fn count(count: usize) -> Self {
        Self { quantity: Quantity::whole(i64::try_from(count).unwrap_or(i64::MAX)), binary: false }
    }

    /// As a status shows it.
    pub fn text(self) -> String {
        self.quantity.text(self.binary)
    }

    fn with(self, other: Self, operation: fn(Quantity, Quantity) -> Quantity) -> Self {
        Self { quantity: operation(self.quantity, other.quantity), binary: self.binary || other.binary }
    }
}

/// Amounts by the names they have in quotas.
pub type Usage = BTreeMap<String, Amount>;

/// Adds amounts.
pub(super) fn add(sum: &mut Usage, more: &Usage) {
    merge(sum, more, std::ops::Add::add);
}

fn merge(into: &mut Usage, other: &Usage, operation: fn(Quantity, Quantity) -> Quantity) {
    for (name, amount) in other {
        let mine = into.entry(name.clone()).or_default();
        *mine = mine.with(*amount, operation);
    }
}

/// How much more `new` is than `old`.
pub(super) fn beyond(new: &Usage, old: &Usage) -> Usage {
    let less = |name: &String| old.get(name).copied().unwrap_or_default();
    new.iter().map(|(name, amount)| (name.clone(), amount.with(less(name), Quantity::saturating_sub))).collect()
}

/// What so many objects of a kind use by their number alone.
pub(super) fn count(resource: &Resource, count: usize) -> Usage {
    let mut usage = Usage::from([(format!("count/{}", resource.qualified()), Amount::count(count))]);
    if resource.group.is_empty() && PLAIN_COUNTS.contains(&resource.plural) {
        usage.insert(resource.plural.to_owned(), Amount::count(count));
    }
    usage
}

/// What one object uses.
pub fn usage(resource: &Resource, object: &dyn Object, now: Timestamp) -> Usage {
    let mut usage = count(resource, 1);
    if let Some(pod) = object.downcast_ref::<Pod>() {
        if is_charged(pod, now) {
            usage.extend(of_pod(pod));
        }
    } else if let Some(claim) = object.downcast_ref::<PersistentVolumeClaim>() {
        usage.extend(of_claim(claim));
    } else if let Some(service) = object.downcast_ref::<Service>() {
        usage.extend(of_service(service));
    }
    usage
}

/// Whether a pod still uses anything: not when it has ended, or should have long since.
fn is_charged(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    let overdue = |at: Timestamp| at.saturating_add(grace).is_ok_and(|end| now > end);
    !matches!(phase, Some("Succeeded" | "Failed")) && !pod.metadata.deletion_timestamp.as_ref().is_some_and(|at| overdue(at.0))
}

fn of_pod(pod: &Pod) -> Usage {
    let mut usage = Usage::from([("pods".to_owned(), Amount::count(1))]);
    let Some(spec) = &pod.spec else { return usage };
    let mut requests = whole(spec, |resources| resources.requests.as_ref());
    let mut limits = whole(spec, |resources| resources.limits.as_ref());
    let overhead = amounts(spec.overhead.as_ref());
    add(&mut requests, &overhead);
    limits.iter_mut().for_each(|(name, limit)| *limit = limit.with(overhead.get(name).copied().unwrap_or_default(), std::ops::Add::add));
    for (name, amount) in requests {
        let is_compute = COMPUTE.contains(&name.as_str());
        if is_compute || name.starts_with("hugepages-") {
            usage.insert(name.clone(), amount);
        }
        usage.insert(format!("requests.{name}"), amount);
    }
    let limits = limits.into_iter().filter(|(name, _)| COMPUTE.contains(&name.as_str()));
    usage.extend(limits.map(|(name, amount)| (format!("limits.{name}"), amount)));
    usage
}

fn amounts(list: Option<&BTreeMap<String, Text>>) -> Usage {
    list.into_iter().flatten().map(|(name, text)| (name.clone(), Amount::of(text))).collect()
}

/// What the containers of a pod ask for together, or its greediest init step, or the pod as a whole where it says so.
fn whole(spec: &PodSpec, list: impl Fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>) -> Usage {
    let of = |container: &Container| amounts(container.resources.as_ref().and_then(&list));
    let mut together = Usage::new();
    spec.containers.iter().for_each(|container| add(&mut together, &of(container)));
    let (mut sidecars, mut peak) = (Usage::new(), Usage::new());
    for container in spec.init_containers.iter().flatten() {
        let mut step = sidecars.clone();
        add(&mut step, &of(container));
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.clone_from(&step);
        }
        merge(&mut peak, &step, Ord::max);
    }
    add(&mut together, &sidecars);
    merge(&mut together, &peak, Ord::max);
    together.extend(amounts(spec.resources.as_ref().and_then(list)));
    together
}

fn of_claim(claim: &PersistentVolumeClaim) -> Usage {
    let spec = claim.spec.clone().unwrap_or_default();
    let asked = spec.resources.and_then(|resources| resources.requests).and_then(|requests| requests.get("storage").map(Amount::of));
    let class = spec.storage_class_name.filter(|class| !class.is_empty());
    let mut usage: Usage = asked.map(|asked| ("requests.storage".to_owned(), asked)).into_iter().collect();
    if let Some(class) = class {
        let of_class = |name: &str| format!("{class}.storageclass.storage.k8s.io/{name}");
        usage.insert(of_class("persistentvolumeclaims"), Amount::count(1));
        usage.extend(asked.map(|asked| (of_class("requests.storage"), asked)));
    }
    usage
}

fn of_service(service: &Service) -> Usage {
    let spec = service.spec.clone().unwrap_or_default();
    let balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let on_nodes = spec.type_.as_deref() == Some("NodePort") || (balanced && spec.allocate_load_balancer_node_ports != Some(false));
    let ports = if on_nodes { spec.ports.map_or(0, |ports| ports.len()) } else { 0 };
    Usage::from([
        ("services.loadbalancers".to_owned(), Amount::count(usize::from(balanced))),
        ("services.nodeports".to_owned(), Amount::count(ports)),
    ])
}
