//! The pod is to run.

use super::observed::{Hook, Sandbox};
use super::unit::{Due, Unit, units};
use super::{Action, Draft, StopReason, deadline, grace_seconds, phase, stop};

pub(super) fn plan(draft: &mut Draft<'_>) {
    if let Some(at) = deadline(draft.observed) {
        draft.look_again(at);
    }
    let wanted = phase::to_start(draft.observed);
    foundations(draft);
    for unit in units(draft.observed) {
        forget_old_attempts(draft, unit);
        if unit.seen.running().is_some() {
            watch_over(draft, unit);
        } else if wanted.contains(&unit.spec.name) {
            start(draft, unit);
        }
    }
}

/// What all containers need. The parts don't wait for each other; only the network needs a sandbox and an address.
fn foundations(draft: &mut Draft<'_>) {
    let observed = draft.observed;
    match observed.sandbox {
        Sandbox::Absent => draft.act(Action::CreateSandbox),
        Sandbox::Lost => draft.act(Action::RemoveSandbox),
        Sandbox::Ready if observed.address.is_some() && !observed.attached => draft.act(Action::AttachNetwork),
        Sandbox::Ready => {}
    }
    if observed.address.is_none() {
        draft.act(Action::ReserveAddress);
    }
    if !observed.volumes_ready {
        draft.act(Action::PrepareVolumes);
    }
}

fn founded(draft: &Draft<'_>) -> bool {
    let observed = draft.observed;
    observed.sandbox == Sandbox::Ready && observed.attached && observed.volumes_ready && observed.address.is_some()
}

fn start(draft: &mut Draft<'_>, unit: Unit<'_>) {
    match unit.due(draft.now) {
        Due::No => {}
        Due::At(at) => draft.look_again(at),
        Due::Now => {
            let (container, attempt) = (unit.name(), unit.seen.next_attempt());
            if unit.seen.image_for != Some(attempt) {
                draft.act(Action::PrepareImage { container, attempt });
            } else if founded(draft) {
                draft.act(Action::StartContainer { container, attempt });
            }
        }
    }
}

/// A running container: its hook, its probes' verdicts, and a stop that has begun.
fn watch_over(draft: &mut Draft<'_>, unit: Unit<'_>) {
    let Some(running) = unit.seen.running() else { return };
    let pod_grace = grace_seconds(draft.observed.pod);
    let probe_grace = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
        probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds).unwrap_or(pod_grace)
    };
    let fatal = if unit.seen.startup == Some(false) {
        Some((StopReason::StartupFailed, probe_grace(&unit.spec.startup_probe)))
    } else if unit.seen.liveness == Some(false) {
        Some((StopReason::LivenessFailed, probe_grace(&unit.spec.liveness_probe)))
    } else if unit.has_post_start() && unit.seen.post_start == Hook::Failed {
        Some((StopReason::PostStartFailed, pod_grace))
    } else if unit.has_other_image() && has_next_image(draft, unit) {
        Some((StopReason::ImageChanged, pod_grace))
    } else {
        None
    };
    match (fatal, &unit.seen.stop) {
        (Some((why, grace)), _) => stop::stop(draft, unit, grace, why),
        (None, Some(begun)) => stop::stop(draft, unit, begun.grace_seconds, StopReason::LivenessFailed),
        (None, None) if unit.has_post_start() && unit.seen.post_start == Hook::Pending => {
            draft.act(Action::RunPostStart { container: unit.name(), attempt: running.number });
        }
        (None, None) => {}
    }
}

/// Gets the image of the next attempt while the present one still runs. What can't be had stops nothing.
fn has_next_image(draft: &mut Draft<'_>, unit: Unit<'_>) -> bool {
    let attempt = unit.seen.next_attempt();
    let is_there = unit.seen.image_for == Some(attempt);
    if !is_there && unit.seen.stop.is_none() {
        draft.act(Action::PrepareImage { container: unit.name(), attempt });
    }
    is_there
}

/// Keeps the newest attempt and the one before, for `lastState` and the previous log.
fn forget_old_attempts(draft: &mut Draft<'_>, unit: Unit<'_>) {
    let surplus = unit.seen.attempts.len().saturating_sub(2);
    let old = unit.seen.attempts[..surplus].iter().filter(|attempt| !attempt.earlier_sandbox);
    for attempt in old {
        draft.act(Action::RemoveContainer { container: unit.name(), attempt: attempt.number });
    }
}
