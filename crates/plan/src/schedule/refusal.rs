//! Why a pod can't go to a node, in upstream's words.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::VolumeObstacle;

/// Why one node is out of the question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Refusal {
    #[error("node(s) were unschedulable")]
    Cordoned,
    #[error("node(s) had untolerated taint {{{key}: {value}}}")]
    Taint { key: String, value: String },
    #[error("node(s) didn't match Pod's node affinity/selector")]
    NodeAffinity,
    #[error("node(s) didn't have free ports for the requested pod ports")]
    Ports,
    #[error("Too many pods")]
    TooManyPods,
    #[error("Insufficient {0}")]
    Insufficient(String),
    #[error("node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod")]
    ClaimInUse,
    #[error("node(s) had volume node affinity conflict")]
    VolumeAffinity,
    #[error("node(s) didn't find available persistent volumes to bind")]
    NoVolume,
    #[error("node(s) didn't match pod topology spread constraints")]
    Spread,
    #[error("node(s) didn't match pod topology spread constraints (missing required label)")]
    SpreadLabel,
    #[error("node(s) didn't match pod affinity rules")]
    PodAffinity,
    #[error("node(s) didn't match pod anti-affinity rules")]
    PodAntiAffinity,
    #[error("node(s) didn't satisfy existing pods anti-affinity rules")]
    ExistingAntiAffinity,
}

/// No node can take the pod.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// What is wrong whichever the node.
    pub obstacle: Option<VolumeObstacle>,
    /// How many nodes have each reason. A node may have several.
    pub refusals: BTreeMap<Refusal, usize>,
}

impl Unschedulable {
    pub(super) fn of(nodes: usize) -> Self {
        Self { nodes, obstacle: None, refusals: BTreeMap::new() }
    }

    /// The pod can go nowhere until its volumes are put right.
    pub fn by_volumes(nodes: usize, obstacle: VolumeObstacle) -> Self {
        Self { obstacle: Some(obstacle), ..Self::of(nodes) }
    }

    pub(super) fn add(&mut self, reasons: Vec<Refusal>) {
        for reason in reasons {
            *self.refusals.entry(reason).or_default() += 1;
        }
    }
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available: ", self.nodes)?;
        if let Some(obstacle) = &self.obstacle {
            return write!(f, "{obstacle}.");
        }
        // Upstream sorts the finished texts, counts included.
        let mut texts: Vec<_> = self.refusals.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        texts.sort();
        write!(f, "{}.", texts.join(", "))
    }
}
