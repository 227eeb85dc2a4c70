//! What the conditions of a set say: whether it is `Available`, is `Progressing`, or is `Stalled`.
//!
//! They are the memory between rounds as well, for what can't be seen in the pods:
//! * `lastTransitionTime` of `Progressing` is when the set last came forward; the deadline counts from it.
//! * The reason of `Progressing` tells whether every replica has been there since the last change of the specification.
//! * The reason of `Available` tells whether the replicas have ever been available all at once.
//!
//! A set comes forward when one of the counts in its status moves towards the goal. Conditions of other types are kept.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetCondition, StatefulSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::membership::Members;
use super::spec::Spec;
use super::{Action, WaitingOn};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const STALLED: &str = "Stalled";

const COMPLETE: &str = "RolloutComplete";
const PAUSED: &str = "Paused";
const EXCEEDED: &str = "ProgressDeadlineExceeded";
/// Replicas that have not been there since the last change are created.
const CREATING: &str = "CreatingReplicas";
/// All replicas have been there, and are on their way to another revision.
const ROLLING_OUT: &str = "RollingOut";
/// All replicas have been there, and some are not available.
const AWAITING: &str = "AwaitingReplicas";

const ALL_AVAILABLE: &str = "AllReplicasAvailable";
const SOME_UNAVAILABLE: &str = "ReplicasUnavailable";
const NEVER_AVAILABLE: &str = "NeverAvailable";
const NO_REPLICAS: &str = "NoReplicas";

/// So much of what others said fits into a message.
const LONGEST_MESSAGE: usize = 1024;

/// What the conditions are made from.
pub(super) struct Round<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) spec: &'a Spec<'a>,
    pub(super) members: &'a Members<'a>,
    /// The status to be, its conditions excepted.
    pub(super) status: &'a StatefulSetStatus,
    pub(super) actions: &'a [Action],
    pub(super) waiting_on: Option<&'a WaitingOn>,
    pub(super) now: Timestamp,
}

/// How things go, in the words of `Progressing`.
struct Course {
    status: &'static str,
    reason: &'static str,
    since: Timestamp,
}

/// Whether every wanted replica has been there since the last change of the specification.
pub(super) fn all_were_created(set: &StatefulSet) -> bool {
    let is_known = |reason| matches!(reason, COMPLETE | ROLLING_OUT | AWAITING);
    is_seen(set) && previous(set, PROGRESSING).and_then(reason).is_some_and(is_known)
}

/// Whether the replicas have ever been available all at once.
pub(super) fn was_available(set: &StatefulSet) -> bool {
    previous(set, AVAILABLE).and_then(reason).is_some_and(|reason| matches!(reason, ALL_AVAILABLE | SOME_UNAVAILABLE))
}

/// Whether a status says that the set has stalled.
pub(super) fn is_stalled(status: &StatefulSetStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == STALLED && condition.status == "True")
}

impl Round<'_> {
    /// The conditions, and when the deadline passes.
    pub(super) fn conditions(&self) -> (Vec<StatefulSetCondition>, Option<Timestamp>) {
        let course = self.course();
        let message = self.message(course.reason);
        let stalled = if course.reason == EXCEEDED { "True" } else { "False" };
        let told = Some(message.clone()).filter(|_| stalled == "True");
        let progressing = StatefulSetCondition {
            last_transition_time: Some(Time(course.since)),
            ..self.condition(PROGRESSING, course.status, course.reason, Some(message))
        };
        let wanted = [self.available(), progressing, self.condition(STALLED, stalled, course.reason, told)];
        let deadline = matches!(course.reason, CREATING | ROLLING_OUT | AWAITING).then(|| self.deadline(course.since));
        (self.merged(wanted), deadline)
    }

    fn available(&self) -> StatefulSetCondition {
        let (wanted, available) =
            (self.spec.replicas as usize, self.members.replicas.iter().filter(|member| member.is_available()).count());
        let (status, reason) = match available == wanted {
            true if wanted == 0 => ("True", NO_REPLICAS),
            true => ("True", ALL_AVAILABLE),
            false if was_available(self.set) => ("False", SOME_UNAVAILABLE),
            false => ("False", NEVER_AVAILABLE),
        };
        self.condition(AVAILABLE, status, reason, Some(format!("{available} of {wanted} replicas are available")))
    }

    fn course(&self) -> Course {
        let before = previous(self.set, PROGRESSING);
        let said = before.and_then(reason).unwrap_or_default();
        let since = before.and_then(|before| before.last_transition_time.as_ref()).map_or(self.now, |time| time.0);
        let going_on = |status, reason| Course { status, reason, since: if said == reason { since } else { self.now } };
        if self.spec.is_paused() {
            return going_on("Unknown", PAUSED);
        }
        if self.is_at_rest() {
            return going_on("True", COMPLETE);
        }
        let is_timed = is_seen(self.set) && matches!(said, CREATING | ROLLING_OUT | AWAITING | EXCEEDED);
        if !is_timed || self.came_forward() {
            return Course { status: "True", reason: self.way(), since: self.now };
        }
        match said == EXCEEDED || self.deadline(since) <= self.now {
            true => going_on("False", EXCEEDED),
            false => Course { status: "True", reason: self.way(), since },
        }
    }

    /// Whether the set is as desired, or the next step is its user's.
    fn is_at_rest(&self) -> bool {
        let acts = self.actions.iter().any(|action| action.ordinal().is_some());
        !acts && matches!(self.waiting_on, None | Some(WaitingOn::Partition { .. } | WaitingOn::UserDeletion { .. }))
    }

    fn came_forward(&self) -> bool {
        let missing = StatefulSetStatus::default();
        let (before, after) = (self.set.status.as_ref().unwrap_or(&missing), self.status);
        let distance = |status: &StatefulSetStatus| i64::from(self.spec.replicas).abs_diff(i64::from(status.replicas));
        after.updated_replicas > before.updated_replicas
            || after.available_replicas > before.available_replicas
            || distance(after) < distance(before)
    }

    fn way(&self) -> &'static str {
        let is_complete = self.members.replicas.len() == self.spec.replicas as usize;
        match is_complete || all_were_created(self.set) {
            false => CREATING,
            true if self.status.current_revision != self.status.update_revision => ROLLING_OUT,
            true => AWAITING,
        }
    }

    /// The time that a pod has to stay ready is not held against the set.
    fn deadline(&self, since: Timestamp) -> Timestamp {
        let deadline = SignedDuration::from_secs(i64::from(self.spec.extensions.progress_deadline)) + self.spec.min_ready;
        since.saturating_add(deadline).unwrap_or(Timestamp::MAX)
    }

    /// What is waited for. While the set only acts, its last words stay: to act is no news, what comes of it is.
    fn message(&self, why: &str) -> String {
        let before = previous(self.set, PROGRESSING).filter(|before| reason(before) == Some(why));
        let act = || self.actions.iter().find(|action| action.ordinal().is_some());
        match (self.waiting_on, why) {
            (Some(waiting), _) => cut(waiting.to_string()),
            (None, COMPLETE) => "every replica is as desired".to_owned(),
            (None, PAUSED) => "rollouts are paused".to_owned(),
            (None, _) => match before.and_then(|before| before.message.clone()) {
                Some(message) => message,
                None => act().map(|action| format!("is about to {action}")).unwrap_or_default(),
            },
        }
    }

    /// A condition that keeps its time while its status stays.
    fn condition(&self, kind: &str, status: &str, reason: &str, message: Option<String>) -> StatefulSetCondition {
        let before = previous(self.set, kind).filter(|before| before.status == status);
        let since = before.and_then(|before| before.last_transition_time.clone());
        StatefulSetCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message,
            last_transition_time: Some(since.unwrap_or(Time(self.now))),
        }
    }

    fn merged(&self, wanted: [StatefulSetCondition; 3]) -> Vec<StatefulSetCondition> {
        let mut conditions = self.set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        for condition in wanted {
            match conditions.iter_mut().find(|before| before.type_ == condition.type_) {
                Some(before) => *before = condition,
                None => conditions.push(condition),
            }
        }
        conditions
    }
}

/// Whether the status was made from the present specification.
fn is_seen(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| status.observed_generation == set.metadata.generation)
}

fn previous<'a>(set: &'a StatefulSet, kind: &str) -> Option<&'a StatefulSetCondition> {
    set.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn reason(condition: &StatefulSetCondition) -> Option<&str> {
    condition.reason.as_deref()
}

fn cut(mut message: String) -> String {
    let end = message.char_indices().nth(LONGEST_MESSAGE).map_or(message.len(), |(end, _)| end);
    message.truncate(end);
    message
}
