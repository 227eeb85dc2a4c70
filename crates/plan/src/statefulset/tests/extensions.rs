//! What sets ask for by annotation.

use kinds::extensions::{PAUSED, RESERVED_ORDINALS, UPDATE_ORDER};
use serde_json::json;

use super::super::{Action, claim_names, plan};
use super::builders::*;
use super::cluster::Cluster;

const OUTDATED: &str = "it is at rev-1, wanted is rev-2";

fn role(pod: PodBuilder, role: &str) -> PodBuilder {
    pod.label("role", Some(role))
}

fn ranked() -> SetBuilder {
    set(4).annotation(UPDATE_ORDER, "role=replica,role=master")
}

fn roles() -> Vec<PodBuilder> {
    vec![role(pod("web-0"), "replica"), pod("web-1"), role(pod("web-2"), "replica"), role(pod("web-3"), "master")]
}

#[test]
fn pods_are_replaced_by_rank_and_then_from_the_top() {
    let mut pods = roles();
    for next in [2, 0, 3, 1] {
        assert_eq!(planned_update(ranked(), pods.clone()), [format!("delete pod web-{next}: {OUTDATED}")]);
        pods[next] = pod(&format!("web-{next}")).at("rev-2");
    }
}

#[test]
fn ranks_are_read_anew_each_time() {
    let mut pods = roles();
    pods[2] = role(pod("web-2").at("rev-2"), "master");
    pods[3] = role(pod("web-3"), "replica");
    assert_eq!(planned_update(ranked(), pods), [format!("delete pod web-3: {OUTDATED}")]);
}

#[test]
fn a_batch_never_spans_two_ranks_and_begins_when_all_are_available() {
    let three = |set: SetBuilder| set.max_unavailable(json!(3));
    let both = [format!("delete pod web-2: {OUTDATED}"), format!("delete pod web-0: {OUTDATED}")];
    assert_eq!(planned_update(three(ranked()), roles()), both);
    assert_eq!(planned_update(three(ranked()).parallel(), roles()), both);
    let mut pods = roles();
    pods[0] = pod("web-0").at("rev-2").never_ready();
    assert_eq!(planned_update(three(ranked()).parallel(), pods), ["waits for web-0 to become Ready"]);
}

#[test]
fn an_update_order_keeps_to_the_partition() {
    let lines = planned_update(ranked().partition(3), roles());
    assert_eq!(lines, [format!("delete pod web-3: {OUTDATED}")]);
}

#[test]
fn reserved_ordinals_are_passed_over() {
    let reserving = |replicas| set(replicas).annotation(RESERVED_ORDINALS, "1,3-4");
    assert_eq!(planned(reserving(3), vec![pod("web-0")]), ["create pod web-2 at rev-1"]);
    assert_eq!(planned(reserving(3), vec![pod("web-0"), pod("web-2")]), ["create pod web-5 at rev-1"]);
    assert_eq!(planned(reserving(3), vec![pod("web-0"), pod("web-2"), pod("web-5")]), Vec::<String>::new());
    let parallel = ["create pod web-0 at rev-1", "create pod web-2 at rev-1", "create pod web-5 at rev-1"];
    assert_eq!(planned(reserving(3).parallel(), vec![]), parallel);
    let names = claim_names(&reserving(3).claims().parallel().0, &[]);
    assert_eq!(names, ["data-web-0", "data-web-2", "data-web-5"]);
}

#[test]
fn reserving_the_ordinal_of_a_pod_scales_in_right_there() {
    let pods = || vec![pod("web-0"), pod("web-1"), pod("web-2")];
    let gone = "delete pod web-1: its ordinal is no longer wanted";
    assert_eq!(planned(set(2).annotation(RESERVED_ORDINALS, "1"), pods()), [gone]);
    // Without fewer replicas, another takes its place first.
    assert_eq!(planned(set(3).annotation(RESERVED_ORDINALS, "1"), pods()), ["create pod web-3 at rev-1"]);
}

#[test]
fn the_partition_counts_the_wanted_ordinals() {
    let pods = vec![pod("web-0"), pod("web-2"), pod("web-5")];
    let set = || set(3).annotation(RESERVED_ORDINALS, "1,3-4");
    assert_eq!(planned_update(set().partition(2), pods.clone()), [format!("delete pod web-5: {OUTDATED}")]);
    assert_eq!(planned_update(set().partition(3), pods), ["keeps 3 pods below the partition at the current revision"]);
    assert_eq!(planned_update(set().partition(2), vec![pod("web-2"), pod("web-5")]), ["create pod web-0 at rev-1"]);
}

#[test]
fn billions_of_reserved_ordinals_and_replicas_are_no_burden() {
    let set = set(i32::MAX).annotation(RESERVED_ORDINALS, "0-2147483647").parallel();
    let lines = planned(set, vec![]);
    assert_eq!((lines.len(), lines[0].as_str()), (super::super::MOST_CREATIONS, "create pod web-2147483648 at rev-1"));
}

#[test]
fn the_claims_of_a_reserved_ordinal_follow_the_policy_for_scaling() {
    let set = set(2).claims().retention("Retain", "Delete").annotation(RESERVED_ORDINALS, "1");
    let lines = planned(set, vec![pod("web-0"), pod("web-1"), pod("web-2")]);
    assert_eq!(lines, ["set the owners of claim data-web-1", "delete pod web-1: its ordinal is no longer wanted"]);
}

#[test]
fn a_set_scales_in_and_out_anywhere_without_renumbering() {
    let mut cluster = Cluster::new(set(4).claims());
    cluster.settle();
    cluster.annotate(RESERVED_ORDINALS, "1");
    cluster.scale(3);
    assert_eq!(cluster.settle(), ["web-1"]);
    assert_eq!(cluster.world.pods.keys().collect::<Vec<_>>(), ["web-0", "web-2", "web-3"]);
    cluster.annotate(RESERVED_ORDINALS, "");
    cluster.scale(4);
    assert_eq!(cluster.settle(), Vec::<String>::new());
    assert_eq!(cluster.world.pods.keys().collect::<Vec<_>>(), ["web-0", "web-1", "web-2", "web-3"]);
}

fn paused(replicas: i32) -> SetBuilder {
    set(replicas).annotation(PAUSED, "true")
}

#[test]
fn a_pause_stops_the_rollout_but_not_repairs_and_scaling() {
    let waits = "waits for the rollout to be resumed: 2 pods are to be replaced";
    let mixed = || vec![pod("web-0"), pod("web-1"), pod("web-2").at("rev-2")];
    assert_eq!(planned_update(paused(3), mixed()), [waits]);
    assert_eq!(planned_update(paused(3).parallel(), mixed()), [waits]);
    let failed = vec![pod("web-0").failed(), pod("web-1"), pod("web-2").at("rev-2")];
    assert_eq!(planned_update(paused(3), failed), ["delete pod web-0: it has ended"]);
    assert_eq!(planned_update(paused(2), mixed()), ["delete pod web-2: its ordinal is no longer wanted"]);
    let stuck = vec![pod("web-0"), pod("web-1"), pod("web-2").never_ready()];
    assert_eq!(planned_update(paused(3), stuck), ["waits for web-2 to become Ready"]);
}

#[test]
fn during_a_pause_pods_are_created_at_the_current_revision() {
    assert_eq!(planned_update(paused(3), vec![pod("web-0"), pod("web-1")]), ["create pod web-2 at rev-1"]);
    assert_eq!(planned_update(paused(1).strategy(json!({"type": "RollingUpdate"})), vec![]), ["create pod web-0 at rev-1"]);
    assert_eq!(planned_update(paused(1).on_delete(), vec![]), ["create pod web-0 at rev-2"]);
}

#[test]
fn a_pause_does_not_forget_the_old_revision_at_zero_replicas() {
    let mut cluster = Cluster::new(set(2));
    cluster.settle();
    cluster.annotate(PAUSED, "true");
    cluster.image("v2");
    cluster.scale(0);
    cluster.settle();
    cluster.scale(2);
    cluster.settle();
    assert_eq!(cluster.images(), ["web-0 v1", "web-1 v1"]);
    cluster.annotate(PAUSED, "false");
    cluster.settle();
    assert_eq!(cluster.images(), ["web-0 v2", "web-1 v2"]);
}

#[test]
fn an_annotation_that_can_not_be_read_is_reported_and_not_followed() {
    let set = set(1).annotation(PAUSED, "maybe").at("rev-1", "rev-2").image("v2");
    let plan = plan(&observed(set, vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")], vec![pod("web-0")]), now());
    assert!(matches!(plan.actions.as_slice(), [Action::DeletePod { .. }]), "{plan:?}");
    assert_eq!(plan.malformed.iter().map(|malformed| malformed.annotation).collect::<Vec<_>>(), [PAUSED]);
}
