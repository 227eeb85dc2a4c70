//! The hard rules, in upstream's order. The first rule that a node breaks names the reason.

use k8s_openapi::api::core::v1::Taint;

use super::VolumeDemand;
use super::cluster::{Cluster, Node};
use super::demand::Demand;
use super::peers::Peers;
use super::refusal::Refusal;
use super::resources::Amounts;
use super::spread::HardSpread;

pub(super) const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

pub(super) struct Filters<'a> {
    demand: &'a Demand,
    volumes: &'a VolumeDemand,
    /// A claim that only one pod may use has its pod.
    claim_in_use: bool,
    spread: HardSpread<'a>,
    peers: Peers<'a>,
}

impl<'a> Filters<'a> {
    pub(super) fn new(cluster: &'a Cluster, demand: &'a Demand, volumes: &'a VolumeDemand) -> Self {
        let claim_in_use = volumes.exclusive.iter().any(|claim| cluster.is_used(claim));
        Self { demand, volumes, claim_in_use, spread: HardSpread::new(cluster, demand), peers: Peers::new(cluster, demand) }
    }

    /// Whether the node breaks no hard rule, else why.
    pub(super) fn check(&self, node: &Node) -> Result<(), Vec<Refusal>> {
        let one = |refusal| vec![refusal];
        self.unschedulable(node).map_err(one)?;
        self.taints(node).map_err(one)?;
        self.node_affinity(node).map_err(one)?;
        self.ports(node).map_err(one)?;
        self.resources(node)?;
        if self.claim_in_use {
            return Err(one(Refusal::ClaimInUse));
        }
        self.volumes.check(&node.name, &node.facts.labels).map_err(one)?;
        self.spread.check(node).map_err(one)?;
        self.peers.check(node).map_err(one)
    }

    fn unschedulable(&self, node: &Node) -> Result<(), Refusal> {
        let taint = || Taint { key: UNSCHEDULABLE_TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
        let refused = node.facts.cordoned && !self.demand.tolerates(&taint());
        if refused { Err(Refusal::Cordoned) } else { Ok(()) }
    }

    fn taints(&self, node: &Node) -> Result<(), Refusal> {
        match untolerated(self.demand, node) {
            Some(taint) => Err(Refusal::Taint { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default() }),
            None => Ok(()),
        }
    }

    fn node_affinity(&self, node: &Node) -> Result<(), Refusal> {
        let admitted = self.demand.admits_node(&node.name, &node.facts.labels);
        if admitted { Ok(()) } else { Err(Refusal::NodeAffinity) }
    }

    fn ports(&self, node: &Node) -> Result<(), Refusal> {
        let taken = self.demand.ports.iter().any(|port| node.ports.iter().any(|held| held.conflicts_with(port)));
        if taken { Err(Refusal::Ports) } else { Ok(()) }
    }

    fn resources(&self, node: &Node) -> Result<(), Vec<Refusal>> {
        let mut short = insufficient(&node.facts.allocatable, &node.requested, &self.demand.requests);
        if node.pods >= node.facts.max_pods {
            short.insert(0, Refusal::TooManyPods);
        }
        if short.is_empty() { Ok(()) } else { Err(short) }
    }
}

/// The first taint that keeps the pod away.
pub(super) fn untolerated<'n>(demand: &Demand, node: &'n Node) -> Option<&'n Taint> {
    let hard = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    node.facts.taints.iter().filter(hard).find(|taint| !demand.tolerates(taint))
}

/// The resources of which the node has too little left. What isn't asked for is never short.
fn insufficient(allocatable: &Amounts, requested: &Amounts, wanted: &Amounts) -> Vec<Refusal> {
    let short = |wanted: i64, allocatable: i64, requested: i64| wanted > 0 && wanted > allocatable.saturating_sub(requested);
    let mut refusals = Vec::new();
    if short(wanted.cpu, allocatable.cpu, requested.cpu) {
        refusals.push(Refusal::Insufficient("cpu".to_owned()));
    }
    if short(wanted.memory, allocatable.memory, requested.memory) {
        refusals.push(Refusal::Insufficient("memory".to_owned()));
    }
    let amount = |amounts: &Amounts, name: &str| amounts.other.get(name).copied().unwrap_or(0);
    let others = wanted.other.iter().filter(|(name, wanted)| short(**wanted, amount(allocatable, name), amount(requested, name)));
    refusals.extend(others.map(|(name, _)| Refusal::Insufficient(name.clone())));
    refusals
}
