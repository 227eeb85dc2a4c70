//! An independent judge of placements: the hard rules once more, from the objects themselves, slowly and simply.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm};
use kinds::Selector;

/// A pod and the name of its node.
pub(super) type Placed<'a> = (&'a Pod, &'a str);

/// What is wrong with putting the pod on this node, beside those that are placed.
pub(super) fn faults(nodes: &[Node], placed: &[Placed<'_>], pod: &Pod, node: &Node) -> Vec<&'static str> {
    let checks = [
        ("resources", has_room(placed, pod, node)),
        ("selector", selected(pod, node)),
        ("taints", tolerated(pod, node)),
        ("anti-affinity", apart(nodes, placed, pod, node)),
        ("affinity", near(nodes, placed, pod, node)),
        ("spread", spread(nodes, placed, pod, node)),
    ];
    checks.into_iter().filter(|(_, fine)| !fine).map(|(name, _)| name).collect()
}

fn cpu(pod: &Pod) -> i64 {
    let containers = &pod.spec.as_ref().unwrap().containers;
    let requests = |container: &k8s_openapi::api::core::v1::Container| container.resources.clone()?.requests?.get("cpu").cloned();
    containers.iter().filter_map(requests).map(|quantity| quantity.0.parse::<kinds::Quantity>().unwrap().milli_value()).sum()
}

fn has_room(placed: &[Placed<'_>], pod: &Pod, node: &Node) -> bool {
    let here: Vec<_> = placed.iter().filter(|(_, at)| Some(*at) == node.metadata.name.as_deref()).collect();
    let allocatable = node.status.as_ref().unwrap().allocatable.as_ref().unwrap();
    let amount = |name: &str| allocatable[name].0.parse::<kinds::Quantity>().unwrap().milli_value();
    let used: i64 = here.iter().map(|(pod, _)| cpu(pod)).sum();
    (cpu(pod) == 0 || used + cpu(pod) <= amount("cpu")) && (here.len() as i64 + 1) * 1000 <= amount("pods")
}

fn selected(pod: &Pod, node: &Node) -> bool {
    let wanted = pod.spec.as_ref().unwrap().node_selector.clone().unwrap_or_default();
    wanted.iter().all(|(key, value)| label(node, key) == Some(value))
}

fn tolerated(pod: &Pod, node: &Node) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let tolerates_all = spec.tolerations.iter().flatten().any(|toleration| toleration.operator.as_deref() == Some("Exists"));
    tolerates_all || node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_none_or(Vec::is_empty)
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a String> {
    node.metadata.labels.as_ref()?.get(key)
}

fn node_of<'a>(nodes: &'a [Node], name: &str) -> &'a Node {
    nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name)).unwrap()
}

fn means(term: &PodAffinityTerm, pod: &Pod) -> bool {
    Selector::from_label_selector(term.label_selector.as_ref().unwrap()).unwrap().matches(pod.metadata.labels.as_ref())
}

/// Whether a term of one pod means the other, and both nodes are in the same domain of it.
fn together(terms: &[PodAffinityTerm], other: &Pod, here: &Node, there: &Node) -> bool {
    let same = |term: &PodAffinityTerm| {
        label(here, &term.topology_key).is_some() && label(here, &term.topology_key) == label(there, &term.topology_key)
    };
    terms.iter().any(|term| means(term, other) && same(term))
}

fn anti_terms(pod: &Pod) -> Vec<PodAffinityTerm> {
    let affinity = pod.spec.as_ref().unwrap().affinity.clone().unwrap_or_default();
    affinity.pod_anti_affinity.unwrap_or_default().required_during_scheduling_ignored_during_execution.unwrap_or_default()
}

fn apart(nodes: &[Node], placed: &[Placed<'_>], pod: &Pod, node: &Node) -> bool {
    placed.iter().all(|(other, at)| {
        let there = node_of(nodes, at);
        !together(&anti_terms(pod), other, node, there) && !together(&anti_terms(other), pod, there, node)
    })
}

fn near(nodes: &[Node], placed: &[Placed<'_>], pod: &Pod, node: &Node) -> bool {
    let affinity = pod.spec.as_ref().unwrap().affinity.clone().unwrap_or_default();
    let terms = affinity.pod_affinity.unwrap_or_default().required_during_scheduling_ignored_during_execution.unwrap_or_default();
    let Some(term) = terms.first() else { return true };
    let first = means(term, pod) && !placed.iter().any(|(other, _)| means(term, other));
    first || placed.iter().any(|(other, at)| together(&terms, other, node, node_of(nodes, at)))
}

fn spread(nodes: &[Node], placed: &[Placed<'_>], pod: &Pod, node: &Node) -> bool {
    pod.spec.as_ref().unwrap().topology_spread_constraints.iter().flatten().all(|constraint| {
        let selector = Selector::from_label_selector(constraint.label_selector.as_ref().unwrap()).unwrap();
        let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
        let eligible = nodes.iter().filter(|node| selected(pod, node));
        counts.extend(eligible.filter_map(|node| label(node, &constraint.topology_key)).map(|domain| (domain, 0)));
        let meant =
            placed.iter().filter(|(other, at)| selector.matches(other.metadata.labels.as_ref()) && selected(pod, node_of(nodes, at)));
        for (_, at) in meant {
            *counts.get_mut(label(node_of(nodes, at), &constraint.topology_key).unwrap()).unwrap() += 1;
        }
        let own = i64::from(selector.matches(pod.metadata.labels.as_ref()));
        let here = counts.get(label(node, &constraint.topology_key).unwrap()).copied().unwrap_or(0);
        here + own - counts.values().min().unwrap() <= i64::from(constraint.max_skew)
    })
}
