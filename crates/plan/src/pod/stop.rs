//! The pod is to end: stop the containers, report the end, clean up, delete.

use super::observed::{Sandbox, Stop};
use super::unit::{Role, Unit, units};
use super::{Action, Draft, StopReason, after, grace_seconds};

/// What a process gets to react to its stop signal after a preStop hook has used up the grace period.
const MINIMUM_AFTER_HOOK: i64 = 2;

pub(super) fn plan(draft: &mut Draft<'_>) {
    if stop_all(draft) {
        return;
    }
    let recorded = draft.observed.gone || draft.observed.recorded_end().is_some();
    if recorded {
        clean_up(draft);
    }
}

/// Stops what runs; sidecars last, in reverse order. True while something runs.
fn stop_all(draft: &mut Draft<'_>) -> bool {
    let running = |unit: &Unit<'_>| unit.seen.running().is_some();
    let (sidecars, others): (Vec<_>, Vec<_>) = units(draft.observed).filter(running).partition(|unit| unit.role == Role::Sidecar);
    let grace = grace_seconds(draft.observed.pod);
    for unit in &others {
        stop(draft, *unit, grace, StopReason::PodEnds);
    }
    if others.is_empty()
        && let Some(last) = sidecars.last()
    {
        stop(draft, *last, what_is_left(draft, grace), StopReason::PodEnds);
    }
    !(others.is_empty() && sidecars.is_empty())
}

/// What earlier stops have left of the grace period.
fn what_is_left(draft: &Draft<'_>, grace: i64) -> i64 {
    let asked = draft.observed.pod.metadata.deletion_timestamp.as_ref();
    let left = asked.map_or(grace, |until| until.0.as_second() - draft.now.as_second());
    left.clamp(grace.min(MINIMUM_AFTER_HOOK), grace)
}

/// The next step of stopping a running container.
pub(super) fn stop(draft: &mut Draft<'_>, unit: Unit<'_>, grace_seconds: i64, why: StopReason) {
    let Some(running) = unit.seen.running() else { return };
    let (container, attempt) = (unit.name(), running.number);
    let Some(begun) = &unit.seen.stop else {
        return draft.act(Action::BeginStop { container, attempt, grace_seconds, why });
    };
    let deadline = kill_at(begun, grace_seconds);
    if draft.now >= deadline {
        if !begun.killed {
            draft.act(Action::Kill { container, attempt });
        }
        return;
    }
    if unit.has_pre_stop() && begun.pre_stop_over.is_none() {
        draft.act(Action::RunPreStop { container, attempt });
    } else if !begun.terminated {
        draft.act(Action::Terminate { container, attempt });
    }
    draft.look_again(deadline);
}

/// A shorter grace that was asked for later counts; a longer one doesn't.
fn kill_at(begun: &Stop, grace_seconds: i64) -> jiff::Timestamp {
    let grace = begun.grace_seconds.min(grace_seconds);
    let deadline = after(begun.began, grace);
    match begun.pre_stop_over {
        Some(over) if grace > 0 => deadline.max(after(over, MINIMUM_AFTER_HOOK.min(grace))),
        _ => deadline,
    }
}

/// Nothing runs and the API knows the end: give back what the pod had.
fn clean_up(draft: &mut Draft<'_>) {
    let observed = draft.observed;
    if observed.sandbox != Sandbox::Absent {
        return draft.act(Action::RemoveSandbox);
    }
    if !observed.volumes_removed {
        draft.act(Action::TearDownVolumes);
    }
    if !observed.detached {
        draft.act(Action::DetachNetwork);
    }
    if observed.volumes_removed && observed.detached && observed.is_deleting() && !observed.gone {
        draft.act(Action::DeletePod);
    }
}
