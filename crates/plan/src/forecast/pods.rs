//! How pods move along.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{World, living};
use crate::statefulset::may_claim;

/// How long a pod is in one phase: long enough for times to differ.
const STEP: SignedDuration = SignedDuration::from_secs(3);

impl World {
    /// Moves a pod one phase along, from pending over running to ready, or from terminating to gone; whether it could.
    /// A pod that mounts a claim of the set runs once the claim is there.
    pub fn advance_pod(&mut self, name: &str, never_ready: impl Fn(&Pod) -> bool) -> bool {
        let Some(pod) = self.pods.get(name) else { return false };
        if pod.metadata.deletion_timestamp.is_some() {
            self.tick();
            return self.pods.remove(name).is_some();
        }
        match phase(pod) {
            "" | "Pending" if self.has_claims(pod) => self.run(name),
            "Running" if !is_ready(pod) && !never_ready(pod) => self.make_ready(name),
            _ => false,
        }
    }

    fn run(&mut self, name: &str) -> bool {
        let now = self.tick();
        self.change_pod(name, |pod| {
            let status = pod.status.get_or_insert_default();
            status.phase = Some("Running".to_owned());
            status.start_time = Some(Time(now));
            set_condition(pod, "PodScheduled", true, now);
            set_condition(pod, "Ready", false, now);
        })
    }

    fn make_ready(&mut self, name: &str) -> bool {
        let now = self.tick();
        self.change_pod(name, |pod| {
            set_condition(pod, "Ready", true, now);
            living::heal(pod);
        })
    }

    fn tick(&mut self) -> Timestamp {
        self.now = self.now.saturating_add(STEP).unwrap_or(Timestamp::MAX);
        self.now
    }

    /// Whether the claims of the set that it mounts are there and stay. Others are not in this world, and taken for granted.
    fn has_claims(&self, pod: &Pod) -> bool {
        let stays = |name: &str| self.claims.get(name).is_some_and(|claim| claim.metadata.deletion_timestamp.is_none());
        mounted(pod).all(|name| stays(name) || !may_claim(&self.set, name))
    }
}

/// The names of the claims a pod mounts.
pub(super) fn mounted(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).map(|source| source.claim_name.as_str())
}

/// Whether nothing has to be stopped before the pod is gone: no node has it, or all its containers have ended.
pub(super) fn needs_no_grace(pod: &Pod) -> bool {
    let assigned = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    has_ended(pod) || (is_pending(pod) && !assigned)
}

/// Whether all its containers have ended for good.
pub(super) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

/// Whether it has not begun to run.
pub fn is_pending(pod: &Pod) -> bool {
    matches!(phase(pod), "" | "Pending")
}

/// Whether its Ready condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition_is(pod, "Ready", "True")
}

/// Whether a condition is there with this status.
pub(super) fn condition_is(pod: &Pod, kind: &str, status: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == status)
}

/// Whether it is noted that no node takes a pod for this reason.
pub(super) fn unscheduled_because(pod: &Pod, why: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "PodScheduled" && condition.message.as_deref() == Some(why))
}

/// Notes why no node takes a pod.
pub(super) fn set_unscheduled(pod: &mut Pod, why: String, now: Timestamp) {
    set_condition(pod, "PodScheduled", false, now);
    let conditions = pod.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
    for condition in conditions.filter(|condition| condition.type_ == "PodScheduled") {
        condition.reason = Some("Unschedulable".to_owned());
        condition.message = Some(why.clone());
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(super) fn set_condition(pod: &mut Pod, kind: &str, holds: bool, now: Timestamp) {
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(PodCondition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    });
}
