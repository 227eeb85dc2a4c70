//! Whether a set is available, comes forward or is stalled, and the way back.

use jiff::SignedDuration;
use kinds::extensions::{AUTO_ROLLBACK, PAUSED, PROGRESS_DEADLINE};
use serde_json::json;

use super::super::{Action, plan, status_differs};
use super::builders::*;
use super::cluster::{BROKEN, Cluster};

fn told(cluster: &Cluster, kind: &str) -> (String, String) {
    let (status, reason, _) = cluster.condition(kind);
    (status, reason)
}

fn say(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

/// A settled set whose updates have a minute.
fn settled(replicas: i32) -> Cluster {
    let mut cluster = Cluster::new(set(replicas).annotation(PROGRESS_DEADLINE, "60"));
    cluster.settle();
    cluster
}

/// Two rounds after the deadline.
fn let_the_deadline_pass(cluster: &mut Cluster) -> Vec<Action> {
    cluster.world.now += SignedDuration::from_secs(61);
    let first = cluster.round();
    assert!(first.actions.is_empty(), "{first:?}");
    cluster.round().actions
}

#[test]
fn a_set_is_available_when_all_its_replicas_are() {
    let mut cluster = Cluster::new(set(2));
    cluster.round();
    cluster.round();
    assert_eq!(told(&cluster, "Available"), say("False", "NeverAvailable"));
    assert_eq!(told(&cluster, "Progressing"), say("True", "CreatingReplicas"));
    cluster.settle();
    assert_eq!(cluster.condition("Available"), ("True".into(), "AllReplicasAvailable".into(), "2 of 2 replicas are available".into()));
    assert_eq!(cluster.condition("Progressing"), ("True".into(), "RolloutComplete".into(), "every replica is as desired".into()));
    assert_eq!(told(&cluster, "Stalled"), say("False", "RolloutComplete"));
    cluster.unready("web-0");
    cluster.round();
    assert_eq!(told(&cluster, "Available"), say("False", "ReplicasUnavailable"));
    assert_eq!(cluster.condition("Progressing"), ("True".into(), "AwaitingReplicas".into(), "waits for web-0 to become Ready".into()));
    cluster.scale(0);
    cluster.settle();
    assert_eq!(told(&cluster, "Available"), say("True", "NoReplicas"));
}

#[test]
fn without_progress_until_the_deadline_a_set_is_stalled_and_says_why() {
    let mut cluster = settled(3);
    cluster.image(BROKEN);
    cluster.settle();
    assert_eq!(told(&cluster, "Progressing"), say("True", "RollingOut"));
    let since = cluster.world.now;
    let due = cluster.round().deadline.unwrap();
    assert!(due > since && due <= since + SignedDuration::from_secs(60), "{due}");
    assert_eq!(let_the_deadline_pass(&mut cluster), []);
    let waits = "waits for web-2 to become Ready";
    assert_eq!(cluster.condition("Progressing"), ("False".into(), "ProgressDeadlineExceeded".into(), waits.into()));
    assert_eq!(cluster.condition("Stalled"), ("True".into(), "ProgressDeadlineExceeded".into(), waits.into()));
    assert_eq!(cluster.round().deadline, None);

    cluster.image("v2");
    cluster.round();
    cluster.round();
    assert_eq!((told(&cluster, "Progressing"), told(&cluster, "Stalled")), (say("True", "RollingOut"), say("False", "RollingOut")));
    cluster.settle();
    assert_eq!(told(&cluster, "Progressing"), say("True", "RolloutComplete"));
}

#[test]
fn whatever_comes_forward_has_the_whole_deadline_again() {
    let mut cluster = settled(3);
    cluster.image("v2");
    for _ in 0..40 {
        cluster.round();
        cluster.world.now += SignedDuration::from_secs(20);
        let names: Vec<_> = cluster.world.pods.keys().cloned().collect();
        for name in &names {
            cluster.step(name);
        }
        assert_eq!(told(&cluster, "Stalled").0, "False");
    }
    assert_eq!(told(&cluster, "Progressing"), say("True", "RolloutComplete"));
}

#[test]
fn the_time_a_pod_has_to_stay_ready_is_added_to_the_deadline() {
    let mut cluster = settled(2);
    cluster.change(|spec| spec.min_ready_seconds = Some(100));
    let waiting = cluster.round();
    assert!(lines(&waiting)[0].starts_with("waits for web-0 to stay Ready until"), "{:?}", lines(&waiting));
    cluster.world.now += SignedDuration::from_secs(80);
    cluster.round();
    assert_eq!(told(&cluster, "Stalled").0, "False");
}

#[test]
fn at_rest_a_set_has_no_deadline() {
    let mut cluster = settled(3);
    cluster.partition(2);
    cluster.image("v2");
    cluster.settle();
    let kept = "keeps 2 pods below the partition at the current revision";
    assert_eq!(cluster.condition("Progressing"), ("True".into(), "RolloutComplete".into(), kept.into()));
    assert_eq!(cluster.round().deadline, None);
    cluster.annotate(PAUSED, "true");
    cluster.partition(0);
    cluster.settle();
    assert_eq!(let_the_deadline_pass(&mut cluster), []);
    let waits = "waits for the rollout to be resumed: 2 pods are to be replaced";
    assert_eq!(cluster.condition("Progressing"), ("Unknown".into(), "Paused".into(), waits.into()));
    assert_eq!(told(&cluster, "Stalled"), say("False", "Paused"));
}

#[test]
fn conditions_of_others_stay_and_times_alone_are_no_news() {
    let mut cluster = settled(1);
    let foreign = json!({"type": "BackedUp", "status": "True", "reason": "Nightly"});
    let status = std::sync::Arc::make_mut(&mut cluster.world.set).status.as_mut().unwrap();
    status.conditions.as_mut().unwrap().insert(0, serde_json::from_value(foreign).unwrap());
    let before = cluster.world.set.status.clone().unwrap();
    cluster.world.now += SignedDuration::from_secs(3600);
    cluster.round();
    assert_eq!(cluster.world.set.status.as_ref(), Some(&before));
    cluster.unready("web-0");
    cluster.round();
    assert_eq!(told(&cluster, "BackedUp"), say("True", "Nightly"));

    let mut later = before.clone();
    later.conditions.as_mut().unwrap()[1].last_transition_time = Some(ago(0));
    assert!(!status_differs(Some(&before), &later));
    later.conditions.as_mut().unwrap()[1].message = Some("other".to_owned());
    assert!(status_differs(Some(&before), &later));
}

#[test]
fn a_rollout_writes_no_more_statuses_than_its_pods_have_states() {
    let mut cluster = settled(5);
    cluster.image("v2");
    let mut writes = 0;
    for _ in 0..60 {
        let before = cluster.world.set.status.clone();
        cluster.round();
        writes += usize::from(before != cluster.world.set.status);
        let names: Vec<_> = cluster.world.pods.keys().cloned().collect();
        for name in &names {
            cluster.step(name);
        }
    }
    assert_eq!(told(&cluster, "Progressing"), say("True", "RolloutComplete"));
    // Leaving, gone, new, running, ready; and the beginning and the end of it all.
    assert!(writes <= 5 * 5 + 2, "{writes}");
}

/// Stalled on a broken update.
fn stalled_with_rollback(replicas: i32) -> Cluster {
    let mut cluster = settled(replicas);
    cluster.annotate(AUTO_ROLLBACK, "true");
    cluster.image(BROKEN);
    cluster.settle();
    cluster
}

#[test]
fn a_stalled_update_is_taken_back_if_the_set_asks_for_it() {
    for replicas in [1, 3] {
        let mut cluster = stalled_with_rollback(replicas);
        let broken = cluster.world.set.status.clone().unwrap();
        let (current, update) = (broken.current_revision.unwrap(), broken.update_revision.unwrap());
        let actions = let_the_deadline_pass(&mut cluster);
        let [Action::RollBack { from, to, because, .. }] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!((from, to), (&update, &current));
        let last = replicas - 1;
        assert_eq!(*because, format!("it made no progress for 60 s: the set waits for web-{last} to become Ready"));
        assert_eq!(cluster.settle(), [format!("web-{last}")]);
        assert!(cluster.images().iter().all(|image| image.ends_with(" v1")));
        assert_eq!(told(&cluster, "Progressing"), say("True", "RolloutComplete"));
    }
}

#[test]
fn there_is_no_way_back_from_the_way_back() {
    let mut cluster = stalled_with_rollback(3);
    let actions = let_the_deadline_pass(&mut cluster);
    assert!(matches!(actions.as_slice(), [Action::RollBack { .. }]), "{actions:?}");
    cluster.settle();
    cluster.unready("web-1");
    for _ in 0..5 {
        cluster.world.now += SignedDuration::from_secs(61);
        assert_eq!(cluster.round().actions, []);
    }
    assert_eq!(told(&cluster, "Stalled"), say("True", "ProgressDeadlineExceeded"));
}

#[test]
fn a_set_that_was_never_available_has_nothing_to_go_back_to() {
    let mut cluster = Cluster::new(set(2).image(BROKEN).annotation(AUTO_ROLLBACK, "true").annotation(PROGRESS_DEADLINE, "60"));
    cluster.settle();
    assert_eq!(let_the_deadline_pass(&mut cluster), []);
    cluster.change(|spec| spec.min_ready_seconds = Some(1));
    cluster.change(|spec| spec.template.spec.as_mut().unwrap().host_network = Some(true));
    cluster.settle();
    assert_eq!(let_the_deadline_pass(&mut cluster), []);
    assert_eq!(told(&cluster, "Available"), say("False", "NeverAvailable"));
}

#[test]
fn without_the_wish_during_a_pause_or_when_an_old_pod_is_to_blame_nothing_is_taken_back() {
    let mut unasked = stalled_with_rollback(3);
    unasked.annotate(AUTO_ROLLBACK, "false");
    assert_eq!(let_the_deadline_pass(&mut unasked), []);
    let mut paused = stalled_with_rollback(3);
    paused.annotate(PAUSED, "true");
    assert_eq!(let_the_deadline_pass(&mut paused), []);
    let mut old = settled(3);
    old.annotate(AUTO_ROLLBACK, "true");
    old.unready("web-0");
    old.image("v2");
    old.round();
    old.round();
    assert_eq!(let_the_deadline_pass(&mut old), []);
    assert_eq!(told(&old, "Stalled").0, "True");
}

#[test]
fn the_trouble_is_told_as_far_as_the_pod_knows_it() {
    let ended = json!([{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]);
    let mut restarted = pod("web-0").unready();
    restarted.0.status.as_mut().unwrap().container_statuses = Some(serde_json::from_value(ended).unwrap());
    assert_eq!(
        planned(set(1), vec![restarted]),
        ["waits for web-0 to become Ready: container main ended with exit code 137 (OOMKilled), restarted 3 times"]
    );
    let mut unscheduled = pod("web-0").pending();
    let condition = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node has room"}]);
    unscheduled.0.status.as_mut().unwrap().conditions = Some(serde_json::from_value(condition).unwrap());
    let observed = observed(set(1).at("rev-1", "rev-1"), vec![revision("rev-1", 1, "v1")], vec![unscheduled]);
    let plan = plan(&observed, now());
    assert_eq!(lines(&plan), ["waits for web-0 to become Ready: no node has room"]);
    let progressing = plan.status.conditions.unwrap().into_iter().find(|condition| condition.type_ == "Progressing").unwrap();
    assert_eq!(progressing.message.unwrap(), "waits for web-0 to become Ready: no node has room");
}
