//! One pod of the set, and how it is.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use kinds::Ordinal;
use kinds::extensions::HAS_BEEN_READY;

use super::identity::REVISION_LABEL;
use super::in_place::{is_updated_inside, unreplaced};

/// A kubelet's times are whole seconds, and it may take two that belong together on both sides of a tick.
const TICK: SignedDuration = SignedDuration::from_secs(1);
/// A pod that ends sooner than this after it was created is not replaced before. Times are whole seconds, so it is one at least.
const SHORTEST_LIFE: SignedDuration = SignedDuration::from_secs(2);

/// Why a container waits when waiting longer won't help.
const HOPELESS: [&str; 7] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) ordinal: u32,
    pub(super) pod: &'a Pod,
    pub(super) health: Health,
    /// Whether it is on its way out.
    pub(super) terminating: bool,
    /// The name of the revision it was created from; empty if it doesn't say.
    pub(super) revision: &'a str,
    /// When it may be replaced, if it has ended too early for that: a pod that its node refuses would be refused again at once.
    pub(super) replaced_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Failed or succeeded.
    Ended,
    /// Accepted, but not all of its containers have been started.
    Pending,
    NotReady,
    /// Ready, but not yet for long enough. The time is unknown if the pod doesn't say since when it is ready.
    Ready {
        available_at: Option<Timestamp>,
    },
    Available,
}

impl Health {
    /// When it will be available if it stays ready.
    pub(super) fn available_at(self) -> Option<Timestamp> {
        match self {
            Self::Ready { available_at } => available_at,
            Self::Ended | Self::Pending | Self::NotReady | Self::Available => None,
        }
    }

    pub(super) fn is_ready(self) -> bool {
        matches!(self, Self::Ready { .. } | Self::Available)
    }
}

impl<'a> Member<'a> {
    pub(super) fn of(ordinal: u32, pod: &'a Pod, min_ready: SignedDuration, now: Timestamp) -> Self {
        let revision = pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL));
        let health = health(pod, min_ready, now);
        let created = pod.metadata.creation_timestamp.as_ref().filter(|_| health == Health::Ended);
        let lived = created.map(|time| time.0.saturating_add(SHORTEST_LIFE).unwrap_or(Timestamp::MAX));
        Self {
            ordinal,
            pod,
            health,
            replaced_at: lived.filter(|at| *at > now),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            revision: revision.map(String::as_str).unwrap_or_default(),
        }
    }

    pub(super) fn name(&self) -> &'a str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &'a str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn ordinal(&self) -> Ordinal {
        Ordinal(self.ordinal)
    }

    /// Whether it serves, and will go on.
    pub(super) fn is_available(&self) -> bool {
        self.health == Health::Available && !self.terminating
    }

    /// When time alone changes what it is.
    pub(super) fn changes_at(&self) -> Option<Timestamp> {
        self.health.available_at().or(self.replaced_at)
    }

    /// Why it ended, as far as the pod says.
    pub(super) fn end(&self) -> Option<String> {
        let status = self.pod.status.as_ref()?;
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        said(&status.message).or_else(|| said(&status.reason))
    }

    /// Whether the API server has given it a phase.
    pub(super) fn has_phase(&self) -> bool {
        phase(self.pod).is_some_and(|phase| !phase.is_empty())
    }

    /// Whether it has never been ready at its revision: it was updated in place and not ready since, or nothing says that it was,
    /// and its Ready condition is as old as the pod's start. (The node says so itself if it is one of ours.)
    pub(super) fn was_never_ready(&self) -> bool {
        if is_updated_inside(self.pod) && !self.health.is_ready() {
            return true;
        }
        if condition(self.pod, HAS_BEEN_READY).is_some_and(|condition| condition.status == "True") {
            return false;
        }
        let since = |condition: &PodCondition| condition.last_transition_time.as_ref().map(|time| time.0);
        let started = self.pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        match (ready_condition(self.pod), started) {
            (None, _) => true,
            (Some(condition), _) if condition.status == "True" => false,
            (Some(condition), Some(started)) => since(condition).is_some_and(|since| since.duration_since(started) <= TICK),
            (Some(_), None) => self.health == Health::Pending,
        }
    }

    /// Whether a container of it fails again and again.
    pub(super) fn is_hopeless(&self) -> bool {
        containers(self.pod).filter_map(waiting_reason).any(|reason| HOPELESS.contains(&reason))
    }

    /// What keeps it from being ready, as far as the pod says.
    pub(super) fn trouble(&self) -> Option<String> {
        let unready = ready_condition(self.pod).filter(|condition| condition.status != "True");
        let unreplaced = unreplaced(self.pod).map(|name| format!("container {name} has still to be replaced"));
        unscheduled(self.pod).or_else(|| containers(self.pod).find_map(container_trouble)).or_else(|| unready.and_then(told)).or(unreplaced)
    }
}

/// What keeps a pod from starting, as far as it says.
pub(super) fn start_trouble(pod: &Pod) -> Option<String> {
    unscheduled(pod).or_else(|| containers(pod).find_map(waiting_trouble))
}

fn unscheduled(pod: &Pod) -> Option<String> {
    condition(pod, "PodScheduled").filter(|condition| condition.status == "False").and_then(told)
}

/// What a pod tells of its own prospects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHealth {
    pub was_never_ready: bool,
    /// A container of it fails again and again.
    pub fails_again_and_again: bool,
    /// What keeps it from being ready, as far as it says.
    pub trouble: Option<String>,
}

/// What a pod tells of its own prospects.
pub fn health_of(pod: &Pod, now: Timestamp) -> PodHealth {
    let member = Member::of(0, pod, SignedDuration::ZERO, now);
    PodHealth { was_never_ready: member.was_never_ready(), fails_again_and_again: member.is_hopeless(), trouble: member.trouble() }
}

fn health(pod: &Pod, min_ready: SignedDuration, now: Timestamp) -> Health {
    match phase(pod) {
        Some("Failed" | "Succeeded") => Health::Ended,
        None | Some("" | "Pending") => Health::Pending,
        Some("Running") => match ready_condition(pod) {
            Some(ready) if ready.status == "True" && unreplaced(pod).is_none() => readiness(ready, min_ready, now),
            Some(_) | None => Health::NotReady,
        },
        Some(_) => Health::NotReady,
    }
}

fn readiness(ready: &PodCondition, min_ready: SignedDuration, now: Timestamp) -> Health {
    if min_ready.is_zero() {
        return Health::Available;
    }
    let since = ready.last_transition_time.as_ref().map(|time| time.0);
    match since.map(|since| since.saturating_add(min_ready).unwrap_or(Timestamp::MAX)) {
        Some(at) if at <= now => Health::Available,
        available_at => Health::Ready { available_at },
    }
}

/// The phase of a pod, if it has been given one.
pub(super) fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|status| status.phase.as_deref())
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "Ready")
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// The message of a condition, or else its reason.
fn told(condition: &PodCondition) -> Option<String> {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    said(&condition.message).or_else(|| said(&condition.reason))
}

/// The containers that have to run, init containers first.
fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()))
}

fn waiting_reason(container: &ContainerStatus) -> Option<&str> {
    container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

/// `container redis: CrashLoopBackOff: back-off 10s ...`, or how it ended before; not for one that is only about to start.
fn container_trouble(container: &ContainerStatus) -> Option<String> {
    waiting_trouble(container).or_else(|| ended_trouble(container))
}

fn waiting_trouble(container: &ContainerStatus) -> Option<String> {
    let reason = waiting_reason(container).filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"))?;
    let message = container.state.as_ref()?.waiting.as_ref()?.message.as_deref();
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    Some(format!("container {}: {reason}{message}", container.name))
}

fn ended_trouble(container: &ContainerStatus) -> Option<String> {
    let end = [&container.state, &container.last_state].into_iter().flatten().find_map(|state| state.terminated.as_ref());
    let end = end.filter(|end| !container.ready && end.exit_code != 0)?;
    let reason = end.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    Some(format!(
        "container {} ended with exit code {}{reason}, restarted {} times",
        container.name, end.exit_code, container.restart_count
    ))
}
