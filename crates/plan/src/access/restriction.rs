//! What a node's agent may write into objects that it may write at all: what is its own.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kinds::Object;

/// Labels that only others may set, for pods that must not be drawn to a node.
const ISOLATION: &str = "node-restriction.kubernetes.io/";
const HOSTNAME: &str = "kubernetes.io/hostname";

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
        let reserved: Vec<_> = labels.into_iter().filter(|label| label.contains(ISOLATION)).collect();
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

fn changed<'a>(new: Option<&'a Labels>, old: Option<&'a Labels>) -> Vec<&'a str> {
    let value = |labels: Option<&'a Labels>, key: &str| labels.and_then(|labels| labels.get(key));
    let keys = new.into_iter().flatten().chain(old.into_iter().flatten()).map(|(key, _)| key.as_str());
    let mut changed: Vec<_> = keys.filter(|key| value(new, key) != value(old, key)).collect();
    changed.dedup();
    changed
}
