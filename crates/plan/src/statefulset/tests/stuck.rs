//! A replica that can't become available at a superseded revision never holds up what mends it.

use super::super::plan;
use super::builders::*;

const STUCK: &str = "it can't become available at rev-1, wanted is rev-2";
const OUTDATED: &str = "it is at rev-1, wanted is rev-2";

/// The lines of the plan for a set that goes from `rev-1` over `rev-2` to `rev-3`.
fn planned_third(set: SetBuilder, pods: Vec<PodBuilder>) -> Vec<String> {
    let revisions = vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2"), revision("rev-3", 3, "v3")];
    lines(&plan(&observed(set.image("v3").at("rev-1", "rev-3"), revisions, pods), now()))
}

#[test]
fn it_is_replaced_though_a_lower_replica_is_waited_for() {
    let pods = |last: PodBuilder| vec![pod("web-0").unready(), pod("web-1"), last];
    let broken = pod("web-2").at("rev-2").never_ready();
    let lines = planned_third(set(3), pods(broken.clone()));
    assert_eq!(lines, ["delete pod web-2: it can't become available at rev-2, wanted is rev-3", "waits for web-0 to become Ready"]);
    assert_eq!(planned_third(set(3), pods(broken.terminating())), ["waits for web-0 to become Ready"]);
    assert_eq!(planned_third(set(3), pods(pod("web-2").at("rev-2").unready())), ["waits for web-0 to become Ready"]);
    assert_eq!(planned_third(set(3), pods(pod("web-2").at("rev-3").never_ready())), ["waits for web-0 to become Ready"]);
}

#[test]
fn of_several_the_lowest_goes_first_and_one_at_a_time() {
    let pods = vec![pod("web-0").never_ready(), pod("web-1").crashing(), pod("web-2").pending()];
    assert_eq!(planned_update(set(3), pods), [format!("delete pod web-0: {STUCK}")]);
    let pods = vec![pod("web-0").never_ready().terminating(), pod("web-1").crashing(), pod("web-2").pending()];
    assert_eq!(planned_update(set(3), pods), [format!("delete pod web-1: {STUCK}"), "waits for web-0 to be gone".to_owned()]);
    let pods = vec![pod("web-1").crashing(), pod("web-2").pending()];
    assert_eq!(planned_update(set(3), pods), ["create pod web-0 at rev-2"]);
}

#[test]
fn below_the_partition_it_goes_back_to_the_current_revision() {
    // A canary that does not work is taken back by raising the partition.
    let pods = || vec![pod("web-0"), pod("web-1"), pod("web-2").at("rev-2").never_ready()];
    let back = "delete pod web-2: it can't become available at rev-2, wanted is rev-1";
    assert_eq!(planned_update(set(3).partition(3), pods()), [back]);
    let parallel = planned_update(set(3).parallel().partition(3), pods());
    assert_eq!(parallel[0], back);
    assert_eq!(planned_update(set(3).partition(3), vec![pod("web-0"), pod("web-1")]), ["create pod web-2 at rev-1"]);
    // One that works there is left alone, whatever its revision.
    let working = vec![pod("web-0"), pod("web-1"), pod("web-2").at("rev-2")];
    let kept = "keeps 2 pods below the partition at the current revision";
    assert_eq!(planned_update(set(3).partition(3), working.clone()), [kept]);
    assert_eq!(planned_update(set(3).parallel().partition(3), working), [kept]);
}

#[test]
fn in_parallel_all_of_them_go_at_once_beside_what_the_budget_allows() {
    let pods = vec![pod("web-0").never_ready(), pod("web-1"), pod("web-2").crashing()];
    let lines = planned_update(set(3).parallel(), pods);
    assert_eq!(lines[..2], [format!("delete pod web-2: {OUTDATED}"), format!("delete pod web-0: {OUTDATED}")]);
}

#[test]
fn a_condemned_pod_that_crashes_is_not_waited_for() {
    let pods = vec![pod("web-0").unready(), pod("web-1").crashing()];
    assert_eq!(planned(set(0), pods), ["delete pod web-1: its ordinal is no longer wanted"]);
}

#[test]
fn under_on_delete_it_is_the_users() {
    assert_eq!(planned_update(set(1).on_delete(), vec![pod("web-0").never_ready()]), ["waits for web-0 to become Ready"]);
}
