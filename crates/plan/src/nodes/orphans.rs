//! Pods that nobody will ever look after.

use k8s_openapi::api::core::v1::Pod;

/// Whether the pod is bound to a node that does not exist.
pub fn is_stray(pod: &Pod, has_node: impl Fn(&str) -> bool) -> bool {
    node_of(pod).is_some_and(|node| !has_node(node))
}

/// Whether the pod ends without ever having had a node, so that no node will say that it has ended.
pub fn is_unassigned_and_ending(pod: &Pod) -> bool {
    node_of(pod).is_none() && pod.metadata.deletion_timestamp.is_some()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}
