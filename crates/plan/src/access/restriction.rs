//! What a node's agent may write into objects that it may write at all: what is its own.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kinds::Object;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Labels below these are the cluster's: pods must not be drawn to a node by what its agent says of it.
const RESERVED: [&str; 2] = ["kubernetes.io", "k8s.io"];
/// Those of them that agents do give their nodes,
const OWN: [&str; 10] = [
    HOSTNAME,
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];
/// and all below these.
const OWN_SPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// A write by a node's agent. What is created has no old state, what is deleted no new one.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    pub node: &'a str,
    pub name: &'a str,
    /// `status`, for example; empty for the object itself.
    pub subresource: &'a str,
    pub new: Option<&'a dyn Object>,
    pub old: Option<&'a dyn Object>,
}

impl Write<'_> {
    /// Why the node may not do this; `None` if it may.
    pub fn refusal(&self) -> Option<String> {
        let any = self.new.or(self.old)?;
        if any.downcast_ref::<Pod>().is_some() {
            self.pod()
        } else if let Some(node) = any.downcast_ref::<Node>() {
            self.own_node(node)
        } else if let Some(volume) = any.downcast_ref::<PersistentVolume>() {
            let node = self.node;
            (!is_local(volume, node)).then(|| format!("node {node:?} can only create and delete volumes of its own"))
        } else if any.downcast_ref::<Lease>().is_some() && self.name != self.node {
            Some("can only access node lease with the same name as the requesting node".to_owned())
        } else {
            None
        }
    }

    fn pod(&self) -> Option<String> {
        let node = self.node;
        let bound = |pod: Option<&dyn Object>| pod.and_then(|pod| pod.downcast_ref::<Pod>()).is_some_and(|pod| is_on(pod, node));
        match (self.old, self.new, self.subresource) {
            // A pod that it makes could refer to any Secret, and so open it to the node.
            (None, _, "") => Some(format!("node {node:?} can only create mirror pods, which are not served")),
            (Some(_), None, "eviction") if !bound(self.old) => {
                Some(format!("node {node} can only evict pods with spec.nodeName set to itself"))
            }
            (Some(_), None, _) if !bound(self.old) => Some(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
            (Some(_), Some(_), "status") if !bound(self.old) => {
                Some(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
            }
            (Some(_), Some(_), "") => {
                Some(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
            }
            _ => None,
        }
    }

    fn own_node(&self, any: &Node) -> Option<String> {
        let node = self.node;
        if self.name != node {
            return Some(format!("node {node:?} is not allowed to modify node {:?}", self.name));
        }
        let old = self.old.and_then(|old| old.downcast_ref::<Node>());
        self.new?;
        let labels = changed(any.metadata.labels.as_ref(), old.and_then(|old| old.metadata.labels.as_ref()));
        let reserved: Vec<_> = labels.into_iter().filter(|label| is_reserved(label)).collect();
        if !reserved.is_empty() {
            return Some(format!("is not allowed to modify labels: {}", reserved.join(", ")));
        }
        let old = old?;
        let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        if taints(any) != taints(old) {
            return Some(format!("node {node:?} is not allowed to modify taints"));
        }
        let owners = |node: &Node| node.metadata.owner_references.clone().unwrap_or_default();
        (owners(any) != owners(old)).then(|| format!("node {node:?} is not allowed to update ownerReferences"))
    }
}

/// Whether a pod is bound to a node.
pub fn is_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
}

/// Whether a volume can be used on this node alone.
fn is_local(volume: &PersistentVolume, node: &str) -> bool {
    let required = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    let terms = required.map(|required| required.node_selector_terms.as_slice()).unwrap_or_default();
    let here = |term: &k8s_openapi::api::core::v1::NodeSelectorTerm| {
        term.match_expressions.iter().flatten().any(|expression| {
            expression.key == HOSTNAME && expression.operator == "In" && expression.values.as_deref() == Some(&[node.to_owned()])
        })
    };
    !terms.is_empty() && terms.iter().all(here)
}

type Labels = BTreeMap<String, String>;

fn changed<'a>(new: Option<&'a Labels>, old: Option<&'a Labels>) -> BTreeSet<&'a str> {
    let value = |labels: Option<&'a Labels>, key: &str| labels.and_then(|labels| labels.get(key));
    let keys = new.into_iter().flatten().chain(old.into_iter().flatten()).map(|(key, _)| key.as_str());
    keys.filter(|key| value(new, key) != value(old, key)).collect()
}

/// Whether a label is not for an agent to set.
fn is_reserved(label: &str) -> bool {
    let Some((space, _)) = label.split_once('/') else { return false };
    is_below(space, &RESERVED) && !OWN.contains(&label) && !is_below(space, &OWN_SPACES)
}

/// Whether a name space is one of these, or in one of them.
fn is_below(space: &str, of: &[&str]) -> bool {
    of.iter().any(|own| space.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}
