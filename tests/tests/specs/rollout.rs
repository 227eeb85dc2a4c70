//! Rolling updates and the way back.

use serde_json::{Value, json};

use crate::workload::{Workload, image, is_ready, revision, web, with_claims};

/// Upstream: rolling updates and roll backs of template modifications.
#[test]
fn an_update_goes_down_one_by_one_halts_at_an_unready_pod_and_can_be_taken_back() {
    let Some(work) = Workload::new("rollout") else { return };
    update_and_roll_back(&work, &web(3));
}

/// Upstream: the same with claims.
#[test]
fn an_update_of_pods_with_claims_goes_down_one_by_one_and_can_be_taken_back() {
    let Some(work) = Workload::new("rollout-claims") else { return };
    update_and_roll_back(&work, &with_claims(3));
    assert_eq!(work.list("persistentvolumeclaims").len(), 3);
}

fn update_and_roll_back(work: &Workload, set: &Value) {
    let set = work.run(set);
    let first = set["status"]["currentRevision"].clone();
    assert_eq!(set["status"]["updateRevision"], first);
    assert_eq!(work.revisions(), [first.as_str().unwrap_or_default(); 3]);
    work.break_readiness(1);
    let mut history = work.history();
    work.change_image("busybox:2");
    let halted = work.observed();
    assert_eq!(halted["status"]["currentRevision"], first);
    assert_ne!(halted["status"]["updateRevision"], first);
    assert_eq!(work.images(), ["busybox:1"; 3]);
    work.mend_readiness(1);
    let second = work.rolled_out()["status"]["updateRevision"].clone();
    assert_eq!(work.images(), ["busybox:2"; 3]);
    assert_eq!(work.revisions(), [second.as_str().unwrap_or_default(); 3]);
    assert_eq!(work.shell("ss-0", "cat /second"), "2");
    assert_eq!(history.names("ADDED", 3), ["ss-2", "ss-1", "ss-0"]);
    let steps = history.until("ss-0 is ready", |step| step.name() == "ss-0" && is_ready(&step.pod) && image(&step.pod) == "busybox:2");
    for step in steps.iter().filter(|step| step.condemns()) {
        assert!(step.had_ready(0..3), "{} was told to go while another pod was not ready", step.name());
    }
    // The way back leads to the revision of before, not to a third one.
    work.break_readiness(1);
    work.change_image("busybox:1");
    assert_eq!(work.observed()["status"]["updateRevision"], first);
    work.mend_readiness(1);
    assert_eq!(work.rolled_out()["status"]["currentRevision"], first);
    assert_eq!(work.images(), ["busybox:1"; 3]);
    assert_eq!(work.list("controllerrevisions").len(), 2);
    assert_eq!(history.names("ADDED", 6)[3..], ["ss-2", "ss-1", "ss-0"]);
}

/// Without an update block a pod that is lost in the middle of a rollout comes back as what it was, unless its turn has come.
#[test]
fn a_pod_that_is_lost_during_an_update_comes_back_at_the_revision_its_turn_says() {
    let Some(work) = Workload::new("lost-in-rollout") else { return };
    let set = work.run(&web(3));
    let first = set["status"]["currentRevision"].clone();
    let before = work.pod(0);
    work.break_readiness(1);
    work.change_image("busybox:2");
    work.observed();
    work.delete("pods/ss-0");
    let back = work.replaced(0, &before);
    assert_eq!([revision(&back), image(&back)], [first.as_str().unwrap_or_default(), "busybox:1"]);
    work.mend_readiness(1);
    work.rolled_out();
    assert_eq!(work.images(), ["busybox:2"; 3]);
}

/// History: its limit, and that a template which only looks different is no new revision.
#[test]
fn the_history_keeps_as_many_old_revisions_as_asked_and_knows_equal_templates() {
    let Some(work) = Workload::new("history") else { return };
    let mut set = web(1);
    set["spec"]["revisionHistoryLimit"] = json!(1);
    work.run(&set);
    for round in 0..3 {
        work.change(json!({"template": {"metadata": {"annotations": {"round": round.to_string()}}}}));
        work.rolled_out();
    }
    work.until("one old revision is left", || work.list("controllerrevisions").len() == 2);
    let mut numbers: Vec<_> = work.list("controllerrevisions").iter().filter_map(|revision| revision["revision"].as_i64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4]);
    let before = work.set();
    let pod = work.pod(0);
    work.change(json!({"template": {"spec": {"nodeSelector": {}, "tolerations": [], "volumes": []}}}));
    let after = work.observed();
    assert_eq!(after["status"]["updateRevision"], before["status"]["updateRevision"]);
    assert_eq!(work.pod(0)["metadata"]["uid"], pod["metadata"]["uid"]);
}

/// A revision of somebody else that has the name ours would get is passed over.
#[test]
fn a_revision_whose_name_is_taken_gets_another_name() {
    let Some(work) = Workload::new("collision") else { return };
    let taken = work.run(&web(1))["status"]["currentRevision"].as_str().expect("a revision").to_owned();
    work.kubectl(&["delete", "statefulset", "ss", "--cascade=foreground"]);
    work.until("the history is gone", || work.list("controllerrevisions").is_empty());
    work.create("controllerrevisions", &json!({"metadata": {"name": taken}, "revision": 1, "data": {"foreign": true}}));
    let set = work.run(&web(1));
    assert_ne!(set["status"]["currentRevision"], taken.as_str());
    assert_eq!(set["status"]["collisionCount"], 1);
    assert_eq!(work.revisions()[0], set["status"]["currentRevision"].as_str().unwrap_or_default());
}
