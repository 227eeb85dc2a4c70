//! What the node reports of a pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::{Attempt, AttemptState, Ended, Failure, Observed};
use super::unit::{Due, Role, Unit, units};
use super::{Action, Stage, conditions, deadline_exceeded, phase, quality_of_service};

/// For so long a failed pull is reported as such, then as waiting for the next try.
const PULL_FAILURE_SHOWN: SignedDuration = SignedDuration::from_secs(3);

pub(super) fn status(observed: &Observed<'_>, stage: Stage, now: Timestamp) -> PodStatus {
    let recorded = observed.pod.status.clone().unwrap_or_default();
    if observed.recorded_end().is_some() && observed.containers.is_empty() {
        return recorded;
    }
    let phase = phase::phase(observed, stage);
    let (reason, message) = end_reason(observed, stage, &recorded, now);
    let addresses: Vec<String> = match observed.host_network() {
        true => observed.host_addresses.to_vec(),
        false => observed.address.map(str::to_owned).into_iter().collect(),
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions::conditions(observed, phase, now)),
        reason,
        message,
        host_ip: observed.host_addresses.first().cloned(),
        host_ips: Some(observed.host_addresses.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: addresses.first().cloned().or(recorded.pod_ip),
        pod_ips: if addresses.is_empty() { recorded.pod_ips } else { Some(addresses.into_iter().map(|ip| PodIP { ip }).collect()) },
        start_time: Some(Time(whole_seconds(observed.started_at()))),
        qos_class: observed.spec().map(|spec| quality_of_service(spec).to_owned()),
        observed_generation: observed.pod.metadata.generation,
        init_container_statuses: statuses(observed, stage, now, |role| matches!(role, Role::Init | Role::Sidecar)),
        container_statuses: statuses(observed, stage, now, |role| role == Role::Main),
        ephemeral_container_statuses: statuses(observed, stage, now, |role| role == Role::Ephemeral),
        ..recorded
    }
}

/// Why the pod failed as a whole.
fn end_reason(observed: &Observed<'_>, stage: Stage, recorded: &PodStatus, now: Timestamp) -> (Option<String>, Option<String>) {
    if let Some(rejection) = observed.rejection {
        return (Some(rejection.reason.clone()), Some(rejection.message.clone()));
    }
    if recorded.reason.is_none() && stage == Stage::Ending && !observed.is_deleting() && deadline_exceeded(observed, now) {
        let message = "Pod was active on the node longer than the specified deadline";
        return (Some("DeadlineExceeded".to_owned()), Some(message.to_owned()));
    }
    (recorded.reason.clone(), recorded.message.clone())
}

fn statuses(observed: &Observed<'_>, stage: Stage, now: Timestamp, wanted: fn(Role) -> bool) -> Option<Vec<ContainerStatus>> {
    if observed.rejection.is_some() {
        return None;
    }
    let wanted = units(observed).filter(|unit| wanted(unit.role));
    let all: Vec<_> = wanted.map(|unit| container_status(observed, stage, unit, now)).collect();
    (!all.is_empty()).then_some(all)
}

fn container_status(observed: &Observed<'_>, stage: Stage, unit: Unit<'_>, now: Timestamp) -> ContainerStatus {
    let latest = unit.seen.latest();
    let uid = observed.pod.metadata.uid.as_deref().unwrap_or_default();
    let waiting = waiting(observed, stage, unit, now);
    let last = match (&waiting, unit.seen.attempts.as_slice()) {
        (Some(_), [.., last]) | (None, [.., last, _]) => Some(attempt_state(last, &unit, uid)),
        _ => None,
    };
    let state = match (waiting, latest) {
        (Some(waiting), _) => ContainerState { waiting: Some(waiting), ..ContainerState::default() },
        (None, Some(attempt)) => attempt_state(attempt, &unit, uid),
        (None, None) => ContainerState::default(),
    };
    ContainerStatus {
        name: unit.name(),
        image: latest
            .map(|attempt| attempt.image.clone())
            .filter(|image| !image.is_empty())
            .or(unit.spec.image.clone())
            .unwrap_or_default(),
        image_id: latest.map(|attempt| attempt.image_id.clone()).unwrap_or_default(),
        container_id: latest.map(|attempt| container_id(uid, &unit, attempt)),
        restart_count: latest.map_or(0, |attempt| i32::try_from(attempt.number).unwrap_or(i32::MAX)),
        ready: unit.is_ready(),
        started: Some(unit.is_started()),
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

fn container_id(uid: &str, unit: &Unit<'_>, attempt: &Attempt) -> String {
    format!("steadfast://{uid}/{}-{}", unit.spec.name, attempt.number)
}

fn attempt_state(attempt: &Attempt, unit: &Unit<'_>, uid: &str) -> ContainerState {
    match &attempt.state {
        AttemptState::Running { started_at } => {
            let running = ContainerStateRunning { started_at: Some(Time(whole_seconds(*started_at))) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        }
        AttemptState::Ended(ended) => {
            let terminated = ContainerStateTerminated {
                container_id: Some(container_id(uid, unit, attempt)),
                exit_code: ended.exit_code,
                signal: ended.signal,
                reason: Some(exit_reason(ended).to_owned()),
                message: ended.message.clone(),
                started_at: ended.started_at.map(|at| Time(whole_seconds(at))),
                finished_at: Some(Time(whole_seconds(ended.finished_at))),
            };
            ContainerState { terminated: Some(terminated), ..ContainerState::default() }
        }
    }
}

fn exit_reason(ended: &Ended) -> &'static str {
    match ended {
        Ended { unknown: true, .. } => "ContainerStatusUnknown",
        Ended { out_of_memory: true, .. } => "OOMKilled",
        Ended { exit_code: 0, .. } => "Completed",
        _ => "Error",
    }
}

/// What the container waits for; `None` if it runs, or if its end is what there is to tell.
fn waiting(observed: &Observed<'_>, stage: Stage, unit: Unit<'_>, now: Timestamp) -> Option<ContainerStateWaiting> {
    let say = |reason: &str, message: Option<String>| Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message });
    let due = unit.due(now);
    if due == Due::No || (stage == Stage::Ending && unit.seen.latest().is_some()) {
        return None;
    }
    if let Some((reason, message)) = failure(observed, &unit, now) {
        return say(&reason, Some(message));
    }
    match (due, unit.seen.latest()) {
        (Due::At(_), _) => say("CrashLoopBackOff", Some(back_off_message(observed, &unit))),
        (_, Some(_)) => None,
        (_, None) if has_inits(observed) && unit.role == Role::Main => say("PodInitializing", None),
        (_, None) => say(if has_inits(observed) { "PodInitializing" } else { "ContainerCreating" }, None),
    }
}

fn has_inits(observed: &Observed<'_>) -> bool {
    observed.spec().is_some_and(|spec| spec.init_containers.as_ref().is_some_and(|inits| !inits.is_empty()))
}

fn back_off_message(observed: &Observed<'_>, unit: &Unit<'_>) -> String {
    let meta = &observed.pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let delay = match unit.seen.back_off_seconds() {
        seconds if seconds < 60 => format!("{seconds}s"),
        seconds => format!("{}m{}s", seconds / 60, seconds % 60),
    };
    let (name, namespace, uid) = (text(&meta.name), text(&meta.namespace), text(&meta.uid));
    format!("back-off {delay} restarting failed container={} pod={name}_{namespace}({uid})", unit.spec.name)
}

/// Why the next attempt can't begin.
fn failure(observed: &Observed<'_>, unit: &Unit<'_>, now: Timestamp) -> Option<(String, String)> {
    let (container, attempt) = (unit.name(), unit.seen.next_attempt());
    if let Some(failure) = observed.failures.get(&Action::PrepareImage { container: container.clone(), attempt }) {
        return Some(image_failure(unit, failure, now));
    }
    let failure = observed.failures.get(&Action::StartContainer { container, attempt })?;
    Some((failure.reason.clone(), failure.message.clone()))
}

fn image_failure(unit: &Unit<'_>, failure: &Failure, now: Timestamp) -> (String, String) {
    let fresh = now.duration_since(failure.at) < PULL_FAILURE_SHOWN;
    if failure.reason != "ErrImagePull" || fresh {
        return (failure.reason.clone(), failure.message.clone());
    }
    let image = unit.spec.image.as_deref().unwrap_or_default();
    let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {}", failure.message);
    ("ImagePullBackOff".to_owned(), message)
}

/// As times are written: without fractions.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
