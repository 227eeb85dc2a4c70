//! Which node a pod goes to.
//!
//! [`Cluster`] sums up nodes and the pods on them, and is kept current change by change. [`place`] is a pure function of it:
//! filters leave the nodes that break no hard rule, scores choose among them. The same problem has the same answer.
//!
//! # Guarantees
//! * A placement breaks no hard rule: resources, taints, selectors, required affinity, spread with `DoNotSchedule`, ports, volumes.
//! * Without a placement there is a reason for every node, in the words of upstream's scheduler.

mod cluster;
mod demand;
mod filter;
mod peers;
mod refusal;
mod resources;
mod rules;
mod score;
mod spread;
mod volumes;

pub use cluster::Cluster;
pub use demand::Demand;
pub use refusal::{Refusal, Unschedulable};
pub use resources::Amounts;
pub use rules::{NodeRule, tolerates};
pub use volumes::{Storage, VolumeDemand, VolumeObstacle, claims_of, volume_demand};

use filter::Filters;

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub node: String,
}

/// Chooses the node of a pod, or says for every node why not.
pub fn place(cluster: &Cluster, demand: &Demand, volumes: &VolumeDemand) -> Result<Placement, Unschedulable> {
    let filters = Filters::new(cluster, demand, volumes);
    let mut refused = Unschedulable::of(cluster.nodes.len());
    let mut feasible = Vec::new();
    for node in cluster.nodes.values() {
        match filters.check(node) {
            Ok(()) => feasible.push(node),
            Err(reasons) => refused.add(reasons),
        }
    }
    let best = score::best(cluster, demand, &feasible).ok_or(refused)?;
    Ok(Placement { node: best.name.clone() })
}

#[cfg(test)]
mod judge;
#[cfg(test)]
mod tests;
