//! Pre-delete hooks that are pods of their own.

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kinds::gate::{EVICTION_REQUESTED, PASSED, PRE_DELETE, PROGRESS, Progress};
use serde_json::{Value, json};

use super::super::{Action, Observed, Plan, plan};
use super::builders::*;

const BEGINS: &str = "mark pod web-2: its pre-delete hook for Update begins";
const WAITS: &str = "waits for the pre-delete hook of web-2 for Update";
const DELETED: &str = "delete pod web-2: it is at rev-1, wanted is rev-2";

fn gated(more: Value) -> SetBuilder {
    let own = json!([{"name": "REASON", "value": "mine"}, {"name": "URL", "value": "http://$(POD_IP)"}]);
    let containers = json!([{"name": "leave", "image": "tools"}, {"name": "other", "image": "tools", "env": own}]);
    let spec = json!({"containers": containers, "initContainers": [{"name": "first", "image": "tools"}]});
    let mut gate = json!({"job": {"template": {"metadata": {"labels": {"job": "leave"}}, "spec": spec}}, "timeoutSeconds": 30});
    gate.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    set(3).annotated(PRE_DELETE, &gate.to_string())
}

/// On the way to `rev-2`, with what is on record about the highest pod.
fn updating(set: SetBuilder, record: Option<&Progress>) -> Observed {
    let highest = pod("web-2");
    let highest = record.map_or(highest.clone(), |record| highest.annotated(PROGRESS, &record.text()));
    updating_with(set, highest)
}

fn updating_with(set: SetBuilder, mut highest: PodBuilder) -> Observed {
    highest.0.status.get_or_insert_default().pod_ip = Some("10.0.0.9".to_owned());
    let revisions = vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")];
    observed(set.image("v2").at("rev-1", "rev-2"), revisions, vec![pod("web-0"), pod("web-1"), highest])
}

/// Begun so many seconds ago.
fn begun(seconds: i64) -> Progress {
    Progress::begun("Update rev-2".to_owned(), ago(seconds).0)
}

fn created(plan: &Plan) -> Option<Pod> {
    plan.actions.iter().find_map(|action| match action {
        Action::CreateHookPod { pod, .. } => Some((**pod).clone()),
        _ => None,
    })
}

/// The pod that would be created for this record, so many seconds ago, with this status.
fn hook_pod(record: &Progress, seconds: i64, status: Value) -> Arc<Pod> {
    let mut pod = created(&plan(&updating(gated(json!({})), Some(record)), now())).expect("a pod for the hook");
    pod.metadata.uid = Some("uid-hook".to_owned());
    pod.metadata.creation_timestamp = Some(ago(seconds));
    pod.status = Some(serde_json::from_value(status).unwrap());
    Arc::new(pod)
}

fn with(mut observed: Observed, hook_pods: Vec<Arc<Pod>>) -> Observed {
    observed.hook_pods = hook_pods;
    observed
}

fn seen(record: &Progress, pod: Arc<Pod>) -> Plan {
    plan(&with(updating(gated(json!({})), Some(record)), vec![pod]), now())
}

fn marked(plan: &Plan) -> Vec<(&'static str, Option<String>)> {
    plan.actions
        .iter()
        .find_map(|action| if let Action::MarkPod { annotations, .. } = action { Some(annotations.clone()) } else { None })
        .unwrap()
}

#[test]
fn a_try_is_put_on_record_before_its_pod_is_created() {
    let first = plan(&updating(gated(json!({})), None), now());
    assert_eq!(lines(&first), [BEGINS, WAITS]);
    let marks = marked(&first);
    assert_eq!(marks[1], (PASSED, None), "an earlier pass was for something else");
    let record: Progress = serde_json::from_str(marks[0].1.as_deref().unwrap()).unwrap();
    let second = plan(&updating(gated(json!({})), Some(&record)), now());
    let name = created(&second).unwrap().metadata.name.unwrap();
    assert_eq!(lines(&second), [format!("run the pre-delete hook of pod web-2 as pod {name}"), WAITS.to_owned()]);
    let again = plan(&updating(gated(json!({})), Some(&record)), now() + SignedDuration::from_secs(5));
    assert_eq!(created(&again).unwrap().metadata.name, Some(name), "the same try has the same pod");
}

#[test]
fn the_pod_of_a_hook_belongs_to_the_pod_that_goes_and_is_told_of_it() {
    let hook = created(&plan(&updating(gated(json!({})), Some(&begun(0))), now())).unwrap();
    let labels = hook.metadata.labels.unwrap();
    assert_eq!(
        labels,
        [("job", "leave"), ("steadfast.dev/hook-for", "web-2")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    );
    assert_eq!(hook.metadata.owner_references, Some(vec![owner("v1", "Pod", "web-2", "uid-web-2")]));
    let spec = hook.spec.unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    let env = |container: &k8s_openapi::api::core::v1::Container| {
        let variables = container.env.iter().flatten();
        variables.map(|variable| format!("{}={}", variable.name, variable.value.clone().unwrap_or_default())).collect::<Vec<_>>()
    };
    let told = ["POD_NAME=web-2", "POD_IP=10.0.0.9", "ORDINAL=2", "REASON=Update", "REPLICAS=3"];
    assert_eq!(
        (env(&spec.containers[0]), env(&spec.init_containers.unwrap()[0])),
        (told.map(String::from).into(), told.map(String::from).into())
    );
    let own = ["POD_NAME=web-2", "POD_IP=10.0.0.9", "ORDINAL=2", "REPLICAS=3", "REASON=mine", "URL=http://$(POD_IP)"];
    assert_eq!(env(&spec.containers[1]), own, "what the template itself says stays");
}

#[test]
fn every_try_has_a_name_of_its_own_that_fits() {
    let name = |record: &Progress| created(&plan(&updating(gated(json!({})), Some(record)), now())).unwrap().metadata.name.unwrap();
    let failed = begun(100).failed("no".to_owned(), ago(90).0);
    let names = [name(&begun(100)), name(&begun(99)), name(&failed)];
    assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2], "{names:?}");
    let long = "a-very-long-name-of-a-set-".repeat(2) + "with-it";
    let mut observed = updating(gated(json!({})), Some(&begun(0)));
    Arc::make_mut(&mut observed.set).metadata.name = Some(long.clone());
    for pod in &mut observed.pods {
        let pod = Arc::make_mut(pod);
        let name = pod.metadata.name.as_ref().unwrap().replace("web", &long);
        pod.metadata.labels.as_mut().unwrap().insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
        pod.metadata.name = Some(name);
    }
    let name = created(&plan(&observed, now())).unwrap().metadata.name.unwrap();
    assert!(name.len() <= 63 && name.starts_with("a-very-long-name") && name.contains("-hook-"), "{name}");
}

#[test]
fn a_hook_that_succeeded_lets_the_pod_go_and_its_own_pod_with_it() {
    let hook = hook_pod(&begun(5), 4, json!({"phase": "Succeeded"}));
    let name = hook.metadata.name.clone().unwrap();
    let plan_of = seen(&begun(5), hook.clone());
    assert_eq!(lines(&plan_of), ["mark pod web-2: its pre-delete hook for Update succeeded", WAITS]);
    let marks = marked(&plan_of).into_iter().fold(pod("web-2"), |pod, (key, value)| pod.annotated(key, &value.unwrap()));
    let after = plan(&with(updating_with(gated(json!({})), marks), vec![hook]), now());
    assert_eq!(lines(&after), [DELETED.to_owned(), format!("delete pod {name} of a pre-delete hook")]);
}

#[test]
fn a_hook_that_failed_is_tried_again_by_another_pod_once_the_first_is_gone() {
    let ended = json!([{"name": "leave", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 3, "message": "no replica is in sync\n"}}}]);
    let hook = hook_pod(&begun(5), 4, json!({"phase": "Failed", "containerStatuses": ended}));
    let name = hook.metadata.name.clone().unwrap();
    let failed = seen(&begun(5), hook.clone());
    let why = "container leave ended with exit code 3: no replica is in sync";
    let waits = format!("{WAITS}: the hook failed once: {why}");
    assert_eq!(lines(&failed), [format!("mark pod web-2: its pre-delete hook for Update failed: {why}"), waits.clone()]);
    let record: Progress = serde_json::from_str(marked(&failed)[0].1.as_deref().unwrap()).unwrap();
    let dropped = format!("delete pod {name} of a pre-delete hook");
    let pause = seen(&record, hook.clone());
    assert_eq!(lines(&pause), [dropped.clone(), waits.clone()]);
    assert_eq!(pause.recheck_at, Some(now() + SignedDuration::from_secs(1)));
    let later = now() + SignedDuration::from_secs(2);
    let early = plan(&with(updating(gated(json!({})), Some(&record)), vec![hook]), later);
    assert_eq!(lines(&early), [dropped, waits.clone()], "not beside the first");
    let next = plan(&updating(gated(json!({})), Some(&record)), later);
    assert!(created(&next).unwrap().metadata.name != Some(name));
}

#[test]
fn what_keeps_the_pod_of_a_hook_from_starting_is_told_until_its_time_is_over() {
    let waiting = json!([{"name": "leave", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]);
    let trouble = "container leave: ImagePullBackOff: no such image";
    let hook = hook_pod(&begun(5), 4, json!({"phase": "Pending", "containerStatuses": waiting}));
    let told = seen(&begun(5), hook.clone());
    assert_eq!(lines(&told), [format!("{WAITS}: the pod of the hook: {trouble}")]);
    assert_eq!(told.recheck_at, Some(now() + SignedDuration::from_secs(26)));
    let unscheduled = json!([{"type": "PodScheduled", "status": "False", "message": "no node has room"}]);
    let homeless = seen(&begun(5), hook_pod(&begun(5), 4, json!({"phase": "Pending", "conditions": unscheduled})));
    assert_eq!(lines(&homeless), [format!("{WAITS}: the pod of the hook: no node has room")]);

    let over = plan(&with(updating(gated(json!({})), Some(&begun(5))), vec![hook.clone()]), now() + SignedDuration::from_secs(26));
    let why = format!("it did not end within 30 s: {trouble}");
    assert_eq!(lines(&over)[0], format!("mark pod web-2: its pre-delete hook for Update failed: {why}"));
    let record: Progress = serde_json::from_str(marked(&over)[0].1.as_deref().unwrap()).unwrap();
    let name = hook.metadata.name.clone().unwrap();
    assert_eq!(lines(&seen(&record, hook))[0], format!("delete pod {name} of a pre-delete hook"));
}

#[test]
fn a_pod_that_somebody_deletes_decides_nothing() {
    let mut hook = Pod::clone(&hook_pod(&begun(5), 4, json!({"phase": "Succeeded"})));
    hook.metadata.deletion_timestamp = Some(ago(1));
    assert_eq!(lines(&seen(&begun(5), Arc::new(hook))), [WAITS]);
    assert!(created(&plan(&updating(gated(json!({})), Some(&begun(5))), now())).is_some(), "once it is gone, it is run anew");
}

#[test]
fn where_the_set_asks_for_it_the_pod_goes_without_a_hook_that_does_not_end() {
    let proceed = || gated(json!({"onTimeout": "Proceed"}));
    // The second try began late.
    let record = begun(25).failed("no".to_owned(), ago(20).0);
    let hook = hook_pod(&record, 10, json!({"phase": "Running"}));
    let early = plan(&with(updating(proceed(), Some(&record)), vec![hook.clone()]), now());
    assert_eq!((lines(&early).len(), early.recheck_at), (1, Some(now() + SignedDuration::from_secs(5))));
    let over = plan(&with(updating(proceed(), Some(&record)), vec![hook]), now() + SignedDuration::from_secs(5));
    assert_eq!(lines(&over)[0], "mark pod web-2: its pre-delete hook for Update had its time");
}

#[test]
fn the_pod_of_a_hook_goes_with_the_wish_and_the_marks_after_it() {
    let hook = hook_pod(&begun(5), 4, json!({"phase": "Running"}));
    let name = hook.metadata.name.clone().unwrap();
    let stays = |set: SetBuilder| {
        let pods = vec![pod("web-0"), pod("web-1"), pod("web-2").annotated(PROGRESS, &begun(5).text())];
        lines(&plan(&with(observed(set.at("rev-1", "rev-1"), vec![revision("rev-1", 1, "v1")], pods), vec![hook.clone()]), now()))
    };
    let gone = [format!("delete pod {name} of a pre-delete hook"), "mark pod web-2: it is not to be taken away any more".to_owned()];
    assert_eq!(stays(gated(json!({}))), gone);
    assert_eq!(stays(set(3)), gone, "nor does one without a gate stay");
    // Another purpose: its try begins when the first is gone.
    let other = Progress::begun("Update rev-0".to_owned(), ago(5).0);
    let turned = seen(&other, hook);
    assert_eq!(lines(&turned), [BEGINS.to_owned(), gone[0].clone(), WAITS.to_owned()]);
}

#[test]
fn a_pod_of_a_hook_that_would_be_one_of_the_sets_is_not_created() {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let set = set(3).annotated(PRE_DELETE, &json!({"job": {"template": template}}).to_string());
    let lines = lines(&plan(&updating(set, Some(&begun(0))), now()));
    assert_eq!(lines, [format!("{WAITS}: the labels of the hook's pod match the selector of the set")]);
}

#[test]
fn evictions_are_prepared_one_after_the_other() {
    let asked = |name: &str| pod(name).annotated(EVICTION_REQUESTED, &ago(5).0.to_string());
    let begins = "mark pod web-0: its pre-delete hook for Eviction begins";
    let waits = "waits for the pre-delete hook of web-0 for Eviction";
    assert_eq!(planned(gated(json!({})), vec![asked("web-0"), asked("web-1"), pod("web-2")]), [begins, waits]);
    let hook = hook_pod(&begun(5), 4, json!({"phase": "Running"}));
    let record = asked("web-2").annotated(PROGRESS, &begun(5).text());
    let pods = vec![asked("web-0"), pod("web-1"), record];
    let revisions = || vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")];
    let updating = observed(gated(json!({})).image("v2").at("rev-1", "rev-2"), revisions(), pods);
    assert_eq!(lines(&plan(&with(updating, vec![hook]), now())), [WAITS], "not beside the hook of an update");
}
