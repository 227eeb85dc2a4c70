//! PodDisruptionBudgets.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};

use super::{Strategy, check};
use crate::field::{FieldError, Path};

/// The rules of PodDisruptionBudgets.
pub(super) struct PodDisruptionBudgets;

impl Strategy for PodDisruptionBudgets {
    type Kind = PodDisruptionBudget;

    fn prepare_create(&self, budget: &mut PodDisruptionBudget) {
        budget.metadata.generation = Some(1);
        budget.status = Some(PodDisruptionBudgetStatus {
            current_healthy: Some(0),
            desired_healthy: Some(0),
            disruptions_allowed: Some(0),
            expected_pods: Some(0),
            ..PodDisruptionBudgetStatus::default()
        });
    }

    fn prepare_update(&self, budget: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        budget.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, budget: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        budget.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, budget: &PodDisruptionBudget, old: &PodDisruptionBudget) -> bool {
        !check::same(&budget.spec, &old.spec)
    }

    fn validate(&self, budget: &PodDisruptionBudget) -> Vec<FieldError> {
        let path = Path::new("spec");
        let spec = budget.spec.clone().unwrap_or_default();
        let mut errors = Vec::new();
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            errors.push(FieldError::invalid(path.clone(), check::shown(&spec), "minAvailable and maxUnavailable cannot be both set"));
        }
        errors.extend(spec.min_available.iter().filter_map(|count| check::count_or_percentage(&path.child("minAvailable"), count)));
        errors.extend(spec.max_unavailable.iter().filter_map(|count| check::count_or_percentage(&path.child("maxUnavailable"), count)));
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        let policy = spec.unhealthy_pod_eviction_policy.as_ref();
        errors.extend(check::one_of(path.child("unhealthyPodEvictionPolicy"), policy, &policies));
        errors.extend(spec.selector.iter().flat_map(|selector| check::label_selector(&path.child("selector"), selector)));
        errors
    }

    fn validate_status_update(&self, budget: &PodDisruptionBudget, _old: &PodDisruptionBudget) -> Vec<FieldError> {
        let path = Path::new("status");
        let status = budget.status.clone().unwrap_or_default();
        [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ]
        .into_iter()
        .filter_map(|(field, count)| check::non_negative(path.child(field), count))
        .collect()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
