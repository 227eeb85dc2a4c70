//! Claims that others own as well.

use serde_json::{Value, json};

use crate::claims::retaining;
use crate::workload::{Workload, with_claims};

/// An object that can own a claim.
fn owner(work: &Workload, controls: bool) -> (Value, Value) {
    let object = work.create("configmaps", &json!({"metadata": {"name": "owner"}}));
    let uid = object["metadata"]["uid"].clone();
    (json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": controls}), uid)
}

/// Makes a claim `datadir-ss-<ordinal>` before the set does.
fn create_claim(work: &Workload, ordinal: u32, owners: &[Value]) {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}});
    let metadata = json!({"name": format!("datadir-ss-{ordinal}"), "ownerReferences": owners});
    work.create("persistentvolumeclaims", &json!({"metadata": metadata, "spec": spec}));
}

/// Upstream: claims are not deleted when another controller owns them.
#[test]
fn a_claim_that_another_controller_owns_is_left_to_it_and_the_user_is_told() {
    let Some(work) = Workload::new("claims-foreign") else { return };
    let (reference, uid) = owner(&work, true);
    create_claim(&work, 0, &[reference]);
    work.run(&retaining(with_claims(1), "Delete", "Delete"));
    work.until_owned(0, &[("ConfigMap", &uid, true)]);
    work.until("the user is told", || {
        let events = work.list("events");
        events.iter().any(|event| event["reason"] == "ConflictingController" && event["type"] == "Warning")
    });
    work.scale(0);
    work.settled();
    work.delete("statefulsets/ss");
    work.until("the set is gone", || work.find("statefulsets/ss").is_none());
    work.until_owned(0, &[("ConfigMap", &uid, true)]);
}

/// Upstream: our own references are taken off a claim that gets another controller.
#[test]
fn a_claim_that_gets_another_controller_outlives_the_set() {
    let Some(work) = Workload::new("claims-taken") else { return };
    let set = work.run(&retaining(with_claims(1), "Delete", "Retain"));
    let own = work.claim(0)["metadata"]["ownerReferences"][0].clone();
    work.until_owned(0, &[("StatefulSet", &set["metadata"]["uid"], true)]);
    let (reference, uid) = owner(&work, true);
    let mut ours = own;
    ours["controller"] = json!(false);
    work.patch("persistentvolumeclaims/datadir-ss-0", json!({"metadata": {"ownerReferences": [reference, ours]}}));
    work.until_owned(0, &[("ConfigMap", &uid, true)]);
    work.delete("statefulsets/ss");
    work.until("the pods are gone", || work.pod_names().is_empty());
    work.until_owned(0, &[("ConfigMap", &uid, true)]);
}

/// An owner that does not control the claim stays and stops nothing.
#[test]
fn an_owner_that_does_not_control_a_claim_stays_beside_the_set() {
    let Some(work) = Workload::new("claims-beside") else { return };
    let (reference, uid) = owner(&work, false);
    create_claim(&work, 0, &[reference]);
    let set = work.run(&retaining(with_claims(1), "Delete", "Retain"));
    work.until_owned(0, &[("ConfigMap", &uid, false), ("StatefulSet", &set["metadata"]["uid"], true)]);
}

/// Upstream: claims are deleted by whenDeleted after the pods were adopted.
#[test]
fn claims_follow_the_policy_of_the_set_that_adopted_their_pods() {
    let Some(work) = Workload::new("claims-adopted") else { return };
    let old = work.run(&retaining(with_claims(2), "Delete", "Retain"));
    // The references to a set that goes alone are removed with it.
    work.kubectl(&["delete", "statefulset", "ss", "--cascade=orphan"]);
    let new = work.run(&retaining(with_claims(2), "Delete", "Retain"));
    assert_ne!(old["metadata"]["uid"], new["metadata"]["uid"]);
    for ordinal in 0..2 {
        work.until_owned(ordinal, &[("StatefulSet", &new["metadata"]["uid"], true)]);
    }
    work.delete("statefulsets/ss");
    work.until("the claims are gone", || work.claim_names().is_empty());
}

/// Upstream: claims are deleted by OnScaledown after the pods were adopted.
#[test]
fn claims_of_adopted_pods_go_with_their_ordinal() {
    let Some(work) = Workload::new("claims-adopted-scaled") else { return };
    work.run(&with_claims(2));
    work.kubectl(&["delete", "statefulset", "ss", "--cascade=orphan"]);
    work.run(&retaining(with_claims(2), "Retain", "Delete"));
    work.scale(1);
    work.until("one claim is left", || work.claim_names() == ["datadir-ss-0"]);
}

/// A reference that does not control is made one that does; one to an earlier object of the name is left alone.
#[test]
fn a_reference_without_control_is_mended_and_a_stale_one_is_waited_for() {
    let Some(work) = Workload::new("claims-stale") else { return };
    let set = work.run(&retaining(with_claims(1), "Delete", "Delete"));
    let uid = &set["metadata"]["uid"];
    let mut reference = work.claim(0)["metadata"]["ownerReferences"][0].clone();
    reference["controller"] = json!(false);
    work.patch("persistentvolumeclaims/datadir-ss-0", json!({"metadata": {"ownerReferences": [reference]}}));
    work.until_owned(0, &[("StatefulSet", uid, true)]);
    // The claim of a pod that was scaled away and is held up: a new pod waits for a new claim.
    const HOLD: &str = "example.com/hold";
    let claim = work.patch("persistentvolumeclaims/datadir-ss-0", json!({"metadata": {"finalizers": [HOLD]}}));
    let pod = work.pod(0);
    work.scale(0);
    work.until("the pod is gone", || work.pod_names().is_empty());
    work.until_owned(0, &[("Pod", &pod["metadata"]["uid"], true)]);
    work.scale(1);
    assert_eq!(work.observed()["status"]["replicas"], 0);
    work.patch("persistentvolumeclaims/datadir-ss-0", json!({"metadata": {"finalizers": null}}));
    work.settled();
    assert_ne!(work.claim(0)["metadata"]["uid"], claim["metadata"]["uid"]);
}
