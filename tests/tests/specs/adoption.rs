//! Which pods and revisions are the set's.

use serde_json::{Value, json};

use crate::workload::{Workload, uid, web};

fn controller(pod: &Value) -> Option<&Value> {
    pod["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}

fn is_owned(pod: &Value, set: &Value) -> bool {
    controller(pod).is_some_and(|owner| owner["kind"] == "StatefulSet" && owner["name"] == "ss" && owner["uid"] == set["metadata"]["uid"])
}

/// Upstream: a set adopts matching orphans and releases pods that do not match.
#[test]
fn an_orphan_that_matches_is_adopted_and_a_pod_that_does_not_match_is_released() {
    let Some(work) = Workload::new("adoption") else { return };
    let set = work.run(&web(1));
    let before = work.pod(0);
    assert!(is_owned(&before, &set));
    work.patch("pods/ss-0", json!({"metadata": {"ownerReferences": []}}));
    work.until_pod(0, "is adopted again", |pod| is_owned(pod, &set));
    work.patch("pods/ss-0", json!({"metadata": {"labels": {"app": null}}}));
    let released = work.until_pod(0, "is released", |pod| controller(pod).is_none());
    assert_eq!(uid(&released), uid(&before));
    work.patch("pods/ss-0", json!({"metadata": {"labels": {"app": "ss"}}}));
    let adopted = work.until_pod(0, "is adopted once more", |pod| is_owned(pod, &set));
    assert_eq!(uid(&adopted), uid(&before));
}

/// The usual way to change what can't be changed: the set goes without its pods, and a new one takes them over.
#[test]
fn a_set_that_was_deleted_alone_finds_its_pods_and_history_again() {
    let Some(work) = Workload::new("orphans") else { return };
    let set = work.run(&web(2));
    let before = [work.pod(0), work.pod(1)];
    work.kubectl(&["delete", "statefulset", "ss", "--cascade=orphan"]);
    assert!(work.find("statefulsets/ss").is_none());
    work.until("the pods and the revision have no owner", || {
        let owned = work.list("pods").into_iter().chain(work.list("controllerrevisions"));
        owned.filter(|object| controller(object).is_some()).count() == 0
    });
    let mut changed = web(2);
    changed["spec"]["podManagementPolicy"] = json!("Parallel");
    let again = work.run(&changed);
    assert_ne!(uid(&again), uid(&set));
    for (ordinal, before) in (0..).zip(&before) {
        let adopted = work.until_pod(ordinal, "is adopted", |pod| is_owned(pod, &again));
        assert_eq!(uid(&adopted), uid(before));
    }
    assert_eq!(again["status"]["currentRevision"], set["status"]["currentRevision"]);
    let revisions = work.list("controllerrevisions");
    assert_eq!(revisions.len(), 1);
    assert!(is_owned(&revisions[0], &again));
}

/// A pod of somebody else is left alone, and so is its name.
#[test]
fn a_pod_that_has_another_controller_is_not_taken_over() {
    let Some(work) = Workload::new("foreign-pod") else { return };
    let other = work.create("configmaps", &json!({"metadata": {"name": "other"}}));
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": other["metadata"]["uid"], "controller": true});
    let container = json!({"name": "main", "image": "busybox:1", "command": ["sleep", "100000"]});
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
    let metadata = json!({"name": "ss-0", "labels": {"app": "ss"}, "ownerReferences": [owner]});
    let foreign = work.create("pods", &json!({"metadata": metadata, "spec": spec}));
    work.create("statefulsets", &web(1));
    assert_eq!(work.observed()["status"]["replicas"], 0);
    assert_eq!(uid(&work.pod(0)), uid(&foreign));
    // Once the name is free, the set uses it.
    work.delete("pods/ss-0");
    work.settled();
    assert!(is_owned(&work.pod(0), &work.set()));
}
