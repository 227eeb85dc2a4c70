//! Nodes, and the sum of what is on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node as ApiNode, Pod, Taint};
use kinds::ObjectKey;

use super::VolumeDemand;
use super::demand::{Demand, HostPort, Labels};
use super::resources::Amounts;

/// All that placing depends on, kept current change by change; a change costs what it changes, not the size of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) namespaces: BTreeMap<String, Labels>,
    pods: BTreeMap<ObjectKey, Assigned>,
    /// The pods that have a say in where others go.
    with_rules: BTreeSet<ObjectKey>,
    /// How many pods use each claim.
    claims: HashMap<ObjectKey, usize>,
}

/// A pod and its node, which may not be known yet.
#[derive(Clone, Debug)]
pub(super) struct Assigned {
    pub(super) demand: Arc<Demand>,
    pub(super) node: String,
}

/// A node: what it says of itself, and the sum of its pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) facts: Facts,
    pub(super) requested: Amounts,
    /// As `requested`, with something for pods that say nothing.
    pub(super) assumed: Amounts,
    pub(super) pods: i64,
    pub(super) ports: Vec<HostPort>,
    /// Pods by their controlling owner.
    pub(super) owners: HashMap<String, i64>,
}

/// What placing depends on of a Node object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) labels: Labels,
    pub(super) allocatable: Amounts,
    pub(super) max_pods: i64,
    pub(super) taints: Vec<Taint>,
    pub(super) cordoned: bool,
}

impl Facts {
    fn of(node: &ApiNode) -> Self {
        let status = node.status.as_ref();
        let spec = node.spec.as_ref();
        let mut allocatable = Amounts::of(status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref())));
        let max_pods = allocatable.other.remove("pods").unwrap_or(0);
        Self {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            allocatable,
            max_pods,
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            cordoned: spec.and_then(|spec| spec.unschedulable) == Some(true),
        }
    }
}

impl Node {
    fn add(&mut self, pod: &Demand) {
        self.requested.add(&pod.requests);
        self.assumed.add(&pod.assumed);
        self.pods += 1;
        self.ports.extend(pod.ports.iter().cloned());
        if let Some(owner) = &pod.owner {
            *self.owners.entry(owner.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, pod: &Demand) {
        self.requested.subtract(&pod.requests);
        self.assumed.subtract(&pod.assumed);
        self.pods -= 1;
        for port in &pod.ports {
            if let Some(place) = self.ports.iter().position(|held| held == port) {
                self.ports.swap_remove(place);
            }
        }
        if let Some(owner) = &pod.owner
            && let Some(count) = self.owners.get_mut(owner)
        {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(owner);
            }
        }
    }
}

impl Cluster {
    /// Takes over a node as it is now. Whether that can matter to a placement: a heartbeat doesn't.
    pub fn put_node(&mut self, node: &ApiNode) -> bool {
        let name = node.metadata.name.clone().unwrap_or_default();
        let facts = Facts::of(node);
        if let Some(known) = self.nodes.get_mut(&name) {
            let changed = known.facts != facts;
            known.facts = facts;
            return changed;
        }
        let mut new = Node { name: name.clone(), facts, ..Node::default() };
        self.pods.values().filter(|pod| pod.node == name).for_each(|pod| new.add(&pod.demand));
        self.nodes.insert(name, new);
        true
    }

    /// Forgets a node. Its pods are remembered, for the case that it comes back.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is a node of this name.
    pub fn has_node(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// Whether the volumes can all be reached from this node.
    pub fn reaches(&self, node: &str, volumes: &VolumeDemand) -> bool {
        self.nodes.get(node).is_some_and(|node| volumes.check(&node.name, &node.facts.labels).is_ok())
    }

    /// Takes over a namespace's labels. Whether they are new.
    pub fn put_namespace(&mut self, namespace: &Namespace) -> bool {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        self.namespaces.insert(name, labels.clone()) != Some(labels)
    }

    /// Forgets a namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Takes over a pod as the API server shows it: one with a node that has not ended counts there, any other nowhere.
    /// Whether room or rules may have changed.
    pub fn put_pod(&mut self, pod: &Pod) -> bool {
        let demand = Demand::of(pod);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if node.is_empty() || matches!(phase, Some("Succeeded" | "Failed")) {
            return self.remove_pod(&demand.key);
        }
        let known = self.pods.get(&demand.key);
        if known.is_some_and(|known| known.node == node && *known.demand == demand) {
            return false;
        }
        self.assign(Arc::new(demand), &node);
        true
    }

    /// Counts a pod on a node, before the API server shows it there.
    pub fn assign(&mut self, demand: Arc<Demand>, node: &str) {
        let key = demand.key.clone();
        self.remove_pod(&key);
        if let Some(known) = self.nodes.get_mut(node) {
            known.add(&demand);
        }
        if demand.has_peer_rules() {
            self.with_rules.insert(key.clone());
        }
        for claim in &demand.claims {
            *self.claims.entry(claim.clone()).or_default() += 1;
        }
        self.pods.insert(key, Assigned { demand, node: node.to_owned() });
    }

    /// Forgets a pod. Whether it was known.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> bool {
        let Some(assigned) = self.pods.remove(key) else { return false };
        self.with_rules.remove(key);
        for claim in &assigned.demand.claims {
            if let Some(count) = self.claims.get_mut(claim) {
                *count -= 1;
                if *count == 0 {
                    self.claims.remove(claim);
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(&assigned.node) {
            node.remove(&assigned.demand);
        }
        true
    }

    /// Whether a pod that has a node uses the claim.
    pub(super) fn is_used(&self, claim: &ObjectKey) -> bool {
        self.claims.contains_key(claim)
    }

    /// The pods with nodes that are known, of one namespace or of all.
    pub(super) fn placed<'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = (&'a Demand, &'a Node)> {
        let first = ObjectKey::new(namespace.unwrap_or_default(), "");
        let pods = self.pods.range(first..).map_while(move |(key, pod)| namespace.is_none_or(|name| name == key.namespace).then_some(pod));
        pods.filter_map(|pod| Some((&*pod.demand, self.nodes.get(&pod.node)?)))
    }

    /// The pods that have a say in where others go.
    pub(super) fn with_rules(&self) -> impl Iterator<Item = (&Demand, &Node)> {
        let pods = self.with_rules.iter().filter_map(|key| self.pods.get(key));
        pods.filter_map(|pod| Some((&*pod.demand, self.nodes.get(&pod.node)?)))
    }
}
