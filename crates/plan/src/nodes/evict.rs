//! What becomes of the pods of a node with a taint that they don't tolerate for ever.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use super::health::is_ready;
use super::{NOT_READY, TOLERATED, UNREACHABLE};
use crate::schedule::tolerates;

/// A pod to delete, and the taint it does not tolerate.
#[derive(Clone, Debug)]
pub struct Eviction {
    pub pod: Arc<Pod>,
    pub taint: String,
}

/// What to do about the pods of a node.
#[derive(Clone, Debug, Default)]
pub struct PodsPlan {
    /// Pods that claim to be ready on a node that can't be heard.
    pub unready: Vec<Arc<Pod>>,
    pub evictions: Vec<Eviction>,
    /// When the next pod has tolerated enough.
    pub recheck_at: Option<Timestamp>,
}

/// Whether anything can follow for its pods from the state of this node.
pub fn concerns_pods(node: &Node) -> bool {
    !is_ready(node) || no_execute(node).next().is_some()
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).filter(|taint| taint.effect == "NoExecute")
}

/// What to do about the pods of this node. `any_ready`: whether some node is healthy.
pub fn plan_pods(node: &Node, pods: &[Arc<Pod>], any_ready: bool, now: Timestamp) -> PodsPlan {
    let mut plan = PodsPlan::default();
    if !is_ready(node) && is_lost(node) {
        plan.unready = pods.iter().filter(|pod| says_ready(pod)).cloned().collect();
    }
    if !any_ready {
        return plan;
    }
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        match first_deadline(node, pod) {
            Some((deadline, taint)) if deadline <= now => plan.evictions.push(Eviction { pod: pod.clone(), taint: taint.key.clone() }),
            Some((deadline, _)) => plan.recheck_at = Some(plan.recheck_at.map_or(deadline, |known| known.min(deadline))),
            None => {}
        }
    }
    plan
}

fn is_lost(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
}

fn says_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// When the pod has to go, and because of which taint; never, if it tolerates them all.
fn first_deadline<'n>(node: &'n Node, pod: &Pod) -> Option<(Timestamp, &'n Taint)> {
    let deadlines = no_execute(node).filter_map(|taint| Some((deadline(taint, pod)?, taint)));
    deadlines.min_by_key(|(deadline, _)| *deadline)
}

fn deadline(taint: &Taint, pod: &Pod) -> Option<Timestamp> {
    let since = taint.time_added.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let until = |patience: SignedDuration| Some(since.saturating_add(patience).unwrap_or(Timestamp::MAX));
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let covering: Vec<_> = tolerations.filter(|toleration| tolerates(toleration, taint)).collect();
    if covering.is_empty() {
        let patient = taint.key == NOT_READY || taint.key == UNREACHABLE;
        return until(if patient { TOLERATED } else { SignedDuration::ZERO });
    }
    // The least patient toleration counts; one without a limit sets none.
    let seconds = covering.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
    until(SignedDuration::from_secs(seconds.max(0)))
}
