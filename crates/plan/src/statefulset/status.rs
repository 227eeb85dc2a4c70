//! What the status of a set says.

use k8s_openapi::api::apps::v1::{StatefulSetCondition, StatefulSetStatus};

use super::Observed;
use super::member::Member;
use super::membership::Members;
use super::spec::{Spec, Strategy};

/// The status for what is observed. When all replicas are updated and ready, the update revision becomes the current one.
pub(super) fn of(observed: &Observed, spec: &Spec<'_>, members: &Members<'_>, current: &str, update: &str) -> StatefulSetStatus {
    let count = |wanted: &dyn Fn(&Member<'_>) -> bool| members.all().filter(|member| wanted(member)).count() as i32;
    let is_at = |member: &Member<'_>, revision: &str| member.has_phase() && !member.terminating && member.revision == revision;
    let replicas = count(&|member| member.has_phase());
    let ready = count(&|member| member.health.is_ready());
    let updated = count(&|member| is_at(member, update));
    let complete = is_complete(spec, members, update);
    let (current, at_current) = if complete { (update, updated) } else { (current, count(&|member| is_at(member, current))) };
    let before = observed.set.status.as_ref();
    let positive = |number: i32| Some(number).filter(|number| *number > 0);
    let named = |revision: &str| Some(revision.to_owned()).filter(|revision| !revision.is_empty());
    StatefulSetStatus {
        observed_generation: observed.set.metadata.generation,
        replicas,
        ready_replicas: positive(ready),
        available_replicas: Some(count(&|member| member.health == super::member::Health::Available)),
        current_replicas: positive(at_current),
        updated_replicas: positive(updated),
        current_revision: named(current),
        update_revision: named(update),
        collision_count: Some(before.and_then(|status| status.collision_count).unwrap_or(0)),
        conditions: before.and_then(|status| status.conditions.clone()),
    }
}

/// Whether the rollout has reached every replica, and no other pod is left: a condemned one does not stand in for a replica
/// that is missing. Of none it says nothing under a partition or a pause: they may come back, and those below the partition
/// belong to the current revision.
fn is_complete(spec: &Spec<'_>, members: &Members<'_>, update: &str) -> bool {
    let Strategy::RollingUpdate { partition, .. } = spec.strategy else { return false };
    let forgets = spec.replicas == 0 && (spec.is_paused() || partition.is_some_and(|partition| partition > 0));
    let has_it = |member: &Member<'_>| !member.terminating && member.revision == update && member.health.is_ready();
    let all = members.replicas.len() == spec.replicas as usize && members.replicas.iter().all(has_it);
    !forgets && all && members.condemned.is_empty()
}

/// Whether a status is worth a write, given the one that is there. Of conditions, the times alone are not.
pub fn differs(before: Option<&StatefulSetStatus>, after: &StatefulSetStatus) -> bool {
    let Some(before) = before else { return true };
    let numbers = |status: &StatefulSetStatus| {
        let counts = [status.ready_replicas, status.available_replicas, status.current_replicas, status.updated_replicas];
        (status.replicas, status.collision_count.unwrap_or_default(), counts.map(Option::unwrap_or_default))
    };
    let names = |status: &StatefulSetStatus| (status.current_revision.clone(), status.update_revision.clone());
    let conditions = |status: &StatefulSetStatus| {
        let conditions = status.conditions.clone().unwrap_or_default();
        let timeless = |condition: StatefulSetCondition| StatefulSetCondition { last_transition_time: None, ..condition };
        conditions.into_iter().map(timeless).collect::<Vec<_>>()
    };
    conditions(before) != conditions(after)
        || after.observed_generation > before.observed_generation
        || numbers(before) != numbers(after)
        || names(before) != names(after)
}
