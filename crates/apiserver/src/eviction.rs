//! Whether a pod may be evicted: what its disruption budget and its set say. Pure; the verb carries it out.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::gate::{EVICTION_REQUESTED, holds_eviction};
use kinds::{Extensions, Selector, registry};

use crate::error::ApiError;

/// The cause by which clients know that a budget is the reason, and no limit on requests.
const BUDGET: &str = "DisruptionBudget";
/// The same, for what has to happen before the pods of a set may go.
const GATE: &str = "PreDelete";
/// Evictions that may wait to be seen by the controller of budgets.
const MOST_DISRUPTED: usize = 2000;
/// The controller follows a change of a budget within moments.
const SOON_SECONDS: i32 = 1;

/// Whether no budget speaks for the pod: it serves nobody yet, or any more, or goes anyhow.
pub fn needs_no_budget(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed" | "Pending")) || pod.metadata.deletion_timestamp.is_some()
}

/// Whether the budget selects the pod.
pub fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.and_then(|selector| Selector::from_label_selector(selector).ok());
    selector.is_some_and(|selector| selector.matches(pod.metadata.labels.as_ref()))
}

/// Whether the pod is not healthy, so that its end disrupts nothing, and the budget lets such pods go.
pub fn disrupts_nothing(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let status = budget.status.clone().unwrap_or_default();
    let (healthy, wanted) = (status.current_healthy.unwrap_or(0), status.desired_healthy.unwrap_or(0));
    !ready && (policy == Some("AlwaysAllow") || (wanted > 0 && healthy >= wanted))
}

/// Takes one disruption from the budget for this pod, or says why there is none to take.
pub fn take(budget: &mut PodDisruptionBudget, pod: &str, now: Timestamp) -> Result<(), ApiError> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let generation = budget.metadata.generation.unwrap_or(0);
    let status = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or(0) < generation {
        return Err(still_processed(&name));
    }
    let noted = status.disrupted_pods.as_ref().map_or(0, std::collections::BTreeMap::len);
    match status.disruptions_allowed.unwrap_or(0) {
        ..0 => Err(forbidden(&name, "pdb disruptions allowed is negative")),
        _ if noted > MOST_DISRUPTED => {
            Err(forbidden(&name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
        }
        0 => Err(violates(why_exhausted(&name, status), 0)),
        allowed => {
            status.disruptions_allowed = Some(allowed - 1);
            status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), Time(now));
            if allowed == 1 {
                close(status, now);
            }
            Ok(())
        }
    }
}

/// Says in the condition that nothing more is allowed.
fn close(status: &mut PodDisruptionBudgetStatus, now: Timestamp) {
    let generation = status.observed_generation;
    let known = status.conditions.iter_mut().flatten().find(|condition| condition.type_ == "DisruptionAllowed");
    if let Some(condition) = known {
        condition.last_transition_time = Time(now);
        condition.status = "False".to_owned();
        condition.reason = "InsufficientPods".to_owned();
        condition.message = String::new();
        condition.observed_generation = generation;
    }
}

fn why_exhausted(name: &str, status: &PodDisruptionBudgetStatus) -> String {
    let (healthy, wanted) = (status.current_healthy.unwrap_or(0), status.desired_healthy.unwrap_or(0));
    let failed = status.conditions.iter().flatten().find(|condition| condition.reason == "SyncFailed" && condition.status == "False");
    match failed {
        Some(condition) if !condition.message.is_empty() => {
            format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {}", condition.message)
        }
        _ if healthy <= wanted => format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"),
        _ => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// The budget, or the pod it was asked about, is newer than what is known of it.
pub fn still_processed(budget: &str) -> ApiError {
    violates(format!("The disruption budget {budget} is still being processed by the server."), SOON_SECONDS)
}

fn violates(why: String, retry_after_seconds: i32) -> ApiError {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.".to_owned();
    ApiError::EvictionRefused { message, cause: BUDGET, why, retry_after_seconds }
}

fn forbidden(budget: &str, why: &str) -> ApiError {
    match registry::find("policy", "v1", "poddisruptionbudgets") {
        Some(resource) => {
            let message = format!("poddisruptionbudget.policy {budget:?} is forbidden: {why}");
            ApiError::Forbidden { resource, name: budget.to_owned(), message }
        }
        None => ApiError::internal("disruption budgets are not served"),
    }
}

/// What has to happen first, when the pod's set asks for something before its pods go, and it has not happened.
pub fn gate(pod: &Pod, set: &StatefulSet) -> Option<ApiError> {
    let (extensions, _) = Extensions::read(set.metadata.annotations.as_ref());
    let why = holds_eviction(extensions.gate.as_ref(), set.metadata.name.as_deref().unwrap_or_default(), pod)?;
    let message = "Cannot evict pod before its set's pre-delete gate has passed.".to_owned();
    Some(ApiError::EvictionRefused { message, cause: GATE, why, retry_after_seconds: 0 })
}

/// Notes on the pod that someone waits for its gate; the first wish counts. Returns whether it was news.
pub fn request(pod: &mut Pod, now: Timestamp) -> bool {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    let news = !annotations.contains_key(EVICTION_REQUESTED);
    if news {
        annotations.insert(EVICTION_REQUESTED.to_owned(), now.to_string());
    }
    news
}

/// Says on the pod why it goes.
pub fn explain(pod: &mut Pod, now: Timestamp) {
    let observed_generation = pod.metadata.generation;
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        last_transition_time: Some(Time(now)),
        observed_generation,
        ..PodCondition::default()
    });
}

#[cfg(test)]
mod tests {
    use kinds::gate::{PASSED, PRE_DELETE};
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "labels": {"app": "web"}}, "status": status})).unwrap()
    }

    fn ready(ready: &str) -> Pod {
        pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}))
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status})).unwrap()
    }

    fn refusal(error: &ApiError) -> (u16, Option<i32>, String) {
        let details = error.status().details.unwrap();
        let cause = details.causes.and_then(|causes| causes.into_iter().next()?.message);
        (error.code_and_reason().0, details.retry_after_seconds, cause.unwrap_or_else(|| error.to_string()))
    }

    #[test]
    fn budgets_speak_for_pods_that_serve() {
        for (phase, free) in [("Pending", true), ("Succeeded", true), ("Failed", true), ("Running", false)] {
            assert_eq!(needs_no_budget(&pod(json!({"phase": phase}))), free, "{phase}");
        }
        let mut going = ready("True");
        going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(needs_no_budget(&going));
    }

    #[test]
    fn no_selector_selects_nothing_and_an_empty_one_everything() {
        for (spec, selected) in [
            (json!({}), false),
            (json!({"selector": {}}), true),
            (json!({"selector": {"matchLabels": {"app": "web"}}}), true),
            (json!({"selector": {"matchLabels": {"app": "db"}}}), false),
        ] {
            assert_eq!(selects(&budget(spec.clone(), json!(null)), &ready("True")), selected, "{spec}");
        }
    }

    #[test]
    fn an_unhealthy_pod_goes_where_enough_are_healthy_or_always_if_so_told() {
        let enough = json!({"currentHealthy": 2, "desiredHealthy": 2});
        let few = json!({"currentHealthy": 1, "desiredHealthy": 2});
        let nothing_wanted = json!({"currentHealthy": 0, "desiredHealthy": 0});
        let always = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        for (spec, status, pod_ready, goes) in [
            (json!({}), &enough, "False", true),
            (json!({}), &enough, "True", false),
            (json!({}), &few, "False", false),
            (json!({}), &nothing_wanted, "False", false),
            (json!({"unhealthyPodEvictionPolicy": "IfHealthyBudget"}), &few, "False", false),
            (always.clone(), &few, "False", true),
            (always, &few, "True", false),
        ] {
            assert_eq!(disrupts_nothing(&budget(spec.clone(), status.clone()), &ready(pod_ready)), goes, "{spec} {status} {pod_ready}");
        }
    }

    #[test]
    fn what_is_taken_is_noted_and_the_last_one_closes_the_budget() {
        let now = Timestamp::from_second(60).unwrap();
        let conditions = json!([{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z"}]);
        let mut budget = budget(
            json!({}),
            json!({"observedGeneration": 2, "disruptionsAllowed": 2, "currentHealthy": 3,
            "desiredHealthy": 1, "conditions": conditions}),
        );
        take(&mut budget, "web-0", now).unwrap();
        assert_eq!(budget.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].status, "True");
        take(&mut budget, "web-1", now).unwrap();
        let status = budget.status.clone().unwrap();
        assert_eq!((status.disruptions_allowed, status.disrupted_pods.map_or(0, |pods| pods.len())), (Some(0), 2));
        let condition = &status.conditions.unwrap()[0];
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str(), condition.last_transition_time.0),
            ("False", "InsufficientPods", now)
        );
        let refused = take(&mut budget, "web-2", now).unwrap_err();
        assert_eq!(refused.to_string(), "Cannot evict pod as it would violate the pod's disruption budget.");
        assert_eq!(refusal(&refused), (429, None, "The disruption budget b does not allow evicting pods currently".to_owned()));
    }

    #[test]
    fn a_refusal_says_why() {
        let failed = json!([{"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no idea",
            "lastTransitionTime": "1970-01-01T00:00:00Z"}]);
        for (status, code, retry, why) in [
            (
                json!({"observedGeneration": 1, "disruptionsAllowed": 1}),
                429,
                Some(1),
                "The disruption budget b is still being processed by the server.",
            ),
            (
                json!({"observedGeneration": 2, "currentHealthy": 1, "desiredHealthy": 2}),
                429,
                None,
                "The disruption budget b needs 2 healthy pods and has 1 currently",
            ),
            (
                json!({"observedGeneration": 2, "conditions": failed}),
                429,
                None,
                "The disruption budget b does not allow evicting pods currently because it failed sync: no idea",
            ),
            (
                json!({"observedGeneration": 2, "disruptionsAllowed": -1}),
                403,
                None,
                "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative",
            ),
        ] {
            let refused = take(&mut budget(json!({}), status.clone()), "web-0", Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(refusal(&refused), (code, retry, why.to_owned()), "{status}");
        }
    }

    #[test]
    fn a_set_with_a_gate_holds_its_pods_until_they_have_passed() {
        let mut pod = ready("True");
        let mut set = StatefulSet::default();
        set.metadata.name = Some("web".to_owned());
        assert!(gate(&pod, &set).is_none());
        set.metadata.annotations = Some([(PRE_DELETE.to_owned(), r#"{"exec":{"command":["leave"]}}"#.to_owned())].into());
        let refused = gate(&pod, &set).unwrap();
        let why = "The gate steadfast.dev/pre-delete of statefulset web has not passed for this pod; it has been asked to run";
        assert_eq!(refusal(&refused), (429, None, why.to_owned()));
        assert!(request(&mut pod, Timestamp::UNIX_EPOCH) && !request(&mut pod, Timestamp::MAX));
        assert_eq!(pod.metadata.annotations.as_ref().unwrap()[EVICTION_REQUESTED], "1970-01-01T00:00:00Z");
        pod.metadata.annotations = Some([(PASSED.to_owned(), "now".to_owned())].into());
        assert!(gate(&pod, &set).is_none());
    }
}
