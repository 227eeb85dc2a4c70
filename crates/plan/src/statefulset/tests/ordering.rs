//! Which pods come and go, and when.

use std::collections::HashMap;

use kinds::SetKind;

use super::super::{Action, Observed, plan};
use super::builders::*;

#[test]
fn ordered_pods_come_one_at_a_time_each_after_the_one_before_is_ready() {
    assert_eq!(planned(set(3), vec![]), ["create pod web-0 at rev-1"]);
    assert_eq!(planned(set(3), vec![pod("web-0").pending()]), ["waits for web-0 to become Ready"]);
    assert_eq!(planned(set(3), vec![pod("web-0")]), ["create pod web-1 at rev-1"]);
    assert_eq!(planned(set(2), vec![pod("web-0"), pod("web-1")]), Vec::<String>::new());
}

#[test]
fn parallel_pods_come_and_go_at_once() {
    let three = ["create pod web-0 at rev-1", "create pod web-1 at rev-1", "create pod web-2 at rev-1"];
    assert_eq!(planned(set(3).parallel(), vec![]), three);
    let gone = ["delete pod web-2: its ordinal is no longer wanted", "delete pod web-1: its ordinal is no longer wanted"];
    let pods = vec![pod("web-0"), pod("web-1").unready(), pod("web-2")];
    assert_eq!(planned(set(1).parallel(), pods), gone);
}

#[test]
fn an_ordered_set_shrinks_from_the_top_one_at_a_time() {
    let pods = || vec![pod("web-0"), pod("web-1"), pod("web-2")];
    assert_eq!(planned(set(1), pods()), ["delete pod web-2: its ordinal is no longer wanted"]);
    let mut leaving = pods();
    leaving[2] = pod("web-2").terminating();
    assert_eq!(planned(set(1), leaving), ["waits for web-2 to be gone"]);
}

#[test]
fn an_ordered_set_does_not_shrink_while_a_replica_is_unready() {
    let pods = vec![pod("web-0").unready(), pod("web-1"), pod("web-2")];
    assert_eq!(planned(set(2), pods), ["waits for web-0 to become Ready"]);
}

#[test]
fn among_unready_condemned_pods_the_highest_waits_unless_it_was_never_ready() {
    let pods = |last: PodBuilder| vec![pod("web-0").unready(), pod("web-1").unready(), last];
    assert_eq!(planned(set(0), pods(pod("web-2").unready())), ["waits for web-2 to become Ready"]);
    assert_eq!(planned(set(0), pods(pod("web-2").never_ready())), ["delete pod web-2: its ordinal is no longer wanted"]);
}

#[test]
fn a_missing_pod_comes_back_though_a_later_one_is_unready() {
    assert_eq!(planned(set(3), vec![pod("web-1").unready(), pod("web-2")]), ["create pod web-0 at rev-1"]);
}

#[test]
fn a_pod_that_ends_right_after_its_creation_is_not_replaced_at_once() {
    let refused = |seconds| {
        let mut pod = pod("web-0").failed();
        pod.0.metadata.creation_timestamp = Some(ago(seconds));
        pod.0.status.as_mut().unwrap().message = Some("no free ports".to_owned());
        plan(&observed(set(1), vec![revision("rev-1", 1, "v1")], vec![pod]), now())
    };
    let early = refused(1);
    let until = now() + jiff::SignedDuration::from_secs(1);
    assert_eq!(lines(&early), [format!("waits until {until} to replace web-0, which ended right after it was created: no free ports")]);
    assert_eq!(early.recheck_at, Some(until));
    assert_eq!(lines(&refused(2)), ["delete pod web-0: it has ended"]);
}

#[test]
fn a_pod_that_has_ended_is_deleted_and_waited_for() {
    assert_eq!(planned(set(2), vec![pod("web-0").failed(), pod("web-1")]), ["delete pod web-0: it has ended"]);
    assert_eq!(planned(set(2), vec![pod("web-0").failed().terminating(), pod("web-1")]), ["waits for web-0 to be gone"]);
    let both = ["delete pod web-0: it has ended", "delete pod web-1: it has ended"];
    assert_eq!(planned(set(2).parallel(), vec![pod("web-0").failed(), pod("web-1").failed()]), both);
}

#[test]
fn ordinals_begin_at_the_start_and_others_go_after_the_new_ones_are_ready() {
    let old = || vec![pod("web-0"), pod("web-1")];
    assert_eq!(planned(set(2).start(3), old()), ["create pod web-3 at rev-1"]);
    let with_new = old().into_iter().chain([pod("web-3"), pod("web-4")]).collect();
    assert_eq!(planned(set(2).start(3), with_new), ["delete pod web-1: its ordinal is no longer wanted"]);
}

#[test]
fn a_ready_pod_counts_only_after_the_minimum_and_the_plan_says_when() {
    let observed = observed(set(2).min_ready(30).at("rev-1", "rev-1"), vec![revision("rev-1", 1, "v1")], vec![pod("web-0").ready_for(10)]);
    let early = plan(&observed, now());
    let due = early.recheck_at.unwrap();
    assert_eq!(
        (lines(&early).as_slice(), due.duration_since(now()).as_secs()),
        (&["waits for web-0 to stay Ready until 2030-01-01T00:00:20Z".to_owned()][..], 20)
    );
    assert_eq!((early.status.ready_replicas, early.status.available_replicas), (Some(1), Some(0)));
    let later = plan(&observed, due);
    assert_eq!(lines(&later), ["create pod web-1 at rev-1"]);
    // What is left is the deadline for progress, with the minimum on top.
    assert_eq!(later.deadline.unwrap().duration_since(due).as_secs(), 630);
}

#[test]
fn what_is_waited_for_names_the_trouble() {
    assert_eq!(
        planned(set(1), vec![pod("web-0").crashing()]),
        ["waits for web-0 to become Ready: container main: CrashLoopBackOff: back-off 40s"]
    );
}

#[test]
fn a_set_that_is_being_deleted_only_gets_a_status() {
    let pods = vec![pod("web-0"), pod("web-1").unready(), pod("web-2").orphan()];
    let plan = plan(&observed(set(3).at("rev-1", "rev-1").deleting(), vec![revision("rev-1", 1, "v1")], pods), now());
    assert_eq!((lines(&plan), plan.status.ready_replicas), (vec!["is being deleted".to_owned()], Some(1)));
}

#[test]
fn an_absurd_number_of_replicas_is_worked_on_in_pieces() {
    let ordered = planned(set(i32::MAX).start(i32::MAX), vec![]);
    assert_eq!(ordered, ["create pod web-2147483647 at rev-1"]);
    let parallel = planned(set(i32::MAX).parallel(), vec![]);
    assert_eq!(parallel.len(), super::super::MOST_CREATIONS);
}

#[test]
fn a_new_pod_has_the_identity_of_its_ordinal() {
    let plan = plan(&observed(set(1).at("rev-1", "rev-1"), vec![revision("rev-1", 1, "v1")], vec![]), now());
    let [Action::CreatePod { pod, .. }] = plan.actions.as_slice() else { panic!("{plan:?}") };
    let labels: Vec<_> = pod.metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    let wanted =
        ["app=web", "apps.kubernetes.io/pod-index=0", "controller-revision-hash=rev-1", "statefulset.kubernetes.io/pod-name=web-0"];
    assert_eq!(labels, wanted);
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-0"), Some("web")));
    assert_eq!(pod.metadata.owner_references, Some(vec![owner("apps/v1", "StatefulSet", "web", SET_UID)]));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
}

#[test]
fn a_set_of_our_own_group_owns_its_pods_claims_and_revisions_as_that() {
    let own = |revisions| {
        let set = set(1).claims().retention("Delete", "Retain").at("rev-1", "rev-1");
        Observed { kind: SetKind::Steadfast, claims: HashMap::new(), ..observed(set, revisions, vec![]) }
    };
    let mut owners = Vec::new();
    for observed in [own(vec![]), own(vec![revision("rev-1", 1, "v1")])] {
        owners.extend(plan(&observed, now()).actions.into_iter().map(|action| match action {
            Action::CreateRevision(revision) => revision.metadata.owner_references,
            Action::CreateClaim { claim, .. } => claim.metadata.owner_references,
            Action::CreatePod { pod, .. } => pod.metadata.owner_references,
            other => panic!("{other}"),
        }));
    }
    assert_eq!(owners, vec![Some(vec![owner("apps.steadfast.dev/v1", "StatefulSet", "web", SET_UID)]); 3]);
}
