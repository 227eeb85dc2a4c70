//! What PodDisruptionBudgets have to say. A StatefulSet's controller asks none; evictions do, and so do people.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::Selector;
use serde::Serialize;

use super::is_ready;

/// A budget that speaks of pods of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetOutlook {
    pub name: String,
    /// How many of its pods may be evicted today.
    pub allowed_now: usize,
    /// How many may be at the worst moment on the way.
    pub allowed_least: usize,
    /// The pods that the set takes down though the budget allows none at that moment.
    pub exceeded_by: Vec<String>,
}

/// A budget, and the pods it has seen.
pub(super) struct Ledger {
    selector: Selector,
    minimum: Option<IntOrString>,
    maximum: Option<IntOrString>,
    outlook: Option<BudgetOutlook>,
    name: String,
}

impl Ledger {
    pub(super) fn of(budget: &PodDisruptionBudget) -> Option<Self> {
        let spec = budget.spec.as_ref()?;
        Some(Self {
            selector: Selector::from_label_selector(spec.selector.as_ref()?).ok()?,
            minimum: spec.min_available.clone(),
            maximum: spec.max_unavailable.clone(),
            outlook: None,
            name: budget.metadata.name.clone().unwrap_or_default(),
        })
    }

    /// Looks at the pods before the set takes some of them down. `wanted` is how many replicas the set has to have; pods
    /// of others are expected as they are.
    pub(super) fn look(&mut self, own: &[Arc<Pod>], others: &[Arc<Pod>], wanted: usize, taken_down: &[&str]) {
        let selected: Vec<_> = own.iter().filter(|pod| self.selects(pod)).collect();
        if selected.is_empty() {
            return;
        }
        let others: Vec<_> = others.iter().filter(|pod| self.selects(pod)).collect();
        let healthy = selected.iter().chain(&others).filter(|pod| is_healthy(pod)).count();
        let allowed = healthy.saturating_sub(self.desired(wanted + others.len()));
        let name = &self.name;
        let new = || BudgetOutlook { name: name.clone(), allowed_now: allowed, allowed_least: allowed, exceeded_by: Vec::new() };
        let outlook = self.outlook.get_or_insert_with(new);
        let is_counted = |name: &&&str| selected.iter().any(|pod| pod.metadata.name.as_deref() == Some(**name) && is_healthy(pod));
        let leaving: Vec<_> = taken_down.iter().filter(is_counted).collect();
        outlook.allowed_least = outlook.allowed_least.min(allowed.saturating_sub(leaving.len()));
        outlook.exceeded_by.extend(leaving.iter().skip(allowed).map(|name| (**name).to_owned()));
    }

    pub(super) fn into_outlook(self) -> Option<BudgetOutlook> {
        self.outlook
    }

    fn selects(&self, pod: &Pod) -> bool {
        self.selector.matches(pod.metadata.labels.as_ref())
    }

    /// How many of so many pods have to be healthy. Percentages are rounded up, as upstream does.
    fn desired(&self, expected: usize) -> usize {
        match (&self.minimum, &self.maximum) {
            (Some(minimum), _) => share(minimum, expected),
            (None, Some(maximum)) => expected.saturating_sub(share(maximum, expected)),
            (None, None) => 0,
        }
    }
}

fn share(value: &IntOrString, expected: usize) -> usize {
    match value {
        IntOrString::Int(count) => usize::try_from(*count).unwrap_or(0),
        IntOrString::String(percent) => {
            let percent: usize = percent.trim_end_matches('%').parse().unwrap_or(0);
            expected.saturating_mul(percent).div_ceil(100)
        }
    }
}

fn is_healthy(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && is_ready(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        let pod = |ordinal: usize| {
            json!({"metadata": {"name": format!("web-{ordinal}"), "labels": {"app": "web"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        };
        (0..count).map(|ordinal| Arc::new(serde_json::from_value(pod(ordinal)).unwrap())).collect()
    }

    fn looked(spec: serde_json::Value, count: usize, taken_down: &[&str]) -> Option<BudgetOutlook> {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
        let budget = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
        let mut ledger = Ledger::of(&budget).unwrap();
        ledger.look(&pods(count), &[], 3, taken_down);
        ledger.into_outlook()
    }

    #[test]
    fn a_set_that_takes_down_more_than_the_budget_allows_is_told() {
        let cases = [
            (json!({"maxUnavailable": 1}), 3, vec!["web-2"], (1, 0), vec![]),
            (json!({"maxUnavailable": 1}), 3, vec!["web-2", "web-1"], (1, 0), vec!["web-1"]),
            (json!({"maxUnavailable": 1}), 2, vec!["web-1"], (0, 0), vec!["web-1"]),
            (json!({"minAvailable": "50%"}), 3, vec!["web-2"], (1, 0), vec![]),
            (json!({"maxUnavailable": "34%"}), 3, vec!["web-2"], (2, 1), vec![]),
            (json!({"minAvailable": 3}), 3, vec!["web-2"], (0, 0), vec!["web-2"]),
        ];
        for (spec, count, taken_down, (now, least), exceeded) in cases {
            let outlook = looked(spec.clone(), count, &taken_down).unwrap();
            assert_eq!((outlook.allowed_now, outlook.allowed_least), (now, least), "{spec}");
            assert_eq!(outlook.exceeded_by, exceeded, "{spec}");
        }
        assert_eq!(looked(json!({"maxUnavailable": 1}), 0, &[]), None);
    }
}
