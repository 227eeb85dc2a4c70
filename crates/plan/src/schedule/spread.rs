//! Evenly over domains.

use std::collections::HashMap;

use super::cluster::{Cluster, Node};
use super::demand::{Demand, Spread};
use super::filter::untolerated;
use super::refusal::Refusal;

/// The constraints that must hold.
pub(super) struct HardSpread<'a> {
    constraints: Vec<Counted<'a>>,
}

/// A constraint and how many pods it counts in each domain.
pub(super) struct Counted<'a> {
    spread: &'a Spread,
    counts: HashMap<&'a str, i64>,
    /// What the pod itself would add.
    own: i64,
}

impl<'a> HardSpread<'a> {
    pub(super) fn new(cluster: &'a Cluster, demand: &'a Demand) -> Self {
        Self { constraints: counted(cluster, demand, true) }
    }

    pub(super) fn check(&self, node: &Node) -> Result<(), Refusal> {
        self.constraints.iter().try_for_each(|constraint| constraint.check(node))
    }
}

/// The constraints of a pod, hard or soft, with their counts.
pub(super) fn counted<'a>(cluster: &'a Cluster, demand: &'a Demand, hard: bool) -> Vec<Counted<'a>> {
    let constraints: Vec<_> = demand.spread.iter().filter(|spread| spread.hard == hard).collect();
    constraints.iter().map(|spread| Counted::new(cluster, demand, &constraints, spread)).collect()
}

impl<'a> Counted<'a> {
    fn new(cluster: &'a Cluster, demand: &Demand, all: &[&Spread], spread: &'a Spread) -> Self {
        let eligible = |node: &&Node| {
            all.iter().all(|other| node.facts.labels.contains_key(&other.topology_key))
                && (!spread.honors_affinity || demand.admits_node(&node.name, &node.facts.labels))
                && (!spread.honors_taints || untolerated(demand, node).is_none())
        };
        let domain = |node: &'a Node| node.facts.labels.get(&spread.topology_key).map(String::as_str);
        // Eligibility is a question to each node once, not to each pod.
        let nodes: HashMap<&str, &str> =
            cluster.nodes.values().filter(eligible).filter_map(|node| Some((node.name.as_str(), domain(node)?))).collect();
        let mut counts: HashMap<&str, i64> = nodes.values().map(|domain| (*domain, 0)).collect();
        let meant = cluster.placed(Some(&demand.key.namespace)).filter(|(pod, _)| !pod.terminating && spread.counts(pod));
        for (_, node) in meant {
            if let Some(count) = nodes.get(node.name.as_str()).and_then(|domain| counts.get_mut(domain)) {
                *count += 1;
            }
        }
        Self { spread, counts, own: i64::from(spread.counts(demand)) }
    }

    fn check(&self, node: &Node) -> Result<(), Refusal> {
        let domain = node.facts.labels.get(&self.spread.topology_key).ok_or(Refusal::SpreadLabel)?;
        let least = if self.counts.len() < self.spread.min_domains { 0 } else { self.counts.values().min().copied().unwrap_or(0) };
        let here = self.counts.get(domain.as_str()).copied().unwrap_or(0);
        if here + self.own - least > self.spread.max_skew { Err(Refusal::Spread) } else { Ok(()) }
    }

    /// How many pods are in the node's domain; `None` outside all domains.
    pub(super) fn count_at(&self, node: &Node) -> Option<i64> {
        let domain = node.facts.labels.get(&self.spread.topology_key)?;
        Some(self.counts.get(domain.as_str()).copied().unwrap_or(0))
    }
}
