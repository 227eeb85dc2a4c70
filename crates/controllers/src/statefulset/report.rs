//! What users are told, in upstream's words.

use events::Severity;
use k8s_openapi::api::apps::v1::StatefulSet;
use kinds::extensions::Malformed;
use kinds::gate::Reason;
use plan::statefulset::{Action, Mark, Plan, status_differs};

use super::StatefulSets;
use crate::runtime::ReconcileError;

impl StatefulSets {
    /// Tells how an action went, if it is one that users are told of.
    pub(super) fn report(&self, set: &StatefulSet, action: &Action, result: &Result<(), ReconcileError>) {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let Some((reason, message)) = describe(name, action, result.as_ref().err()) else { return };
        let is_good = result.is_ok() && !is_sad(action);
        let severity = if is_good { Severity::Normal } else { Severity::Warning };
        self.events.record(set, severity, reason, message);
    }

    /// Tells of claims that don't follow the policy, and of annotations that are not followed, when something else changes.
    pub(super) fn report_oddities(&self, set: &StatefulSet, plan: &Plan) {
        if plan.actions.is_empty() && !status_differs(set.status.as_ref(), &plan.status) {
            return;
        }
        for claim in &plan.conflicts {
            let message = format!("PersistentVolumeClaim {claim} has another controller; the retention policy is not applied to it");
            self.events.record(set, Severity::Warning, "ConflictingController", message);
        }
        for Malformed { annotation, value, reason } in &plan.malformed {
            let message = format!("Annotation {annotation} is not followed: {value:?}: {reason}");
            self.events.record(set, Severity::Warning, "MalformedAnnotation", message);
        }
    }
}

/// Whether an action that went well is still bad news.
fn is_sad(action: &Action) -> bool {
    match action {
        Action::MarkPod { mark, .. } => !matches!(mark, Mark::GatePassed { .. }),
        _ => matches!(action, Action::RollBack { .. }),
    }
}

/// How a try of a hook ended.
pub(super) fn of_hook(pod: &str, reason: Reason, failure: Option<&str>) -> (&'static str, String) {
    match failure {
        None => ("PreDeleteHookSucceeded", format!("The pre-delete hook of Pod {pod} for {reason} succeeded")),
        Some(why) => ("PreDeleteHookFailed", format!("The pre-delete hook of Pod {pod} for {reason} failed, and is tried again: {why}")),
    }
}

fn describe(set: &str, action: &Action, error: Option<&ReconcileError>) -> Option<(&'static str, String)> {
    if error.is_some_and(ReconcileError::is_already_exists) {
        // The view was old, or somebody else was faster: the next round knows more.
        return None;
    }
    match action {
        Action::CreatePod { pod, .. } => Some(of_pod("Create", set, pod.metadata.name.as_deref()?, error)),
        Action::UpdatePod { pod, .. } => Some(of_pod("Update", set, pod.metadata.name.as_deref()?, error)),
        Action::DeletePod { name, .. } => Some(of_pod("Delete", set, name, error)),
        Action::CreateClaim { ordinal, claim } => {
            let (claim, pod) = (claim.metadata.name.as_deref()?, format!("{set}-{ordinal}"));
            match error {
                None => Some(("SuccessfulCreate", format!("Create Claim {claim} Pod {pod} in StatefulSet {set} success"))),
                Some(error) => {
                    Some(("FailedCreate", format!("Create Claim {claim} for Pod {pod} in StatefulSet {set} failed error: {error}")))
                }
            }
        }
        // The set was changed meanwhile: the next round decides anew.
        Action::RollBack { .. } if error.is_some_and(ReconcileError::is_stale) => None,
        Action::UpdateInPlace { name, revision, .. } => Some(match error {
            None => ("SuccessfulUpdate", format!("Update Pod {name} in StatefulSet {set} in place to {revision} successful")),
            Some(error) => ("FailedUpdate", format!("Update Pod {name} in StatefulSet {set} in place to {revision} failed error: {error}")),
        }),
        Action::CreateHookPod { pod, .. } => {
            error.map(|error| of_pod("Create", set, pod.metadata.name.as_deref().unwrap_or_default(), Some(error)))
        }
        Action::MarkPod { name, mark: Mark::GatePassed { reason }, .. } if error.is_none() => Some(of_hook(name, *reason, None)),
        Action::MarkPod { name, mark: Mark::GateFailed { reason, message }, .. } if error.is_none() => {
            Some(of_hook(name, *reason, Some(message)))
        }
        Action::MarkPod { name, mark: Mark::GateGivenUp { reason }, .. } if error.is_none() => Some((
            "PreDeleteHookGivenUp",
            format!("The pre-delete hook of Pod {name} for {reason} did not succeed in time; the pod goes without it, as onTimeout asks"),
        )),
        Action::RollBack { from, to, because, .. } => Some(of_rollback(set, [from, to], because, error)),
        _ => None,
    }
}

fn of_rollback(set: &str, [from, to]: [&str; 2], because: &str, error: Option<&ReconcileError>) -> (&'static str, String) {
    let what = format!("StatefulSet {set} from revision {from} to {to}, as {because}");
    match error {
        None => ("RolledBack", format!("Rolled back {what}")),
        Some(error) => ("FailedRollback", format!("Roll back {what} failed error: {error}")),
    }
}

fn of_pod(verb: &'static str, set: &str, pod: &str, error: Option<&ReconcileError>) -> (&'static str, String) {
    let reason = match (verb, error.is_some()) {
        ("Create", false) => "SuccessfulCreate",
        ("Create", true) => "FailedCreate",
        ("Update", false) => "SuccessfulUpdate",
        ("Update", true) => "FailedUpdate",
        (_, false) => "SuccessfulDelete",
        (_, true) => "FailedDelete",
    };
    match error {
        None => (reason, format!("{verb} Pod {pod} in StatefulSet {set} successful")),
        Some(error) => (reason, format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}")),
    }
}
