//! Planners that are wrong in ways planners have been wrong: each is caught, by the rule it breaks.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kinds::extensions::{IN_PLACE_UPDATE, PAUSED, RESERVED_ORDINALS, UPDATE_ORDER};
use kinds::gate::{PASSED, PROGRESS};
use model::{Invariant, Planner, configurations, explore};
use plan::statefulset::{Action, DeleteReason, Observed, Plan, plan};

/// Explores the configurations of a story until the mutant is caught, and tells by which rule.
fn caught(mutant: Planner, story: &str, faults: u8) -> Invariant {
    let all = configurations(faults).into_iter().filter(|configuration| configuration.name.starts_with(story));
    let failure = all.into_iter().find_map(|configuration| explore(&configuration, mutant, 100_000).err());
    let failure = failure.expect("a mutant goes unnoticed");
    super::say(&format!("model: after {} lines of trace: {}", failure.trace.len(), failure.violation));
    failure.violation.invariant
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn without(observed: &Observed, unseen: impl Fn(&Pod) -> bool) -> Observed {
    let mut observed = observed.clone();
    observed.pods.retain(|pod| !unseen(pod));
    observed
}

/// A pod that goes is as good as gone.
fn ignores_terminating_pods(observed: &Observed, now: Timestamp) -> Plan {
    plan(&without(observed, |pod| pod.metadata.deletion_timestamp.is_some()), now)
}

/// Pods that have ended are left out before anything is decided.
fn leaves_out_failed_pods(observed: &Observed, now: Timestamp) -> Plan {
    plan(&without(observed, |pod| phase(pod) == "Failed"), now)
}

/// What goes, goes in pairs.
fn deletes_two_at_once(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = plan(observed, now);
    let first = plan.actions.iter().find_map(|action| match action {
        Action::DeletePod { name, reason, .. } => Some((name.clone(), reason.clone())),
        _ => None,
    });
    let Some((first, reason)) = first else { return plan };
    let next = observed.pods.iter().rev().find(|pod| pod.metadata.name.as_ref() != Some(&first));
    plan.actions.extend(next.map(|pod| Action::DeletePod {
        ordinal: plan::statefulset::ordinal_of("web", pod.metadata.name.as_deref().unwrap()).unwrap(),
        name: pod.metadata.name.clone().unwrap(),
        uid: pod.metadata.uid.clone().unwrap(),
        reason,
    }));
    plan
}

/// The partition is a word without meaning.
fn updates_below_the_partition(observed: &Observed, now: Timestamp) -> Plan {
    let mut observed = observed.clone();
    let spec = Arc::make_mut(&mut observed.set).spec.as_mut().unwrap();
    if let Some(block) = spec.update_strategy.as_mut().and_then(|strategy| strategy.rolling_update.as_mut()) {
        block.partition = Some(0);
    }
    plan(&observed, now)
}

/// What is begun counts as done.
fn promotes_the_update_revision_early(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = plan(observed, now);
    plan.status.current_revision = plan.status.update_revision.clone();
    plan
}

/// Whoever goes takes its claim along.
fn gives_claims_to_pods_that_are_updated(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = plan(observed, now);
    let updated = plan.actions.iter().find_map(|action| match action {
        Action::DeletePod { ordinal, name, uid, reason: DeleteReason::Outdated { .. } } => Some((*ordinal, name.clone(), uid.clone())),
        _ => None,
    });
    let Some((ordinal, pod, uid)) = updated else { return plan };
    let Some(claim) = observed.claims.get(&format!("data-{pod}")) else { return plan };
    let owner = OwnerReference { api_version: "v1".into(), kind: "Pod".into(), name: pod, uid, ..OwnerReference::default() };
    let resource_version = claim.metadata.resource_version.clone().unwrap();
    let name = claim.metadata.name.clone().unwrap();
    plan.actions.insert(0, Action::UpdateClaim { ordinal, name, resource_version, owners: vec![owner] });
    plan
}

/// What runs serves.
fn takes_running_pods_for_ready(observed: &Observed, now: Timestamp) -> Plan {
    let mut observed = observed.clone();
    for pod in observed.pods.iter_mut().filter(|pod| phase(pod) == "Running") {
        let conditions = Arc::make_mut(pod).status.as_mut().unwrap().conditions.iter_mut().flatten();
        conditions.filter(|condition| condition.type_ == "Ready").for_each(|condition| condition.status = "True".to_owned());
    }
    plan(&observed, now)
}

/// A name is enough to delete by.
fn deletes_by_name(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = plan(observed, now);
    for action in &mut plan.actions {
        if let Action::DeletePod { uid, .. } = action {
            uid.clear();
        }
    }
    plan
}

/// Storage can wait.
fn creates_pods_before_their_claims(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = plan(observed, now);
    plan.actions.sort_by_key(|action| matches!(action, Action::CreateClaim { .. }));
    plan
}

/// A pod that can't become ready is waited for.
fn waits_for_pods_that_are_stuck(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = plan(observed, now);
    plan.actions.retain(|action| !matches!(action, Action::DeletePod { reason: DeleteReason::Stuck { .. }, .. }));
    plan
}

/// A hook that has begun will succeed.
fn takes_a_hook_that_began_for_one_that_succeeded(observed: &Observed, now: Timestamp) -> Plan {
    let mut observed = observed.clone();
    for pod in &mut observed.pods {
        let annotations = Arc::make_mut(pod).metadata.annotations.get_or_insert_default();
        if annotations.contains_key(PROGRESS) {
            annotations.insert(PASSED.to_owned(), now.to_string());
        }
    }
    plan(&observed, now)
}

/// As if the set did not say this.
fn deaf(observed: &Observed, annotation: &str, now: Timestamp) -> Plan {
    let mut observed = observed.clone();
    Arc::make_mut(&mut observed.set).metadata.annotations.get_or_insert_default().remove(annotation);
    plan(&observed, now)
}

/// A pause is for others.
fn rolls_out_during_a_pause(observed: &Observed, now: Timestamp) -> Plan {
    deaf(observed, PAUSED, now)
}

/// One ordinal is as good as another.
fn fills_reserved_ordinals(observed: &Observed, now: Timestamp) -> Plan {
    deaf(observed, RESERVED_ORDINALS, now)
}

/// The highest ordinal is always the first.
fn heeds_no_roles(observed: &Observed, now: Timestamp) -> Plan {
    deaf(observed, UPDATE_ORDER, now)
}

/// What can be updated in place, is.
fn updates_in_place_unasked(observed: &Observed, now: Timestamp) -> Plan {
    let mut observed = observed.clone();
    let annotations = Arc::make_mut(&mut observed.set).metadata.annotations.get_or_insert_default();
    annotations.insert(IN_PLACE_UPDATE.to_owned(), "true".to_owned());
    plan(&observed, now)
}

#[test]
fn a_planner_that_rolls_out_during_a_pause_is_caught() {
    assert_eq!(caught(rolls_out_during_a_pause, "paused/ordered", 0), Invariant::HealthyPodsStay);
}

#[test]
fn a_planner_that_fills_reserved_ordinals_is_caught() {
    assert_eq!(caught(fills_reserved_ordinals, "reserved/ordered", 0), Invariant::DesiredState);
}

#[test]
fn a_planner_that_heeds_no_roles_is_caught() {
    assert_eq!(caught(heeds_no_roles, "roles/ordered", 0), Invariant::UpdateOrder);
    assert_eq!(caught(heeds_no_roles, "roles/parallel", 0), Invariant::UpdateOrder);
}

#[test]
fn a_planner_that_updates_in_place_unasked_is_caught() {
    assert_eq!(caught(updates_in_place_unasked, "update/ordered/rolling", 0), Invariant::HealthyPodsStay);
}

#[test]
fn a_planner_that_ignores_terminating_pods_is_caught() {
    assert_eq!(caught(ignores_terminating_pods, "update/ordered/rolling", 0), Invariant::OnePodPerOrdinal);
}

#[test]
fn a_planner_that_leaves_out_failed_pods_is_caught() {
    assert_eq!(caught(leaves_out_failed_pods, "update/ordered/rolling", 1), Invariant::OnePodPerOrdinal);
}

#[test]
fn a_planner_that_deletes_two_at_once_is_caught() {
    assert_eq!(caught(deletes_two_at_once, "update/ordered/rolling", 0), Invariant::OneAtATime);
}

#[test]
fn a_planner_that_updates_below_the_partition_is_caught() {
    assert_eq!(caught(updates_below_the_partition, "update/parallel/partition", 0), Invariant::HealthyPodsStay);
}

#[test]
fn a_planner_that_promotes_the_update_revision_early_is_caught() {
    assert_eq!(caught(promotes_the_update_revision_early, "update/ordered/partition", 0), Invariant::PromotedWhenComplete);
}

#[test]
fn a_planner_that_gives_claims_to_pods_that_are_updated_is_caught() {
    assert_eq!(caught(gives_claims_to_pods_that_are_updated, "scale/ordered/rolling/retain-retain", 0), Invariant::ClaimsAreKept);
}

#[test]
fn a_planner_that_takes_running_pods_for_ready_is_caught() {
    assert_eq!(caught(takes_running_pods_for_ready, "update/parallel/rolling", 0), Invariant::UnavailabilityBudget);
    assert_eq!(caught(takes_running_pods_for_ready, "update/ordered/rolling", 0), Invariant::OrderedReady);
}

#[test]
fn a_planner_that_deletes_by_name_is_caught() {
    assert_eq!(caught(deletes_by_name, "update/ordered/rolling", 0), Invariant::DeletesWhatItSaw);
}

#[test]
fn a_planner_that_creates_pods_before_their_claims_is_caught() {
    assert_eq!(caught(creates_pods_before_their_claims, "scale/ordered/rolling", 0), Invariant::ClaimsPrecedePods);
}

#[test]
fn a_planner_that_waits_for_pods_that_are_stuck_is_caught() {
    assert_eq!(caught(waits_for_pods_that_are_stuck, "update/ordered/rolling", 0), Invariant::DesiredState);
}

#[test]
fn a_planner_that_takes_a_hook_that_began_for_one_that_succeeded_is_caught() {
    assert_eq!(caught(takes_a_hook_that_began_for_one_that_succeeded, "gate/ordered", 0), Invariant::GateIsPassed);
}
