//! Whole stories, for both policies and all retention policies.

use super::builders::set;
use super::cluster::{BROKEN, Cluster};
use crate::forecast::is_ready;

/// Runs a story for every combination of policies, from a set of this size that has settled.
fn everywhere(replicas: i32, story: impl Fn(&mut Cluster)) {
    for retention in [("Retain", "Retain"), ("Retain", "Delete"), ("Delete", "Retain"), ("Delete", "Delete")] {
        for parallel in [false, true] {
            let set = set(replicas).claims().retention(retention.0, retention.1);
            let mut cluster = Cluster::new(if parallel { set.parallel() } else { set });
            cluster.settle();
            story(&mut cluster);
            settled(&mut cluster);
        }
    }
}

/// Settles, and checks that the set is as desired.
fn settled(cluster: &mut Cluster) {
    cluster.settle();
    let names = cluster.names();
    assert_eq!(cluster.world.pods.keys().cloned().collect::<Vec<_>>(), names);
    assert!(cluster.world.pods.values().all(|pod| is_ready(pod)));
    let status = cluster.world.set.status.clone().unwrap();
    let count = i32::try_from(names.len()).unwrap();
    assert_eq!((status.replicas, status.ready_replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0)), (count, count, count));
    assert_eq!(status.current_revision, status.update_revision);
}

#[test]
fn a_set_creates_its_pods() {
    everywhere(3, |cluster| assert_eq!(cluster.world.pods.len(), 3));
}

#[test]
fn a_set_grows() {
    everywhere(2, |cluster| cluster.scale(5));
}

#[test]
fn a_set_shrinks_and_keeps_its_claims_unless_told_otherwise() {
    everywhere(5, |cluster| {
        cluster.scale(1);
        cluster.settle();
        let policy = cluster.world.set.spec.as_ref().unwrap().persistent_volume_claim_retention_policy.clone().unwrap();
        assert_eq!(cluster.world.claims.len(), if policy.when_scaled.as_deref() == Some("Delete") { 1 } else { 5 });
    });
}

#[test]
fn pods_that_were_deleted_come_back() {
    everywhere(5, |cluster| ["web-0", "web-2", "web-4"].into_iter().for_each(|name| cluster.delete(name)));
}

#[test]
fn a_pod_that_failed_comes_back() {
    everywhere(3, |cluster| cluster.fail("web-1"));
}

#[test]
fn an_update_goes_in_reverse_order_and_a_rollback_brings_the_old_revision_back() {
    everywhere(3, |cluster| {
        let first = cluster.world.set.status.clone().unwrap().update_revision;
        cluster.image("v2");
        assert_eq!(cluster.settle(), ["web-2", "web-1", "web-0"]);
        assert_ne!(cluster.world.set.status.clone().unwrap().update_revision, first);
        cluster.image("v1");
        cluster.settle();
        assert_eq!(cluster.world.set.status.clone().unwrap().update_revision, first);
        assert_eq!(cluster.world.revisions.len(), 2);
    });
}

#[test]
fn a_broken_first_revision_can_be_left() {
    everywhere(0, |cluster| {
        cluster.scale(3);
        cluster.image(BROKEN);
        cluster.settle();
        assert!(!cluster.world.pods.values().any(|pod| is_ready(pod)));
        cluster.image("v2");
    });
}

#[test]
fn a_broken_update_stops_at_one_pod_and_can_be_taken_back() {
    everywhere(3, |cluster| {
        cluster.image(BROKEN);
        assert_eq!(cluster.settle(), ["web-2"]);
        cluster.image("v1");
        assert_eq!(cluster.settle(), ["web-2"]);
    });
}

#[test]
fn a_canary_keeps_to_its_partition_until_the_partition_is_lowered() {
    everywhere(6, |cluster| {
        cluster.partition(4);
        cluster.image("v2");
        assert_eq!(cluster.settle(), ["web-5", "web-4"]);
        let canary = ["web-0 v1", "web-1 v1", "web-2 v1", "web-3 v1", "web-4 v2", "web-5 v2"];
        assert_eq!(cluster.images(), canary);

        cluster.delete("web-1");
        cluster.delete("web-4");
        cluster.settle();
        assert_eq!(cluster.images(), canary);

        cluster.partition(0);
        assert_eq!(cluster.settle(), ["web-3", "web-2", "web-1", "web-0"]);
    });
}

#[test]
fn scaling_to_zero_during_a_canary_does_not_forget_the_old_revision() {
    everywhere(3, |cluster| {
        cluster.partition(2);
        cluster.image("v2");
        cluster.settle();
        cluster.scale(0);
        cluster.settle();
        cluster.scale(3);
        cluster.settle();
        assert_eq!(cluster.images(), ["web-0 v1", "web-1 v1", "web-2 v2"]);
        cluster.partition(0);
    });
}

#[test]
fn a_canary_survives_zero_replicas_whatever_its_first_ordinal_and_partition() {
    everywhere(4, |cluster| {
        cluster.partition(3);
        cluster.image("v2");
        cluster.settle();
        cluster.scale(0);
        cluster.change(|spec| spec.ordinals = Some(serde_json::from_value(serde_json::json!({"start": 5})).unwrap()));
        cluster.settle();
        cluster.partition(1);
        cluster.settle();
        cluster.scale(4);
        cluster.settle();
        assert_eq!(cluster.images(), ["web-5 v1", "web-6 v2", "web-7 v2", "web-8 v2"]);
        // At zero replicas and without a partition, the new revision is all there is.
        cluster.scale(0);
        cluster.settle();
        cluster.partition(0);
        cluster.settle();
        cluster.partition(2);
        cluster.scale(4);
        cluster.settle();
        assert!(cluster.images().iter().all(|image| image.ends_with(" v2")));
    });
}

#[test]
fn history_is_limited() {
    let mut cluster = Cluster::new(set(1).history(2));
    for version in 0..6 {
        cluster.image(&format!("v{version}"));
        cluster.settle();
    }
    assert_eq!(cluster.world.revisions.len(), 3);
}

#[test]
fn ordinals_move() {
    everywhere(3, |cluster| {
        cluster.change(|spec| spec.ordinals = Some(serde_json::from_value(serde_json::json!({"start": 2})).unwrap()));
    });
}
