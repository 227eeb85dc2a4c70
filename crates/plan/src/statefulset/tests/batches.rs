//! What an update takes down together comes back together, in ordered sets as well.

use serde_json::json;

use super::super::{Action, Observed, plan};
use super::builders::*;
use super::cluster::Cluster;

/// A set on its way from `rev-1` to `rev-2`, two at a time, whose conditions say how it got here.
fn rolling(set: SetBuilder, reason: &str, pods: Vec<PodBuilder>) -> Observed {
    let mut set = set.image("v2").max_unavailable(json!(2)).at("rev-1", "rev-2");
    let status = set.0.status.as_mut().unwrap();
    status.observed_generation = Some(1);
    let condition = json!([{"type": "Progressing", "status": "True", "reason": reason, "lastTransitionTime": ago(5)}]);
    status.conditions = Some(serde_json::from_value(condition).unwrap());
    observed(set, vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")], pods)
}

fn lines_of(set: SetBuilder, reason: &str, pods: Vec<PodBuilder>) -> Vec<String> {
    lines(&plan(&rolling(set, reason, pods), now()))
}

const BOTH: [&str; 2] = ["create pod web-2 at rev-2", "create pod web-3 at rev-2"];

#[test]
fn a_batch_is_created_at_once_if_all_replicas_have_been_there() {
    let two = || vec![pod("web-0"), pod("web-1")];
    assert_eq!(lines_of(set(4), "RollingOut", two()), BOTH);
    for reason in ["CreatingReplicas", "ProgressDeadlineExceeded", "Paused", ""] {
        assert_eq!(lines_of(set(4), reason, two()), BOTH[..1], "{reason}");
    }
}

#[test]
fn a_change_since_makes_it_one_at_a_time_again() {
    let mut observed = rolling(set(4), "RollingOut", vec![pod("web-0"), pod("web-1")]);
    std::sync::Arc::make_mut(&mut observed.set).metadata.generation = Some(2);
    assert_eq!(lines(&plan(&observed, now())), BOTH[..1]);
}

#[test]
fn each_comes_back_as_soon_as_its_name_is_free() {
    let one_leaves = vec![pod("web-0"), pod("web-1"), pod("web-2").terminating()];
    assert_eq!(lines_of(set(4), "RollingOut", one_leaves), [BOTH[1], "waits for web-2 to be gone"]);
    let one_starts = vec![pod("web-0"), pod("web-1"), pod("web-2").at("rev-2").pending()];
    assert_eq!(lines_of(set(4), "RollingOut", one_starts), [BOTH[1], "waits for web-2 to become Ready"]);
}

#[test]
fn no_more_than_the_budget_is_on_its_way() {
    let one = vec![pod("web-0")];
    assert_eq!(lines_of(set(4), "RollingOut", one), ["create pod web-1 at rev-2", "create pod web-2 at rev-2"]);
}

#[test]
fn an_old_replica_that_is_unready_and_condemned_pods_hold_a_batch_up() {
    let unready = vec![pod("web-0").unready(), pod("web-1")];
    assert_eq!(lines_of(set(4), "RollingOut", unready), ["waits for web-0 to become Ready"]);
    let condemned = vec![pod("web-0"), pod("web-1"), pod("web-5")];
    assert_eq!(lines_of(set(4), "RollingOut", condemned), BOTH[..1]);
}

#[test]
fn while_one_is_created_none_is_deleted() {
    for ending in [pod("web-3").at("rev-2").failed(), pod("web-3").at("rev-1").never_ready()] {
        let pods = vec![pod("web-0"), pod("web-1"), ending];
        assert_eq!(lines_of(set(4), "RollingOut", pods), BOTH[..1]);
    }
}

#[test]
fn an_ordered_update_two_at_a_time_takes_half_as_many_turns() {
    let most_at_once = |cluster: &mut Cluster| {
        let mut most = 0;
        for _ in 0..60 {
            let plan = cluster.round();
            most = most.max(plan.actions.iter().filter(|action| matches!(action, Action::CreatePod { .. })).count());
            let names: Vec<_> = cluster.world.pods.keys().cloned().collect();
            for name in &names {
                cluster.step(name);
            }
        }
        most
    };
    let mut cluster = Cluster::new(set(6).claims().max_unavailable(json!(2)));
    assert_eq!(most_at_once(&mut cluster), 1, "the first start is one at a time");
    cluster.image("v2");
    assert_eq!(most_at_once(&mut cluster), 2, "a batch is not");
    assert!(cluster.images().iter().all(|image| image.ends_with(" v2")), "{:?}", cluster.images());
    cluster.image("v3");
    cluster.scale(9);
    assert_eq!(cluster.settle().len(), 6);
}
