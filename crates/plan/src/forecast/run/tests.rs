//! Golden forecasts.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::statefulset::Observed;

/// A set called `web` with these fields of its spec besides the usual ones.
fn set(fields: Value) -> StatefulSet {
    let mut spec = json!({"replicas": 3, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "v1"}]}}});
    merge(&mut spec, fields);
    let set = json!({"metadata": {"name": "web", "namespace": "default", "uid": "set", "generation": 1}, "spec": spec});
    serde_json::from_value(set).unwrap()
}

fn merge(into: &mut Value, fields: Value) {
    match (into, fields) {
        (Value::Object(into), Value::Object(fields)) => {
            fields.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, fields) => *into = fields,
    }
}

fn image(image: &str) -> Value {
    json!({"template": {"spec": {"containers": [{"name": "main", "image": image}]}}})
}

fn present(world: World, before: Option<Arc<StatefulSet>>) -> Present {
    let (claims, neighbours, budgets) = (BTreeMap::new(), Vec::new(), Vec::new());
    Present { world, before, claims, neighbours, budgets, places: None, new_pods: NewPods::BecomeReady }
}

/// What would be there when a set was created and left alone for a day.
fn settled(set: StatefulSet) -> World {
    let observed = Observed {
        kind: Default::default(),
        set: set.into(),
        pods: Vec::new(),
        claims: Default::default(),
        revisions: Vec::new(),
        running_hooks: Default::default(),
        hook_pods: Default::default(),
    };
    let mut run = Run::new(&present(World::new(observed, "2030-01-01T00:00:00Z".parse().unwrap()), None));
    assert_eq!(run.until_the_end(), Verdict::Completes);
    run.world.now += SignedDuration::from_hours(24);
    run.world
}

/// A settled set of this spec with a changed one.
fn changed(from: Value, to: Value) -> Present {
    let mut world = settled(set(from.clone()));
    let before = world.set.clone();
    let mut fields = from;
    merge(&mut fields, to);
    world.change_spec(|spec| *spec = set(fields).spec.unwrap());
    present(world, Some(before))
}

/// The steps without those that say that a pod is gone, and the verdict. Revisions are called by the image they have.
fn lines(present: Present) -> Vec<String> {
    let mut run = Run::new(&present);
    let verdict = run.until_the_end();
    let mut names: Vec<(String, String)> = Vec::new();
    for (name, revision) in &run.world.revisions {
        let image = crate::statefulset::template_in(revision).unwrap()["spec"]["containers"][0]["image"].as_str().unwrap();
        names.push((name.clone(), image.to_owned()));
    }
    let told = run.steps.iter().filter(|step| !matches!(step, Step::AwaitGone { .. })).map(ToString::to_string);
    let told = told.chain([verdict.to_string()]);
    told.map(|line| names.iter().fold(line, |line, (name, image)| line.replace(name, image))).collect()
}

#[test]
fn an_update_goes_down_to_the_partition() {
    let expected = [
        "record revision v2",
        "delete web-2: its image changes",
        "create web-2 at revision v2",
        "wait for web-2 to become Ready",
        "delete web-1: its image changes",
        "create web-1 at revision v2",
        "wait for web-1 to become Ready",
        "then it keeps 1 pods below the partition at the current revision",
    ];
    let partition = json!({"updateStrategy": {"rollingUpdate": {"partition": 1}}});
    assert_eq!(lines(changed(partition, image("v2"))), expected);
}

#[test]
fn a_scale_down_takes_claims_along_if_the_policy_says_so() {
    let claims = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"}});
    let expected = [
        "let claim data-web-2 go with Pod web-2",
        "let claim data-web-1 go with Pod web-1",
        "delete web-2: its ordinal is no longer wanted",
        "claim data-web-2 is deleted",
        "delete web-1: its ordinal is no longer wanted",
        "claim data-web-1 is deleted",
        "then it is as desired",
    ];
    let present = changed(claims, json!({"replicas": 1}));
    assert_eq!(lines(present.clone()), expected);
    let forecast = foresee(present);
    assert_eq!(forecast.totals, Totals { restarts: 0, created: 0, removed: 2 });
    let fates: Vec<_> = forecast.claims.iter().map(|outlook| &outlook.fate).collect();
    assert_eq!(fates, [&claims::Fate::Kept, &claims::Fate::Lost, &claims::Fate::Lost]);
    assert_eq!(forecast.changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["spec.replicas: 3 -> 1"]);
}

#[test]
fn a_hook_that_is_a_pod_is_told_of_as_one_step() {
    let gate = json!({"job": {"template": {"spec": {"containers": [{"name": "leave", "image": "tools"}]}}}});
    let mut present = changed(json!({"replicas": 1}), image("v2"));
    present.world.annotate(kinds::gate::PRE_DELETE, &gate.to_string());
    let lines = lines(present);
    assert!(lines[1].starts_with("run the pre-delete hook of pod web-0 as pod web-0-hook-"), "{lines:?}");
    let rest =
        ["delete web-0: its image changes", "create web-0 at revision v2", "wait for web-0 to become Ready", "then it is as desired"];
    assert_eq!(lines[2..], rest);
}

#[test]
fn nothing_changes_without_a_change() {
    assert_eq!(lines(changed(json!({}), json!({}))), ["then it is as desired"]);
}

#[test]
fn pods_that_never_become_ready_stop_the_update_at_the_first() {
    let present = Present { new_pods: NewPods::NeverReady, ..changed(json!({}), image("v2")) };
    let expected = [
        "record revision v2",
        "delete web-2: its image changes",
        "create web-2 at revision v2",
        "it would never finish: it waits for web-2 to become Ready",
    ];
    assert_eq!(lines(present), expected);
}

#[test]
fn a_pod_that_lost_its_readiness_today_is_waited_for() {
    let mut present = changed(json!({}), image("v2"));
    let since = Time(present.world.now);
    present.world.change_pod("web-0", |pod| {
        let ready = pod.status.as_mut().unwrap().conditions.as_mut().unwrap().iter_mut().find(|condition| condition.type_ == "Ready");
        let ready = ready.unwrap();
        (ready.status, ready.last_transition_time, ready.message) = ("False".to_owned(), Some(since), Some("probe failed".to_owned()));
    });
    let expected = ["record revision v2", "it would never finish: it waits for web-0 to become Ready: probe failed"];
    assert_eq!(lines(present.clone()), expected);
    assert_eq!(foresee(present).presumed_unready, ["web-0"]);
}

#[test]
fn a_pod_that_no_node_takes_stops_the_update() {
    let mut present = changed(json!({}), json!({"template": {"spec": {"nodeSelector": {"disk": "fast"}}}}));
    let node = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "4", "pods": "9"}}})).unwrap();
    let pods: Vec<_> = present.world.pods.values().cloned().collect();
    present.places = Some(Places::new(&[node], &[], &pods, Vec::new(), Vec::new()));
    let lines = lines(present);
    let end = "it would never finish: it waits for web-2 to become Ready: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    assert_eq!(lines.last().unwrap(), end);
    assert!(lines.contains(&"delete web-2: its nodeSelector changes".to_owned()), "{lines:?}");
}

#[test]
fn seconds_of_readiness_are_waited_for() {
    let lines = lines(changed(json!({"minReadySeconds": 30, "replicas": 2}), image("v2")));
    assert_eq!(lines.iter().filter(|line| line.starts_with("wait ") && line.ends_with("s for it to stay Ready")).count(), 2, "{lines:?}");
    assert_eq!(lines.last().unwrap(), "then it is as desired");
}

#[test]
fn an_update_by_hand_waits_for_hands() {
    let on_delete = json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}});
    let expected = ["record revision v2", "then it waits for web-2 and 2 more to be deleted by hand, as updateStrategy OnDelete asks"];
    assert_eq!(lines(changed(on_delete, image("v2"))), expected);
}

#[test]
fn a_budget_that_allows_less_than_the_update_takes_is_told() {
    let mut present =
        changed(json!({"podManagementPolicy": "Parallel", "updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}}), image("v2"));
    let budget = json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    present.budgets = vec![serde_json::from_value(budget).unwrap()];
    let forecast = foresee(present);
    let expected = BudgetOutlook { name: "web".to_owned(), allowed_now: 1, allowed_least: 0, exceeded_by: vec!["web-1".to_owned()] };
    assert_eq!(forecast.budgets, [expected]);
    assert_eq!(forecast.totals, Totals { restarts: 3, created: 0, removed: 0 });
}
