use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::*;

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn after(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

fn node(ready: &str, spec: Value) -> Node {
    let conditions = json!([{"type": "Ready", "status": ready, "lastHeartbeatTime": "1970-01-01T00:00:00Z"}]);
    serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}})).unwrap()
}

fn heard(seconds: i64) -> Heard {
    Heard { at: after(seconds), has_lease: true }
}

/// Plans and writes until nothing is left to write.
fn settled(mut node: Node, heard: Heard, now: Timestamp) -> Node {
    for _ in 0..4 {
        match plan_node(&node, heard, now).write {
            Some(NodeWrite::Status(new) | NodeWrite::Taints(new)) => node = *new,
            None => return node,
        }
    }
    panic!("the plan never ends");
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.map(|taint| format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect)).collect()
}

#[test]
fn a_node_that_is_heard_in_time_is_left_alone_until_its_deadline() {
    let plan = plan_node(&node("True", json!({})), heard(10), after(49));
    assert_eq!((plan.write, plan.recheck_at), (None, Some(after(50))));
}

#[test]
fn a_silent_node_becomes_unknown_and_unreachable_and_recovers_when_it_speaks() {
    let lost = settled(node("True", json!({})), heard(0), after(40));
    let conditions = lost.status.clone().unwrap().conditions.unwrap();
    assert!(conditions.len() == 4 && conditions.iter().all(|condition| condition.status == "Unknown"));
    assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
    assert_eq!(taints(&lost), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
    let mut back = lost;
    back.status.as_mut().unwrap().conditions.as_mut().unwrap().iter_mut().for_each(|condition| {
        condition.status = if condition.type_ == "Ready" { "True".into() } else { "False".into() };
    });
    assert!(taints(&settled(back, heard(41), after(42))).is_empty());
}

#[test]
fn conditions_and_cordons_become_taints_beside_those_of_others() {
    let spec = json!({"unschedulable": true, "taints": [{"key": "mine", "effect": "NoSchedule"}]});
    let node = settled(node("False", spec), heard(0), after(1));
    assert_eq!(taints(&node), ["mine:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute", "unschedulable:NoSchedule"]);
}

#[test]
fn a_simulated_node_without_a_lease_is_not_judged() {
    let mut simulated = node("True", json!({}));
    simulated.metadata.annotations.get_or_insert_default().insert("steadfast.dev/simulated".into(), "true".into());
    let silent = Heard { at: START, has_lease: false };
    assert_eq!(plan_node(&simulated, silent, after(1000)), NodePlan::default());
    assert!(plan_node(&simulated, heard(0), after(1000)).write.is_some());
}

fn pod(name: &str, tolerations: Value) -> Arc<Pod> {
    let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let spec = json!({"nodeName": "n", "containers": [], "tolerations": tolerations});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": status})).unwrap())
}

fn evicted(plan: &PodsPlan) -> Vec<&str> {
    plan.evictions.iter().filter_map(|eviction| eviction.pod.metadata.name.as_deref()).collect()
}

#[test]
fn pods_go_when_they_have_tolerated_enough() {
    let lost = settled(node("True", json!({})), heard(0), after(40));
    let patient = |seconds: i64| json!([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": seconds}]);
    let pods = [pod("silent", json!([])), pod("hasty", patient(5)), pod("loyal", json!([{"operator": "Exists"}]))];
    let plan = plan_pods(&lost, &pods, true, after(44));
    assert_eq!((plan.unready.len(), evicted(&plan), plan.recheck_at), (3, vec![], Some(after(45))));
    assert_eq!(evicted(&plan_pods(&lost, &pods, true, after(45))), ["hasty"]);
    let late = plan_pods(&lost, &pods, true, after(340));
    assert_eq!((evicted(&late), late.recheck_at), (vec!["silent", "hasty"], None));
    assert!(plan_pods(&lost, &pods, false, after(340)).evictions.is_empty(), "nobody is healthy");
}

#[test]
fn a_taint_that_nobody_tolerates_evicts_at_once() {
    let node = node("True", json!({"taints": [{"key": "out", "effect": "NoExecute"}]}));
    let plan = plan_pods(&node, &[pod("a", json!([]))], true, after(0));
    assert_eq!((evicted(&plan), plan.unready.len()), (vec!["a"], 0));
}

#[test]
fn pods_without_a_node_that_exists_are_strays() {
    let bound = pod("a", json!([]));
    assert!(is_stray(&bound, |_| false) && !is_stray(&bound, |name| name == "n"));
    let ending: Pod = serde_json::from_value(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})).unwrap();
    assert!(is_unassigned_and_ending(&ending) && !is_unassigned_and_ending(&bound) && !is_stray(&ending, |_| false));
}
