//! What becomes of claims when the set or an instance goes.

use serde_json::{Value, json};

use crate::workload::{Workload, name, with_claims};

/// The set with a retention policy.
pub fn retaining(mut set: Value, when_deleted: &str, when_scaled: &str) -> Value {
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = policy(when_deleted, when_scaled);
    set
}

fn policy(when_deleted: &str, when_scaled: &str) -> Value {
    json!({"whenDeleted": when_deleted, "whenScaled": when_scaled})
}

impl Workload {
    pub fn claim(&self, ordinal: u32) -> Value {
        self.get(&format!("persistentvolumeclaims/datadir-ss-{ordinal}"))
    }

    pub fn claim_names(&self) -> Vec<String> {
        self.list("persistentvolumeclaims").iter().map(|claim| name(claim).to_owned()).collect()
    }

    /// Waits until the owners of a claim are these, given as kind, uid and whether they control it.
    pub fn until_owned(&self, ordinal: u32, owners: &[(&str, &Value, bool)]) {
        self.until(&format!("claim {ordinal} has the owners {owners:?}"), || {
            let claim = self.claim(ordinal);
            let found = claim["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            let fits = |owner: &Value, (kind, uid, controls): &(&str, &Value, bool)| {
                owner["kind"] == *kind && owner["uid"] == **uid && owner["controller"].as_bool().unwrap_or(false) == *controls
            };
            found.len() == owners.len() && owners.iter().all(|wanted| found.iter().any(|owner| fits(owner, wanted)))
        });
    }
}

/// Upstream: claims are deleted with a set whose policy is whenDeleted.
#[test]
fn claims_go_with_the_set_if_it_asks_for_that() {
    let Some(work) = Workload::new("claims-deleted") else { return };
    let set = work.run(&retaining(with_claims(2), "Delete", "Retain"));
    for ordinal in 0..2 {
        work.until_owned(ordinal, &[("StatefulSet", &set["metadata"]["uid"], true)]);
    }
    assert_eq!(work.claim(0)["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], true);
    work.scale(1);
    work.settled();
    assert_eq!(work.claim_names().len(), 2, "scaling down deletes no claim");
    work.delete("statefulsets/ss");
    work.until("the claims are gone", || work.claim_names().is_empty());
}

/// Upstream: claims are deleted when an ordinal is scaled down and the policy is OnScaledown.
#[test]
fn a_claim_goes_with_its_ordinal_if_the_set_asks_for_that() {
    let Some(work) = Workload::new("claims-scaled") else { return };
    work.run(&retaining(with_claims(3), "Retain", "Delete"));
    work.until_owned(2, &[]);
    work.shell("ss-2", "echo kept > /data/file");
    // An instance that only comes back keeps its claim.
    let before = work.pod(2);
    work.delete("pods/ss-2");
    work.replaced(2, &before);
    assert_eq!(work.shell("ss-2", "cat /data/file"), "kept");
    let old = work.claim(2)["metadata"]["uid"].clone();
    work.scale(1);
    work.until("two claims are gone", || work.claim_names() == ["datadir-ss-0"]);
    work.scale(3);
    work.settled();
    assert_ne!(work.claim(2)["metadata"]["uid"], old);
    assert_eq!(work.shell("ss-2", "ls /data"), "");
    work.delete("statefulsets/ss");
    work.until("the pods are gone", || work.pod_names().is_empty());
    assert_eq!(work.claim_names().len(), 3);
}

/// With both policies a claim is the set's while its ordinal is wanted, and its pod's when it is not.
#[test]
fn a_claim_passes_from_the_set_to_the_pod_that_has_to_go() {
    let Some(work) = Workload::new("claims-both") else { return };
    const HOLD: &str = "example.com/hold";
    let set = work.run(&retaining(with_claims(2), "Delete", "Delete"));
    work.until_owned(1, &[("StatefulSet", &set["metadata"]["uid"], true)]);
    let pod = work.patch("pods/ss-1", json!({"metadata": {"finalizers": [HOLD]}}));
    work.scale(1);
    work.until_owned(1, &[("Pod", &pod["metadata"]["uid"], true)]);
    work.patch("pods/ss-1", json!({"metadata": {"finalizers": null}}));
    work.until("the claim is gone", || work.claim_names() == ["datadir-ss-0"]);
    // The policy may change at any time.
    work.change(json!({"persistentVolumeClaimRetentionPolicy": policy("Retain", "Retain")}));
    work.until_owned(0, &[]);
    work.change(json!({"persistentVolumeClaimRetentionPolicy": policy("Delete", "Retain")}));
    work.until_owned(0, &[("StatefulSet", &set["metadata"]["uid"], true)]);
}

/// Upstream, disruptive: a claim is created anew when its pod waits because the claim is missing.
#[test]
fn a_claim_that_is_missing_under_a_waiting_pod_is_created_anew() {
    // A node that takes no pods would disturb the other tests.
    let Some(work) = Workload::alone("claims-missing") else { return };
    work.run(&with_claims(1));
    let (pod, claim) = (work.pod(0), work.claim(0));
    let node = pod["spec"]["nodeName"].as_str().expect("a node").to_owned();
    work.kubectl(&["cordon", &node]);
    work.delete("pods/ss-0");
    work.until_pod(0, "waits", |found| found["metadata"]["uid"] != pod["metadata"]["uid"] && found["spec"]["nodeName"].is_null());
    work.delete("persistentvolumeclaims/datadir-ss-0");
    work.until("there is another claim", || {
        let found = work.find("persistentvolumeclaims/datadir-ss-0");
        found.is_some_and(|found| found["metadata"]["uid"] != claim["metadata"]["uid"])
    });
    work.kubectl(&["uncordon", &node]);
    let back = work.replaced(0, &pod);
    assert_eq!(back["spec"]["nodeName"], node.as_str());
}
