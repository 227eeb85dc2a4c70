//! Claims and their owners.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::super::{Action, Observed, plan};
use super::builders::*;

fn with_claims(set: SetBuilder, pods: Vec<PodBuilder>) -> Observed {
    observed(set.claims().at("rev-1", "rev-1"), vec![revision("rev-1", 1, "v1")], pods)
}

fn own(observed: &mut Observed, claim_name: &str, owners: Vec<OwnerReference>) {
    let mut claim = claim(claim_name);
    claim.metadata.owner_references = Some(owners);
    observed.claims.insert(claim_name.to_owned(), Arc::new(claim));
}

fn set_owner(uid: &str) -> OwnerReference {
    owner("apps/v1", "StatefulSet", "web", uid)
}

fn pod_owner(uid: &str) -> OwnerReference {
    owner("v1", "Pod", "web-1", uid)
}

/// The owners the plan gives claim `data-web-1`; `None` if it leaves them.
fn owners_given(observed: &Observed) -> Option<Vec<String>> {
    plan(observed, now()).actions.into_iter().find_map(|action| match action {
        Action::UpdateClaim { name, owners, .. } if name == "data-web-1" => Some(owners.into_iter().map(|owner| owner.kind).collect()),
        _ => None,
    })
}

#[test]
fn a_claim_precedes_its_pod_and_is_used_again() {
    let mut observed = with_claims(set(1), vec![]);
    assert_eq!(lines(&plan(&observed, now())), ["create pod web-0 at rev-1"]);
    observed.claims.clear();
    assert_eq!(lines(&plan(&observed, now())), ["create claim data-web-0", "create pod web-0 at rev-1"]);
}

#[test]
fn a_pending_pod_gets_its_lost_claim_back_and_a_running_one_does_not() {
    let mut pending = with_claims(set(1), vec![pod("web-0").pending()]);
    pending.claims.clear();
    assert_eq!(lines(&plan(&pending, now()))[0], "create claim data-web-0");
    let mut running = with_claims(set(1), vec![pod("web-0")]);
    running.claims.clear();
    assert!(plan(&running, now()).actions.is_empty());
}

#[test]
fn no_pod_is_created_on_a_claim_that_is_going() {
    let gone = "waits for claim data-web-0 of an earlier pod to be gone";
    let mut leaving = with_claims(set(1), vec![]);
    let mut claim = claim("data-web-0");
    claim.metadata.deletion_timestamp = Some(ago(1));
    leaving.claims.insert("data-web-0".to_owned(), Arc::new(claim));
    assert_eq!(lines(&plan(&leaving, now())), [gone]);

    let mut stale = with_claims(set(1).retention("Retain", "Delete"), vec![]);
    own(&mut stale, "data-web-0", vec![owner("v1", "Pod", "web-0", "an earlier pod")]);
    assert_eq!(lines(&plan(&stale, now())), [gone]);
}

#[test]
fn the_owner_of_a_claim_follows_the_policy() {
    let rows = [("Retain", "Retain", None, None), ("Delete", "Retain", Some("StatefulSet"), Some("StatefulSet"))];
    let rows = rows.into_iter().chain([("Retain", "Delete", None, Some("Pod")), ("Delete", "Delete", Some("StatefulSet"), Some("Pod"))]);
    for (deleted, scaled, in_range, condemned) in rows {
        let given = |replicas| {
            let pods = vec![pod("web-0"), pod("web-1")];
            owners_given(&with_claims(set(replicas).retention(deleted, scaled), pods)).map(|owners| owners.join(" "))
        };
        assert_eq!(given(2).as_deref(), in_range, "{deleted} {scaled} in range");
        assert_eq!(given(1).as_deref(), condemned, "{deleted} {scaled} condemned");
    }
}

#[test]
fn owners_that_fit_are_left_and_those_of_another_policy_are_taken_away() {
    let pods = || vec![pod("web-0"), pod("web-1")];
    let given = |set: SetBuilder, owners| {
        let mut observed = with_claims(set, pods());
        own(&mut observed, "data-web-1", owners);
        owners_given(&observed)
    };
    assert_eq!(given(set(2).retention("Delete", "Retain"), vec![set_owner(SET_UID)]), None);
    assert_eq!(given(set(2), vec![set_owner(SET_UID)]), Some(vec![]));
    assert_eq!(given(set(2), vec![pod_owner("uid-web-1")]), Some(vec![]));
    let plain = OwnerReference { controller: None, ..set_owner(SET_UID) };
    assert_eq!(given(set(2).retention("Delete", "Retain"), vec![plain]), Some(vec!["StatefulSet".to_owned()]));
}

#[test]
fn owners_of_an_earlier_set_or_pod_and_foreign_controllers_are_respected() {
    let given = |owners: Vec<OwnerReference>| {
        let mut observed = with_claims(set(2).retention("Delete", "Retain"), vec![pod("web-0"), pod("web-1")]);
        own(&mut observed, "data-web-1", owners);
        (owners_given(&observed), plan(&observed, now()).conflicts)
    };
    assert_eq!(given(vec![set_owner("an earlier set")]), (None, vec![]));
    assert_eq!(given(vec![pod_owner("an earlier pod")]), (None, vec![]));
    let foreign = owner("v1", "Other", "someone", "someone");
    let conflict = vec!["data-web-1".to_owned()];
    assert_eq!(given(vec![foreign.clone()]), (None, conflict.clone()));
    assert_eq!(given(vec![foreign.clone(), set_owner(SET_UID)]), (Some(vec!["Other".to_owned()]), conflict));
    let harmless = OwnerReference { controller: None, ..foreign };
    assert_eq!(given(vec![harmless]), (Some(vec!["Other".to_owned(), "StatefulSet".to_owned()]), vec![]));
}

#[test]
fn the_owners_of_condemned_claims_are_set_before_their_pods_go() {
    let pods = vec![pod("web-0"), pod("web-1"), pod("web-2")];
    let wanted =
        ["set the owners of claim data-web-2", "set the owners of claim data-web-1", "delete pod web-2: its ordinal is no longer wanted"];
    assert_eq!(lines(&plan(&with_claims(set(1).retention("Retain", "Delete"), pods), now())), wanted);
}

#[test]
fn a_replica_that_was_condemned_leaves_its_claims_behind_however_it_goes() {
    for parallel in [false, true] {
        for pod in [pod("web-1").failed(), pod("web-1").unready(), pod("web-1").crashing().at("rev-0"), pod("web-1").terminating()] {
            let set = set(2).retention("Retain", "Delete");
            let mut observed = with_claims(if parallel { set.parallel() } else { set }, vec![super::builders::pod("web-0"), pod]);
            own(&mut observed, "data-web-1", vec![pod_owner("uid-web-1")]);
            assert_eq!(lines(&plan(&observed, now()))[0], "set the owners of claim data-web-1");
            assert_eq!(owners_given(&observed), Some(vec![]));
        }
    }
}

#[test]
fn a_pod_without_its_claim_is_named_and_not_touched() {
    let mut bare = pod("web-0");
    bare.0.spec.as_mut().unwrap().volumes = None;
    let waits = "waits for web-0 to be deleted by hand: it does not mount claim data-web-0";
    assert_eq!(lines(&plan(&with_claims(set(2), vec![bare]), now())), [waits]);
}

#[test]
fn a_claim_takes_the_place_of_a_volume_of_its_name() {
    let mut set = set(1).claims();
    let volumes = serde_json::json!([{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]);
    set.0.spec.as_mut().unwrap().template.spec.as_mut().unwrap().volumes = Some(serde_json::from_value(volumes).unwrap());
    let mut observed = with_claims(set, vec![]);
    Arc::make_mut(&mut observed.set).status.as_mut().unwrap().observed_generation = Some(1);
    let plan = plan(&observed, now());
    let [Action::CreatePod { pod, .. }] = plan.actions.as_slice() else { panic!("{plan:?}") };
    let volumes = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
    let names: Vec<_> = volumes.iter().map(|volume| (volume.name.as_str(), volume.persistent_volume_claim.is_some())).collect();
    assert_eq!(names, [("data", true), ("tmp", false)]);
}
