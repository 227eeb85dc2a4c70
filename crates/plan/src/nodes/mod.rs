//! Which nodes are healthy, and what becomes of the pods of those that are not.
//!
//! A node is heard from when it renews its lease or writes its status. [`plan_node`] says what its conditions and taints
//! should be; [`plan_pods`] what follows for its pods.
//!
//! # Guarantees
//! * Pods are evicted only while some node is healthy: where nobody can be heard, it is the listener that is deaf.
//! * A plan for what is already so is empty, but for the time at which to look again.

mod evict;
mod health;
mod orphans;

pub use evict::{Eviction, PodsPlan, concerns_pods, plan_pods};
pub use health::{Heard, NodePlan, NodeWrite, is_ready, is_simulated, plan_node};
pub use orphans::{is_stray, is_unassigned_and_ending};

use jiff::SignedDuration;

/// How long a node may be silent.
pub const GRACE: SignedDuration = SignedDuration::from_secs(40);
/// How long a pod that says nothing on it stays on a node that is not ready or not reachable, as admission would set it.
pub const TOLERATED: SignedDuration = SignedDuration::from_secs(300);
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

#[cfg(test)]
mod tests;
