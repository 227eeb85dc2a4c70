//! Which of several possible nodes is best: whole numbers throughout, so that the answer is the same everywhere.

use std::collections::{BTreeSet, HashMap};

use super::cluster::{Cluster, Node};
use super::demand::Demand;
use super::peers::{Domain, domain_of};
use super::spread::counted;

const BEST: i64 = 100;

/// The best node; of equals, the first by name.
pub(super) fn best<'a>(cluster: &'a Cluster, demand: &'a Demand, feasible: &[&'a Node]) -> Option<&'a Node> {
    if let [] | [_] = feasible {
        return feasible.first().copied();
    }
    let mut totals: Vec<i64> = feasible.iter().map(|node| least_allocated(demand, node) + balanced(demand, node)).collect();
    let mut weigh = |weight: i64, scores: Vec<i64>| {
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
    };
    weigh(3, fewer_is_better(feasible.iter().map(|node| soft_taints(demand, node)).collect()));
    weigh(2, more_is_better(feasible.iter().map(|node| node_preferences(demand, node)).collect()));
    weigh(2, more_is_better(peer_preferences(cluster, demand, feasible)));
    weigh(2, fewer_is_better(crowding(cluster, demand, feasible)));
    let ranked = feasible.iter().zip(totals).rev();
    ranked.max_by_key(|(_, total)| *total).map(|(node, _)| *node)
}

/// The share that stays free, averaged over processor and memory.
fn least_allocated(demand: &Demand, node: &Node) -> i64 {
    let free = |allocatable: i64, used: i64| if allocatable <= 0 { 0 } else { (allocatable - used).max(0) * BEST / allocatable };
    let (cpu, memory) = (node.assumed.cpu + demand.assumed.cpu, node.assumed.memory + demand.assumed.memory);
    let allocatable = &node.facts.allocatable;
    (free(allocatable.cpu, cpu) + free(allocatable.memory, memory)) / 2
}

/// Best where processor and memory are used to the same share.
fn balanced(demand: &Demand, node: &Node) -> i64 {
    let share = |allocatable: i64, used: i64| if allocatable <= 0 { BEST } else { (used * BEST / allocatable).min(BEST) };
    let allocatable = &node.facts.allocatable;
    let cpu = share(allocatable.cpu, node.assumed.cpu + demand.assumed.cpu);
    let memory = share(allocatable.memory, node.assumed.memory + demand.assumed.memory);
    BEST - (cpu - memory).abs() / 2
}

fn soft_taints(demand: &Demand, node: &Node) -> i64 {
    let taints = node.facts.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    taints.map(|taint| i64::from(!demand.tolerates(taint))).sum()
}

fn node_preferences(demand: &Demand, node: &Node) -> i64 {
    let met = demand.node_preferred.iter().filter(|(_, term)| term.admits(&node.name, &node.facts.labels));
    met.map(|(weight, _)| weight).sum()
}

/// What the pod prefers of others, and what others prefer of it.
fn peer_preferences<'a>(cluster: &'a Cluster, demand: &'a Demand, feasible: &[&'a Node]) -> Vec<i64> {
    let mut weights: HashMap<Domain<'a>, i64> = HashMap::new();
    let mut weigh = |node: &'a Node, key: &'a str, weight: i64| {
        if let Some(domain) = domain_of(node, key) {
            *weights.entry(domain).or_default() += weight;
        }
    };
    for (weight, term) in &demand.preferred {
        let meant = cluster.placed(term.only_namespace()).filter(|(pod, _)| term.means(pod, &cluster.namespaces));
        meant.for_each(|(_, node)| weigh(node, &term.topology_key, *weight));
    }
    for (pod, node) in cluster.with_rules() {
        let meant = pod.preferred.iter().filter(|(_, term)| term.means(demand, &cluster.namespaces));
        meant.for_each(|(weight, term)| weigh(node, &term.topology_key, *weight));
    }
    let keys: BTreeSet<_> = weights.keys().map(|(key, _)| *key).collect();
    let of_node = |node: &&'a Node| keys.iter().filter_map(|key| weights.get(&domain_of(node, key)?)).sum();
    feasible.iter().map(of_node).collect()
}

/// How many pods are where this one would go, by its soft constraints; without any, how many of the same owner.
fn crowding<'a>(cluster: &'a Cluster, demand: &'a Demand, feasible: &[&'a Node]) -> Vec<i64> {
    let constraints = counted(cluster, demand, false);
    if constraints.is_empty() {
        let of_owner = |node: &&Node| demand.owner.as_ref().and_then(|owner| node.owners.get(owner)).copied().unwrap_or(0);
        return feasible.iter().map(of_owner).collect();
    }
    let most = feasible.iter().flat_map(|node| constraints.iter().filter_map(|constraint| constraint.count_at(node))).max().unwrap_or(0);
    // A node outside the domains is as bad as the fullest.
    let at = |node: &&Node| constraints.iter().map(|constraint| constraint.count_at(node).unwrap_or(most + 1)).sum();
    feasible.iter().map(at).collect()
}

/// Scales to 0 ..= [`BEST`]; all the same is no preference.
fn more_is_better(raw: Vec<i64>) -> Vec<i64> {
    let (least, most) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
    let range = most - least;
    raw.into_iter().map(|score| if range == 0 { 0 } else { (score - least) * BEST / range }).collect()
}

fn fewer_is_better(raw: Vec<i64>) -> Vec<i64> {
    more_is_better(raw.into_iter().map(|count| -count).collect())
}
