//! Updates.

use serde_json::json;

use super::super::plan;
use super::builders::*;

const OUTDATED: &str = "it is at rev-1, wanted is rev-2";
const STUCK: &str = "it can't become available at rev-1, wanted is rev-2";

fn three() -> Vec<PodBuilder> {
    vec![pod("web-0"), pod("web-1"), pod("web-2")]
}

fn with(ordinal: usize, pod: PodBuilder) -> Vec<PodBuilder> {
    let mut pods = three();
    pods[ordinal] = pod;
    pods
}

#[test]
fn an_update_goes_from_the_highest_ordinal_down_one_at_a_time() {
    assert_eq!(planned_update(set(3), three()), [format!("delete pod web-2: {OUTDATED}")]);
    assert_eq!(planned_update(set(3), with(2, pod("web-2").terminating())), ["waits for web-2 to be gone"]);
    assert_eq!(planned_update(set(3), vec![pod("web-0"), pod("web-1")]), ["create pod web-2 at rev-2"]);
    assert_eq!(planned_update(set(3), with(2, pod("web-2").at("rev-2").pending())), ["waits for web-2 to become Ready"]);
    assert_eq!(planned_update(set(3), with(2, pod("web-2").at("rev-2"))), [format!("delete pod web-1: {OUTDATED}")]);
}

#[test]
fn below_the_partition_pods_stay_and_come_back_at_the_current_revision() {
    let canary = || vec![pod("web-0"), pod("web-1"), pod("web-2").at("rev-2")];
    assert_eq!(planned_update(set(3).partition(2), canary()), ["keeps 2 pods below the partition at the current revision"]);
    assert_eq!(planned_update(set(3).partition(2), vec![pod("web-1"), pod("web-2").at("rev-2")]), ["create pod web-0 at rev-1"]);
    assert_eq!(planned_update(set(3).partition(2), vec![pod("web-0"), pod("web-1")]), ["create pod web-2 at rev-2"]);
    assert_eq!(planned_update(set(3).partition(9), three()), ["keeps 3 pods below the partition at the current revision"]);
}

#[test]
fn the_partition_counts_from_the_first_ordinal() {
    let pods = || vec![pod("web-5"), pod("web-6")];
    assert_eq!(planned_update(set(2).start(5).partition(1), pods()), [format!("delete pod web-6: {OUTDATED}")]);
    assert_eq!(planned_update(set(2).start(5).partition(1), vec![pod("web-6").at("rev-2")]), ["create pod web-5 at rev-1"]);
}

#[test]
fn without_an_update_block_as_many_pods_as_are_current_come_back_so() {
    let set = || set(3).strategy(json!({"type": "RollingUpdate"}));
    assert_eq!(planned_update(set(), vec![pod("web-1")]), ["create pod web-0 at rev-1"]);
    assert_eq!(planned_update(set(), vec![pod("web-0"), pod("web-1")]), ["create pod web-2 at rev-2"]);
}

#[test]
fn on_delete_leaves_the_choice_to_the_user() {
    let waits = "waits for web-2 and 2 more to be deleted by hand, as updateStrategy OnDelete asks";
    assert_eq!(planned_update(set(3).on_delete(), three()), [waits]);
    assert_eq!(planned_update(set(3).on_delete(), vec![pod("web-0"), pod("web-2")]), ["create pod web-1 at rev-2"]);
    assert_eq!(planned_update(set(3).on_delete(), with(0, pod("web-0").never_ready())), ["waits for web-0 to become Ready"]);
}

#[test]
fn an_ordered_update_waits_for_a_member_that_may_recover() {
    for unready in [pod("web-1").unready(), pod("web-1").briefly_ready()] {
        assert_eq!(planned_update(set(3), with(1, unready)), ["waits for web-1 to become Ready"]);
    }
}

#[test]
fn a_member_that_was_never_ready_or_crashes_does_not_hold_back_what_mends_it() {
    for stuck in [pod("web-1").never_ready(), pod("web-1").pending(), pod("web-1").crashing()] {
        assert_eq!(planned_update(set(3), with(1, stuck)), [format!("delete pod web-1: {STUCK}")]);
    }
    let first = vec![pod("web-0").never_ready()];
    assert_eq!(planned_update(set(3), first), [format!("delete pod web-0: {STUCK}")]);
}

#[test]
fn a_stuck_member_stays_if_its_revision_is_the_one_it_should_have() {
    assert_eq!(planned_update(set(3).partition(2), with(1, pod("web-1").never_ready())), ["waits for web-1 to become Ready"]);
    assert_eq!(planned_update(set(3), with(1, pod("web-1").at("rev-2").never_ready())), ["waits for web-1 to become Ready"]);
    assert_eq!(planned(set(1), vec![pod("web-0").never_ready()]), ["waits for web-0 to become Ready"]);
}

#[test]
fn a_parallel_update_keeps_to_its_budget() {
    assert_eq!(planned_update(set(3).parallel(), three()), [format!("delete pod web-2: {OUTDATED}")]);
    let broken = with(0, pod("web-0").at("rev-2").unready());
    assert_eq!(planned_update(set(3).parallel(), broken), ["waits for web-0 to become Ready"]);
    let two = [format!("delete pod web-2: {OUTDATED}"), format!("delete pod web-1: {OUTDATED}")];
    assert_eq!(planned_update(set(3).parallel().max_unavailable(json!(2)), three()), two);
    assert_eq!(planned_update(set(3).parallel().max_unavailable(json!("70%")), three()), two);
    assert_eq!(planned_update(set(3).parallel().max_unavailable(json!("10%")), three()).len(), 1);
}

#[test]
fn in_parallel_broken_pods_of_the_old_revision_cost_no_budget() {
    let broken = vec![pod("web-0").unready(), pod("web-1").never_ready(), pod("web-2")];
    let lines = planned_update(set(3).parallel(), broken);
    let wanted =
        [format!("delete pod web-1: {OUTDATED}"), format!("delete pod web-0: {OUTDATED}"), "waits for web-0 to become Ready".into()];
    assert_eq!(lines, wanted);
}

#[test]
fn an_ordered_batch_is_as_large_as_the_budget() {
    let two = [format!("delete pod web-2: {OUTDATED}"), format!("delete pod web-1: {OUTDATED}")];
    assert_eq!(planned_update(set(3).max_unavailable(json!(2)), three()), two);
}

#[test]
fn scaling_down_goes_before_updating() {
    assert_eq!(planned_update(set(2), three()), ["delete pod web-2: its ordinal is no longer wanted"]);
}

#[test]
fn when_all_are_updated_and_ready_the_update_revision_becomes_the_current_one() {
    let status = |set: SetBuilder, pods| {
        let revisions = vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")];
        plan(&observed(set.image("v2").at("rev-1", "rev-2"), revisions, pods), now()).status.current_revision.unwrap()
    };
    let updated = || vec![pod("web-0").at("rev-2"), pod("web-1").at("rev-2")];
    assert_eq!(status(set(2), updated()), "rev-2");
    assert_eq!(status(set(2), vec![pod("web-0").at("rev-2"), pod("web-1").at("rev-2").unready()]), "rev-1");
    let one_missing = vec![pod("web-1").at("rev-2"), pod("web-2").at("rev-2")];
    assert_eq!(status(set(2).partition(1), one_missing), "rev-1", "a condemned pod does not stand in for a missing one");
    assert_eq!(status(set(2).on_delete(), updated()), "rev-1");
    assert_eq!(status(set(0), vec![]), "rev-2");
    assert_eq!(status(set(0).partition(1), vec![]), "rev-1");
}

#[test]
fn an_unknown_strategy_is_not_guessed() {
    let unknown = set(3).strategy(json!({"type": "Recreate"}));
    assert_eq!(planned_update(unknown, three()), ["waits for an update strategy it knows: \"Recreate\" is none"]);
}
