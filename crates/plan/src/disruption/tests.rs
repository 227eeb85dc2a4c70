use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn budget(spec: Value) -> PodDisruptionBudget {
    let value = json!({"metadata": {"name": "b", "namespace": "d", "generation": 1}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, ready: bool, more: Value) -> Arc<Pod> {
    let ready = if ready { "True" } else { "False" };
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "set", "controller": true}]);
    let mut value = json!({
        "metadata": {"name": name, "namespace": "d", "ownerReferences": owner, "creationTimestamp": at(0).to_string()},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    });
    for (key, field) in more.as_object().unwrap() {
        value["metadata"][key] = field.clone();
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pods(ready: usize, unready: usize) -> Vec<Arc<Pod>> {
    (0..ready + unready).map(|number| pod(&format!("web-{number}"), number < ready, json!({}))).collect()
}

/// The plan when the set wants so many.
fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: Option<i32>, now: Timestamp) -> Plan {
    plan_budget(budget, pods, &|owner: &OwnerReference| scale.filter(|_| owner.uid == "set"), now)
}

/// Healthy, desired, allowed, expected.
fn counts(status: &PodDisruptionBudgetStatus) -> [i32; 4] {
    let count = |count: Option<i32>| count.unwrap_or(-1);
    let PodDisruptionBudgetStatus { current_healthy, desired_healthy, disruptions_allowed, expected_pods, .. } = status;
    [count(*current_healthy), count(*desired_healthy), count(*disruptions_allowed), count(*expected_pods)]
}

fn condition(status: &PodDisruptionBudgetStatus) -> (&str, &str, &str) {
    let [condition] = status.conditions.as_deref().unwrap() else { panic!("one condition") };
    (condition.status.as_str(), condition.reason.as_str(), condition.message.as_str())
}

#[test]
fn what_is_allowed_follows_from_what_is_healthy_and_what_is_wanted() {
    for (spec, ready, unready, scale, expected) in [
        (json!({"minAvailable": 2}), 3, 0, None, [3, 2, 1, 3]),
        (json!({"minAvailable": 2}), 1, 2, None, [1, 2, 0, 3]),
        (json!({"minAvailable": 0}), 0, 0, None, [0, 0, 0, 0]),
        (json!({"minAvailable": "50%"}), 5, 0, Some(5), [5, 3, 2, 5]),
        (json!({"minAvailable": "100%"}), 3, 0, Some(3), [3, 3, 0, 3]),
        // Rounded up: a third of four is two.
        (json!({"minAvailable": "34%"}), 4, 0, Some(4), [4, 2, 2, 4]),
        (json!({"maxUnavailable": 1}), 3, 0, Some(3), [3, 2, 1, 3]),
        (json!({"maxUnavailable": 1}), 2, 1, Some(3), [2, 2, 0, 3]),
        (json!({"maxUnavailable": "30%"}), 3, 0, Some(3), [3, 2, 1, 3]),
        (json!({"maxUnavailable": "0%"}), 3, 0, Some(3), [3, 3, 0, 3]),
        (json!({"maxUnavailable": 9}), 3, 0, Some(3), [3, 0, 3, 3]),
        // The set wants more than there are.
        (json!({"maxUnavailable": 1}), 3, 0, Some(5), [3, 4, 0, 5]),
        (json!({}), 3, 0, Some(3), [3, 0, 0, 0]),
    ] {
        let plan = plan(&budget(spec.clone()), &pods(ready, unready), scale, at(0));
        let status = plan.status.unwrap();
        assert_eq!(counts(&status), expected, "{spec}");
        let wanted = if expected[2] > 0 { ("True", "SufficientPods", "") } else { ("False", "InsufficientPods", "") };
        assert_eq!((condition(&status), status.observed_generation), (wanted, Some(1)), "{spec}");
    }
}

#[test]
fn a_status_that_is_right_is_not_written_again_and_tells_nothing() {
    let mut budget = budget(json!({"minAvailable": 1}));
    let first = plan(&budget, &[], None, at(0));
    assert_eq!(first.notes, [Note::NoPods]);
    budget.status = first.status;
    assert_eq!(plan(&budget, &[], None, at(50)), Plan::default());
}

#[test]
fn the_condition_keeps_its_time_until_it_changes() {
    let mut budget = budget(json!({"minAvailable": 1}));
    let since = |status: &PodDisruptionBudgetStatus| status.conditions.as_ref().unwrap()[0].last_transition_time.0;
    budget.status = plan(&budget, &pods(2, 0), None, at(1)).status;
    assert_eq!(since(budget.status.as_ref().unwrap()), at(1));
    budget.status = plan(&budget, &pods(3, 0), None, at(2)).status;
    assert_eq!(since(budget.status.as_ref().unwrap()), at(1));
    budget.status = plan(&budget, &pods(0, 3), None, at(3)).status;
    assert_eq!(since(budget.status.as_ref().unwrap()), at(3));
}

#[test]
fn a_budget_that_can_not_be_computed_allows_nothing_and_says_why() {
    let mut budget = budget(json!({"maxUnavailable": 1}));
    budget.status = plan(&budget, &pods(3, 0), Some(3), at(0)).status;
    let failed = plan(&budget, &pods(3, 0), None, at(5));
    let why = "found no controllers for pod \"web-0\"";
    let status = failed.status.unwrap();
    assert_eq!((status.disruptions_allowed, condition(&status)), (Some(0), ("False", "SyncFailed", why)));
    assert_eq!(failed.notes, [Note::NotComputed { why: why.to_owned() }]);
    budget.status = Some(status);
    assert_eq!(plan(&budget, &pods(3, 0), None, at(9)), Plan::default());
}

#[test]
fn pods_without_a_controller_are_told_of_and_not_expected() {
    let mut budget = budget(json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}));
    budget.status = None;
    let alone = vec![pod("alone", true, json!({"ownerReferences": []}))];
    let plan = plan(&budget, &alone, Some(3), at(0));
    assert_eq!(counts(&plan.status.unwrap()), [1, 0, 0, 0]);
    assert_eq!(plan.notes, [Note::UnmanagedPods { selector: "app=web".to_owned() }]);
    assert!(plan.notes[0].is_warning() && plan.notes[0].message().contains("(selector: app=web) were found to be unmanaged"));
}

/// A budget whose status says that the eviction of `web-0` was allowed at second 100.
fn with_eviction(spec: Value) -> PodDisruptionBudget {
    let mut budget = budget(spec);
    let evicted = BTreeMap::from([("web-0".to_owned(), Time(at(100)))]);
    budget.status = Some(PodDisruptionBudgetStatus { disrupted_pods: Some(evicted), ..PodDisruptionBudgetStatus::default() });
    budget
}

#[test]
fn a_pod_that_is_to_go_does_not_count_until_it_has_taken_too_long() {
    let budget = with_eviction(json!({"minAvailable": 2}));
    for (now, healthy, noted, recheck) in [(101, 2, 1, Some(at(220))), (220, 2, 1, Some(at(220))), (221, 3, 0, None)] {
        let plan = plan(&budget, &pods(3, 0), None, at(now));
        let status = plan.status.unwrap();
        assert_eq!(status.current_healthy, Some(healthy), "{now}");
        assert_eq!((status.disrupted_pods.unwrap_or_default().len(), plan.recheck_at), (noted, recheck), "{now}");
    }
}

#[test]
fn a_pod_that_goes_or_is_gone_is_forgotten_and_its_successor_counts() {
    let budget = with_eviction(json!({"minAvailable": 1}));
    let others = &pods(3, 0)[1..];
    let with = |first: Arc<Pod>| [&[first], others].concat();
    let going = pod("web-0", true, json!({"deletionTimestamp": at(101).to_string()}));
    let successor = pod("web-0", true, json!({"creationTimestamp": at(101).to_string()}));
    for (pods, healthy) in [(with(going), 2), (others.to_vec(), 2), (with(successor), 3)] {
        let plan = plan(&budget, &pods, None, at(102));
        let status = plan.status.unwrap();
        assert_eq!((status.current_healthy, status.disrupted_pods, plan.recheck_at), (Some(healthy), None, None));
    }
    // Made in the second of the eviction, it may be either: it counts as evicted, but not for long.
    let either = with(pod("web-0", true, json!({"creationTimestamp": at(100).to_string()})));
    let doubted = plan(&budget, &either, None, at(101));
    assert_eq!((doubted.status.unwrap().current_healthy, doubted.recheck_at), (Some(2), Some(at(102))));
    assert_eq!(plan(&budget, &either, None, at(103)).status.unwrap().current_healthy, Some(3));
}

/// What can happen to the pods of a budget.
#[derive(Clone, Debug)]
enum Happening {
    /// A client asks for the eviction of a pod.
    Evict(usize),
    /// The deletion of an evicted pod begins.
    Delete(usize),
    /// Something fails that no budget protects from.
    Break(usize),
    Recover(usize),
    /// The controller looks.
    Look,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..6usize).prop_map(Happening::Evict),
        2 => (0..6usize).prop_map(Happening::Delete),
        1 => (0..6usize).prop_map(Happening::Break),
        2 => (0..6usize).prop_map(Happening::Recover),
        3 => Just(Happening::Look),
    ]
}

fn minimum() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..7i32).prop_map(|count| json!({"minAvailable": count})),
        (0..101i32).prop_map(|share| json!({"minAvailable": format!("{share}%")})),
        (0..7i32).prop_map(|count| json!({"maxUnavailable": count})),
        (0..101i32).prop_map(|share| json!({"maxUnavailable": format!("{share}%")})),
    ]
}

/// Evicts as the API server does: takes one from what is allowed, and notes the pod.
fn take(budget: &mut PodDisruptionBudget, pod: &Pod, now: Timestamp) -> bool {
    let status = budget.status.get_or_insert_default();
    let allowed = status.disruptions_allowed.unwrap_or(0);
    let granted = allowed > 0 && pod.metadata.deletion_timestamp.is_none();
    if granted {
        status.disruptions_allowed = Some(allowed - 1);
        status.disrupted_pods.get_or_insert_default().insert(pod.metadata.name.clone().unwrap(), Time(now));
    }
    granted
}

proptest! {
    /// However evictions, deletions and the controller's rounds follow each other: evictions alone never leave fewer healthy
    /// pods than must stay.
    #[test]
    fn evictions_never_take_more_than_the_budget(spec in minimum(), happenings in proptest::collection::vec(happening(), 0..40)) {
        let mut budget = budget(spec);
        let mut pods = pods(6, 0);
        let mut evicted = std::collections::BTreeSet::new();
        for (second, happening) in happenings.into_iter().enumerate() {
            let now = at(i64::try_from(second).unwrap() + 1);
            match happening {
                Happening::Evict(index) => {
                    let ready_before = healthy(&pods, &evicted);
                    if take(&mut budget, &pods[index], now) && evicted.insert(index) && ready_before.contains(&index) {
                        let desired = budget.status.as_ref().and_then(|status| status.desired_healthy).unwrap_or(0);
                        let broken = pods.iter().filter(|pod| !crate::endpoints::is_ready(pod)).count();
                        let left = i32::try_from(healthy(&pods, &evicted).len() + broken).unwrap();
                        prop_assert!(left >= desired, "{left} of {desired}");
                    }
                }
                Happening::Delete(index) if evicted.contains(&index) => {
                    pods[index] = pod(&format!("web-{index}"), true, json!({"deletionTimestamp": now.to_string()}));
                }
                Happening::Delete(_) => {}
                Happening::Break(index) | Happening::Recover(index) if pods[index].metadata.deletion_timestamp.is_none() => {
                    pods[index] = pod(&format!("web-{index}"), matches!(happening, Happening::Recover(_)), json!({}));
                }
                Happening::Break(_) | Happening::Recover(_) => {}
                Happening::Look => {
                    let plan = plan(&budget, &pods, Some(6), now);
                    budget.status = plan.status.or(budget.status);
                    prop_assert!(super::tests::plan(&budget, &pods, Some(6), now).status.is_none(), "a second look changes something");
                }
            }
            let allowed = budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0);
            prop_assert!(allowed >= 0 && allowed <= 6);
        }
    }
}

/// The pods that are ready and not evicted.
fn healthy(pods: &[Arc<Pod>], evicted: &std::collections::BTreeSet<usize>) -> Vec<usize> {
    (0..pods.len()).filter(|index| !evicted.contains(index) && crate::endpoints::is_ready(&pods[*index])).collect()
}
