use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

use super::super::tests::merge;
use super::*;

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

/// A pod with a main container, an init container and a sidecar, changed by a merge patch.
fn pod(change: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u", "resourceVersion": "5", "generation": 1},
        "spec": {
            "nodeName": "simulated-0",
            "initContainers": [{"name": "init", "image": "i"}, {"name": "side", "image": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "c", "image": "redis:8"}],
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    });
    merge(&mut pod, &change);
    serde_json::from_value(pod).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn planned(pod: &Pod, age: u64, now: i64) -> Plan {
    plan(&Observed { pod, host: HOST, address: Some(ADDRESS), age: Duration::from_secs(age) }, at(now))
}

fn reported(plan: Plan) -> PodStatus {
    match plan.action {
        Some(Action::ReportPod { status, .. }) => *status,
        other => panic!("{other:?}"),
    }
}

/// As the server has it after the report.
fn applied(pod: &Pod, plan: Plan) -> Pod {
    let status = serde_json::to_value(reported(plan)).unwrap();
    Pod { status: Some(serde_json::from_value(status).unwrap()), ..pod.clone() }
}

fn annotated(name: &str, value: &str) -> Pod {
    pod(json!({"metadata": {"annotations": {name: value}}}))
}

fn false_conditions(status: &PodStatus) -> Vec<&str> {
    let conditions = status.conditions.iter().flatten().filter(|condition| condition.status != "True");
    conditions.map(|condition| condition.type_.as_str()).collect()
}

/// The waiting reason of the main container.
fn waiting(status: &PodStatus) -> Option<&str> {
    status.container_statuses.as_ref()?[0].state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

#[test]
fn a_bound_pod_is_made_ready_by_one_report() {
    let pod = pod(json!({}));
    let status = reported(planned(&pod, 0, 100));
    assert_eq!((status.phase.as_deref(), status.qos_class.as_deref()), (Some("Running"), Some("BestEffort")));
    assert_eq!((status.pod_ip.as_deref(), status.host_ip.as_deref()), (Some("10.77.0.9"), Some("10.77.0.1")));
    let conditions: Vec<_> = status.conditions.iter().flatten().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(conditions, ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]);
    assert!(false_conditions(&status).is_empty());
    assert!(status.conditions.iter().flatten().all(|condition| condition.last_transition_time == Some(Time(at(100)))));
    let main = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((main.container_id.as_deref(), main.ready, main.started), (Some("simulated://u/c-0"), true, Some(true)));
    let [init, side] = status.init_container_statuses.as_deref().unwrap() else { panic!("two init containers") };
    let state = |status: &ContainerStatus| status.state.clone().unwrap();
    assert_eq!(state(init).terminated.map(|ended| ended.exit_code), Some(0));
    assert!(state(side).running.is_some());
}

#[test]
fn a_pod_that_is_as_it_should_be_is_left_alone() {
    let delayed = annotated(READY_AFTER, "9s");
    for pod in [pod(json!({})), annotated(FAILURE, "ErrImagePull"), delayed.clone()] {
        let after = applied(&pod, planned(&pod, 0, 100));
        assert_eq!(planned(&after, 1, 900).action, None, "{after:?}");
    }
    let running = applied(&delayed, planned(&delayed, 0, 100));
    let ready = applied(&running, planned(&running, 9, 200));
    assert_eq!(planned(&ready, 10, 900), Plan::default());
}

#[test]
fn a_pod_that_has_ended_stays_as_it_is() {
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(planned(&pod(json!({"status": {"phase": phase}})), 0, 100), Plan::default());
    }
}

#[test]
fn a_pod_that_takes_time_runs_and_is_looked_at_when_it_is_due() {
    let pod = annotated(READY_AFTER, "1m 30s");
    let plan = planned(&pod, 10, 100);
    assert_eq!(plan.recheck_after, Some(Duration::from_secs(80)));
    let running = applied(&pod, plan);
    let status = running.status.as_ref().unwrap();
    assert_eq!((status.phase.as_deref(), false_conditions(status)), (Some("Running"), vec!["Ready", "ContainersReady"]));

    let status = reported(planned(&running, 90, 200));
    assert!(false_conditions(&status).is_empty());
    let since = |type_: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == type_).and_then(|condition| condition.last_transition_time.clone())
    };
    assert_eq!((since("Initialized"), since("Ready")), (Some(Time(at(100))), Some(Time(at(200)))));
}

#[test]
fn a_pod_that_is_to_fail_is_pending_or_no_longer_ready() {
    let new = annotated(FAILURE, "ImagePullBackOff");
    let status = reported(planned(&new, 0, 100));
    assert_eq!((status.phase.as_deref(), waiting(&status)), (Some("Pending"), Some("ImagePullBackOff")));

    let mut running = applied(&pod(json!({})), planned(&pod(json!({})), 0, 100));
    running.metadata.annotations.clone_from(&new.metadata.annotations);
    let status = reported(planned(&running, 5, 200));
    assert_eq!((status.phase.as_deref(), waiting(&status)), (Some("Running"), Some("ImagePullBackOff")));
    assert_eq!(false_conditions(&status), ["Ready", "ContainersReady"]);
}

#[test]
fn what_can_not_be_done_is_said_in_the_status() {
    for text in ["soon", "-2s", ""] {
        assert_eq!(waiting(&reported(planned(&annotated(READY_AFTER, text), 0, 100))), Some("InvalidAnnotation"), "{text:?}");
    }
    let pod = pod(json!({}));
    let status = reported(plan(&Observed { pod: &pod, host: HOST, address: None, age: Duration::ZERO }, at(100)));
    assert_eq!((waiting(&status), &status.pod_ip), (Some("NoAddress"), &None));
}

#[test]
fn a_readiness_gate_holds_a_pod_back_until_others_open_it() {
    let gated = pod(json!({"spec": {"readinessGates": [{"conditionType": "example.com/open"}]}}));
    let mut running = applied(&gated, planned(&gated, 0, 100));
    assert_eq!(false_conditions(running.status.as_ref().unwrap()), ["Ready"]);
    let open = PodCondition { type_: "example.com/open".to_owned(), status: "True".to_owned(), ..PodCondition::default() };
    running.status.as_mut().unwrap().conditions.as_mut().unwrap().push(open.clone());
    let status = reported(planned(&running, 1, 200));
    assert!(false_conditions(&status).is_empty() && status.conditions.unwrap().contains(&open));
}

#[test]
fn a_pod_that_is_to_go_goes_at_once_and_once_only() {
    let leaving = |change: Value| {
        let mut pod = pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}}));
        let mut meta = serde_json::to_value(&pod.metadata).unwrap();
        merge(&mut meta, &change);
        pod.metadata = serde_json::from_value(meta).unwrap();
        planned(&pod, 0, 100)
    };
    let delete = Action::DeletePod { key: ObjectKey::new("shop", "web-0"), uid: Some("u".to_owned()) };
    assert_eq!(leaving(json!({})).action, Some(delete.clone()));
    assert_eq!(leaving(json!({"finalizers": ["example.com/x"]})).action, Some(delete.clone()));
    assert_eq!(leaving(json!({"finalizers": ["example.com/x"], "deletionGracePeriodSeconds": 0})), Plan::default());
    assert_eq!(leaving(json!({"deletionGracePeriodSeconds": 0})).action, Some(delete));
}
