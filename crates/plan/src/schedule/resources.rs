//! How much a pod asks for, and how much a node has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a pod without a request counts as when nodes are compared, as upstream: a tenth of a core and 200 MiB.
const ASSUMED_CPU: i64 = 100;
const ASSUMED_MEMORY: i64 = 200 << 20;

type List = BTreeMap<String, Quantity>;

/// Amounts by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// In thousandths of a core.
    pub cpu: i64,
    /// In bytes.
    pub memory: i64,
    /// All others by name, in whole units.
    pub other: BTreeMap<String, i64>,
}

impl Amounts {
    /// The amounts of a resource list. What is no quantity counts as nothing: the API server refuses it.
    pub fn of(list: Option<&List>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let quantity = quantity.0.parse::<kinds::Quantity>().unwrap_or_default();
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                _ => drop(amounts.other.insert(name.clone(), quantity.value())),
            }
        }
        amounts
    }

    /// What a pod asks for: its containers together, or its greediest init step, and the overhead of its sandbox.
    pub fn requested_by(spec: &PodSpec) -> Self {
        let mut together = Self::default();
        spec.containers.iter().for_each(|container| together.add(&container_requests(container)));
        let (sidecars, peak) = init_requests(spec);
        together.add(&sidecars);
        together.raise_to(&peak);
        let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        together.replace_by(whole);
        together.add(&Self::of(spec.overhead.as_ref()));
        together
    }

    /// The same, with something for what is not said, to compare nodes by.
    pub(super) fn or_assumed(&self) -> Self {
        let or = |amount, assumed| if amount == 0 { assumed } else { amount };
        Self { cpu: or(self.cpu, ASSUMED_CPU), memory: or(self.memory, ASSUMED_MEMORY), other: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.merge(more, i64::saturating_add);
    }

    pub(super) fn subtract(&mut self, less: &Self) {
        self.merge(less, i64::saturating_sub);
    }

    fn raise_to(&mut self, floor: &Self) {
        self.merge(floor, i64::max);
    }

    fn merge(&mut self, with: &Self, operation: fn(i64, i64) -> i64) {
        self.cpu = operation(self.cpu, with.cpu);
        self.memory = operation(self.memory, with.memory);
        for (name, amount) in &with.other {
            let mine = self.other.entry(name.clone()).or_default();
            *mine = operation(*mine, *amount);
        }
    }

    /// Requests of the pod as a whole count instead of those of its containers.
    fn replace_by(&mut self, whole: Option<&List>) {
        let amounts = Self::of(whole);
        for name in whole.into_iter().flat_map(BTreeMap::keys) {
            match name.as_str() {
                "cpu" => self.cpu = amounts.cpu,
                "memory" => self.memory = amounts.memory,
                other => drop(self.other.insert(other.to_owned(), amounts.other[other])),
            }
        }
    }
}

/// Requests; a limit without a request is one.
fn container_requests(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let mut list = resources.and_then(|resources| resources.limits.clone()).unwrap_or_default();
    list.extend(resources.and_then(|resources| resources.requests.clone()).unwrap_or_default());
    Amounts::of(Some(&list))
}

/// What the init containers that keep running ask for together, and the most that any init step needs.
fn init_requests(spec: &PodSpec) -> (Amounts, Amounts) {
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut step = container_requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&step);
            step = Amounts::default();
        }
        step.add(&sidecars);
        peak.raise_to(&step);
    }
    (sidecars, peak)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn requested(spec: serde_json::Value) -> (i64, i64) {
        let amounts = Amounts::requested_by(&serde_json::from_value(spec).unwrap());
        (amounts.cpu, amounts.memory)
    }

    fn container(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn containers_add_up_and_a_greedy_init_step_counts_alone() {
        assert_eq!(requested(json!({"containers": [container("100m"), container("200m")]})).0, 300);
        let init = json!({"containers": [container("100m")], "initContainers": [container("1"), container("2")]});
        assert_eq!(requested(init).0, 2000);
    }

    #[test]
    fn a_sidecar_counts_beside_containers_and_beside_later_init_steps() {
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}});
        let spec = json!({"containers": [container("100m")], "initContainers": [container("300m"), sidecar, container("300m")]});
        assert_eq!(requested(spec).0, 800);
        let spec = json!({"containers": [container("400m")], "initContainers": [sidecar, container("300m")]});
        assert_eq!(requested(spec).0, 900);
    }

    #[test]
    fn limits_stand_in_for_requests_and_overhead_is_added() {
        let limited = json!({"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "500m"}}});
        let spec = json!({"containers": [limited], "overhead": {"cpu": "10m"}});
        assert_eq!(requested(spec), (510, 1 << 20));
    }

    #[test]
    fn requests_of_the_whole_pod_replace_those_of_its_containers() {
        let spec = json!({"containers": [container("100m")], "resources": {"requests": {"cpu": "2"}}});
        assert_eq!(requested(spec).0, 2000);
    }
}
