//! The status of a budget, and its one condition.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::disrupted::Disrupted;
use super::expectation::Expectation;

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// The status that follows from what is expected and what is there; `None` if it is known already.
pub(super) fn computed(
    budget: &PodDisruptionBudget,
    expectation: &Expectation,
    healthy: i32,
    disrupted: &Disrupted,
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let known = budget.status.clone().unwrap_or_default();
    // A budget that expects no pods allows nothing, so that its first pods find it closed.
    let beyond = if expectation.pods > 0 { healthy.saturating_sub(expectation.healthy).max(0) } else { 0 };
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: if beyond > 0 { "True" } else { "False" }.to_owned(),
        reason: if beyond > 0 { "SufficientPods" } else { "InsufficientPods" }.to_owned(),
        message: String::new(),
        observed_generation: budget.metadata.generation,
        last_transition_time: Time(now),
    };
    let status = PodDisruptionBudgetStatus {
        conditions: with_condition(&known, condition),
        current_healthy: Some(healthy),
        desired_healthy: Some(expectation.healthy),
        disrupted_pods: Some(disrupted.pods.clone()).filter(|pods| !pods.is_empty()),
        disruptions_allowed: Some(beyond),
        expected_pods: Some(expectation.pods),
        observed_generation: budget.metadata.generation,
    };
    changed(known, status)
}

/// The status of a budget that can't be computed; `None` if it is known already.
pub(super) fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> Option<PodDisruptionBudgetStatus> {
    let known = budget.status.clone().unwrap_or_default();
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: "False".to_owned(),
        reason: "SyncFailed".to_owned(),
        message: why.to_owned(),
        observed_generation: known.observed_generation,
        last_transition_time: Time(now),
    };
    let conditions = with_condition(&known, condition);
    let status = PodDisruptionBudgetStatus { disruptions_allowed: Some(0), conditions, ..known.clone() };
    changed(known, status)
}

/// The known conditions with this one, whose time is that of its last change.
fn with_condition(known: &PodDisruptionBudgetStatus, mut condition: Condition) -> Option<Vec<Condition>> {
    let mut conditions = known.conditions.clone().unwrap_or_default();
    match conditions.iter_mut().find(|known| known.type_ == condition.type_) {
        Some(known) => {
            if known.status == condition.status {
                condition.last_transition_time = known.last_transition_time.clone();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
    Some(conditions)
}

fn changed(mut known: PodDisruptionBudgetStatus, status: PodDisruptionBudgetStatus) -> Option<PodDisruptionBudgetStatus> {
    known.disrupted_pods = known.disrupted_pods.filter(|pods| !pods.is_empty());
    (status != known).then_some(status)
}
