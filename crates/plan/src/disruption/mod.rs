//! How many pods of a budget may be disrupted now.
//!
//! A PodDisruptionBudget says how many of the pods it selects must stay healthy. [`plan_budget`] computes its status from the
//! pods and from how many of them their controllers want. The API server takes from `disruptionsAllowed` when it evicts a pod,
//! and notes the pod in `disruptedPods`, so that it no longer counts as healthy before it is seen to go.
//!
//! # Guarantees
//! * What is allowed is never negative, and never more than there are healthy pods beyond those that must stay.
//! * A budget that can't be computed allows nothing, and says why.
//! * A plan for a status that is already right is empty, but for the time at which to look again.

mod disrupted;
mod expectation;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kinds::Selector;

/// What to do about a budget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The status as it should be, if it is not.
    pub status: Option<PodDisruptionBudgetStatus>,
    /// What its owner should know. Told with a new status only, so that nothing is told twice.
    pub notes: Vec<Note>,
    /// When the next pod that was to go, and did not, counts again.
    pub recheck_at: Option<Timestamp>,
}

/// What the owner of a budget should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It selects no pod.
    NoPods,
    /// Some pods it selects have no controller, so that nobody says how many there should be.
    UnmanagedPods { selector: String },
    /// How many pods there should be is not known.
    NotComputed { why: String },
}

impl Note {
    /// The reason of the event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPods => "NoPods",
            Self::UnmanagedPods { .. } => "UnmanagedPods",
            Self::NotComputed { .. } => "CalculateExpectedPodCountFailed",
        }
    }

    /// The message of the event.
    pub fn message(&self) -> String {
        match self {
            Self::NoPods => "No matching pods found".to_owned(),
            Self::UnmanagedPods { selector } => format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of \
                 the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
                 \".spec.minAvailable\" field of the PDB to an integer value."
            ),
            Self::NotComputed { why } => format!("Failed to calculate the number of expected pods: {why}"),
        }
    }

    /// Whether something is wrong.
    pub fn is_warning(&self) -> bool {
        *self != Self::NoPods
    }
}

/// The pods a budget is about: none if it has no selector, all of its namespace if the selector is empty.
pub fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    let selector = budget.spec.as_ref()?.selector.as_ref()?;
    Selector::from_label_selector(selector).ok()
}

/// What to do about a budget that selects these pods. `scale` says how many pods a controller wants, if there is such a
/// controller.
pub fn plan_budget(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: &dyn Fn(&OwnerReference) -> Option<i32>,
    now: Timestamp,
) -> Plan {
    let expectation = match expectation::of(budget, pods, scale) {
        Ok(expectation) => expectation,
        Err(failure) => {
            let why = failure.to_string();
            let status = status::failed(budget, &why, now);
            return Plan { notes: told(status.is_some(), Some(Note::NotComputed { why })), status, recheck_at: None };
        }
    };
    let disrupted = disrupted::still_to_go(budget, pods, now);
    let healthy = pods.iter().filter(|pod| disrupted::is_healthy(pod, &disrupted)).count();
    let status = status::computed(budget, &expectation, i32::try_from(healthy).unwrap_or(i32::MAX), &disrupted, now);
    let unmanaged = expectation
        .unmanaged
        .then(|| Note::UnmanagedPods { selector: selector(budget).map(|selector| selector.to_string()).unwrap_or_default() });
    let no_pods = pods.is_empty().then_some(Note::NoPods);
    Plan { notes: told(status.is_some(), no_pods.into_iter().chain(unmanaged)), status, recheck_at: disrupted.recheck_at }
}

fn told(news: bool, notes: impl IntoIterator<Item = Note>) -> Vec<Note> {
    if news { notes.into_iter().collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests;
