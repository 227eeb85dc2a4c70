//! Near to and apart from other pods: affinity and anti-affinity that must hold.

use std::collections::{BTreeSet, HashSet};

use super::cluster::{Cluster, Node};
use super::demand::{Demand, PodTerm};
use super::refusal::Refusal;

/// A label key and a value of it: the part of the cluster where nodes have that label.
pub(super) type Domain<'a> = (&'a str, &'a str);

pub(super) struct Peers<'a> {
    demand: &'a Demand,
    /// Where a pod is that all the affinity terms mean, by the topology key of each term.
    near: HashSet<Domain<'a>>,
    /// No pod is meant by the affinity terms, but this one itself is: it may be the first of its kind.
    first: bool,
    /// Where a pod is that an anti-affinity term means.
    apart: HashSet<Domain<'a>>,
    /// Where a pod is that wants to be apart from this one.
    refused: HashSet<Domain<'a>>,
    /// The topology keys of `refused`.
    refused_by: BTreeSet<&'a str>,
}

impl<'a> Peers<'a> {
    pub(super) fn new(cluster: &'a Cluster, demand: &'a Demand) -> Self {
        let near = near(cluster, demand);
        let meant = |term: &PodTerm| term.means(demand, &cluster.namespaces);
        let first = near.is_empty() && demand.affinity.iter().all(meant);
        let refused = refused(cluster, demand);
        let refused_by = refused.iter().map(|(key, _)| *key).collect();
        Self { demand, near, first, apart: apart(cluster, demand), refused, refused_by }
    }

    pub(super) fn check(&self, node: &'a Node) -> Result<(), Refusal> {
        let domain = |term: &'a PodTerm| domain_of(node, &term.topology_key);
        if !self.demand.affinity.iter().all(|term| domain(term).is_some_and(|domain| self.first || self.near.contains(&domain))) {
            return Err(Refusal::PodAffinity);
        }
        if self.demand.anti_affinity.iter().any(|term| domain(term).is_some_and(|domain| self.apart.contains(&domain))) {
            return Err(Refusal::PodAntiAffinity);
        }
        if self.refused_by.iter().any(|key| domain_of(node, key).is_some_and(|domain| self.refused.contains(&domain))) {
            return Err(Refusal::ExistingAntiAffinity);
        }
        Ok(())
    }
}

/// The domain a node is in by a topology key.
pub(super) fn domain_of<'a>(node: &'a Node, key: &'a str) -> Option<Domain<'a>> {
    node.facts.labels.get(key).map(|value| (key, value.as_str()))
}

fn near<'a>(cluster: &'a Cluster, demand: &'a Demand) -> HashSet<Domain<'a>> {
    let Some(first) = demand.affinity.first() else { return HashSet::new() };
    let meant = |pod: &Demand| demand.affinity.iter().all(|term| term.means(pod, &cluster.namespaces));
    let placed = cluster.placed(first.only_namespace()).filter(|(pod, _)| meant(pod));
    placed.flat_map(|(_, node)| demand.affinity.iter().filter_map(|term| domain_of(node, &term.topology_key))).collect()
}

fn apart<'a>(cluster: &'a Cluster, demand: &'a Demand) -> HashSet<Domain<'a>> {
    let of_term = |term: &'a PodTerm| {
        let placed = cluster.placed(term.only_namespace()).filter(|(pod, _)| term.means(pod, &cluster.namespaces));
        placed.filter_map(|(_, node)| domain_of(node, &term.topology_key))
    };
    demand.anti_affinity.iter().flat_map(of_term).collect()
}

fn refused<'a>(cluster: &'a Cluster, demand: &Demand) -> HashSet<Domain<'a>> {
    let of_pod = |(pod, node): (&'a Demand, &'a Node)| {
        let terms = pod.anti_affinity.iter().filter(|term| term.means(demand, &cluster.namespaces));
        terms.filter_map(|term| domain_of(node, &term.topology_key))
    };
    cluster.with_rules().flat_map(of_pod).collect()
}
