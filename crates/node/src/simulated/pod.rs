//! What a simulated node makes of a pod. Pure.
//!
//! The status a pod should have is built from the one it has; where both are the same there is nothing to do.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP, Pod,
    PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::ObjectKey;

use super::execute::Action;
use super::{FAILURE, READY_AFTER};

/// A pod that is to be Ready in a year is looked at once a day.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// What is known about a pod that is bound to a simulated node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed<'a> {
    pub pod: &'a Pod,
    /// The address of its node.
    pub host: Ipv4Addr,
    /// Its own; `None` if the network has none left.
    pub address: Option<Ipv4Addr>,
    /// How long the node has known it.
    pub age: Duration,
}

/// What to do about a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub action: Option<Action>,
    /// When to look again though nothing may have changed by then.
    pub recheck_after: Option<Duration>,
}

/// What a pod's containers do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// They run, and will be ready after this time.
    Starting(Duration),
    /// They wait, and this is why.
    Stuck {
        reason: String,
        message: String,
    },
}

/// What to do about a pod. A pod that has ended stays as it is.
pub(super) fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let pod = observed.pod;
    if pod.metadata.deletion_timestamp.is_some() {
        return Plan { action: deletion(pod), recheck_after: None };
    }
    let current = pod.status.clone().unwrap_or_default();
    if matches!(current.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Plan::default();
    }
    let state = state(observed);
    let wanted = Writer { observed, state: &state, now }.status(&current);
    let report =
        |status| Action::ReportPod { key: key_of(pod), resource_version: pod.metadata.resource_version.clone(), status: Box::new(status) };
    let recheck_after = match state {
        State::Starting(remaining) => Some(remaining.min(LONGEST_WAIT)),
        State::Ready | State::Stuck { .. } => None,
    };
    Plan { action: (wanted != current).then(|| report(wanted)), recheck_after }
}

/// Nothing has to end first. What finalizers hold back has been deleted as far as a node can.
fn deletion(pod: &Pod) -> Option<Action> {
    let meta = &pod.metadata;
    let held = meta.deletion_grace_period_seconds == Some(0) && meta.finalizers.as_ref().is_some_and(|held| !held.is_empty());
    (!held).then(|| Action::DeletePod { key: key_of(pod), uid: meta.uid.clone() })
}

fn state(observed: &Observed<'_>) -> State {
    let annotations = observed.pod.metadata.annotations.as_ref();
    let annotation = |name: &str| annotations.and_then(|annotations| annotations.get(name)).map(String::as_str);
    let stuck = |reason: &str, message: String| State::Stuck { reason: reason.to_owned(), message };
    if observed.address.is_none() {
        return stuck("NoAddress", "the network of the simulated nodes has no address left".to_owned());
    }
    if let Some(reason) = annotation(FAILURE).filter(|reason| !reason.is_empty()) {
        return stuck(reason, format!("asked for by the annotation {FAILURE}"));
    }
    let Some(text) = annotation(READY_AFTER) else { return State::Ready };
    match text.parse::<SignedDuration>().ok().and_then(|delay| Duration::try_from(delay).ok()) {
        Some(delay) if delay > observed.age => State::Starting(delay - observed.age),
        Some(_) => State::Ready,
        None => stuck("InvalidAnnotation", format!("{READY_AFTER}: {text:?} is not a duration such as 2s")),
    }
}

/// Builds a status.
struct Writer<'a> {
    observed: &'a Observed<'a>,
    state: &'a State,
    now: Timestamp,
}

impl Writer<'_> {
    fn status(&self, current: &PodStatus) -> PodStatus {
        let pod = self.observed.pod;
        let nothing = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&nothing);
        let mut status = current.clone();
        let stuck = matches!(self.state, State::Stuck { .. });
        let phase = if stuck && current.phase.as_deref() != Some("Running") { "Pending" } else { "Running" };
        status.phase = Some(phase.to_owned());
        status.observed_generation = pod.metadata.generation;
        status.host_ip = Some(self.observed.host.to_string());
        status.host_ips = Some(vec![HostIP { ip: self.observed.host.to_string() }]);
        status.pod_ip = self.observed.address.map(|address| address.to_string());
        status.pod_ips = self.observed.address.map(|address| vec![PodIP { ip: address.to_string() }]);
        status.start_time.get_or_insert(Time(self.now));
        status.container_statuses = Some(spec.containers.iter().map(|container| self.main(container, current)).collect());
        let inits = spec.init_containers.as_ref();
        status.init_container_statuses = inits.map(|inits| inits.iter().map(|container| self.init(container, current)).collect());
        self.set_conditions(spec, status.conditions.get_or_insert_default());
        status
    }

    fn main(&self, container: &Container, current: &PodStatus) -> ContainerStatus {
        let State::Stuck { reason, message } = self.state else {
            let ready = *self.state == State::Ready;
            return ContainerStatus { ready, ..self.running(container, current.container_statuses.as_ref()) };
        };
        let waiting = ContainerStateWaiting { reason: Some(reason.clone()), message: Some(message.clone()) };
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            started: Some(false),
            state: Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() }),
            ..ContainerStatus::default()
        }
    }

    /// An init container has ended well; one that is never to end runs.
    fn init(&self, container: &Container, current: &PodStatus) -> ContainerStatus {
        let statuses = current.init_container_statuses.as_ref();
        let running = self.running(container, statuses);
        if container.restart_policy.as_deref() == Some("Always") {
            return running;
        }
        let earlier = state_of(container, statuses).and_then(|state| state.terminated.as_ref());
        let ended = earlier.cloned().unwrap_or_else(|| ContainerStateTerminated {
            container_id: running.container_id.clone(),
            reason: Some("Completed".to_owned()),
            started_at: Some(Time(self.now)),
            finished_at: Some(Time(self.now)),
            ..ContainerStateTerminated::default()
        });
        let state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
        ContainerStatus { started: Some(false), state, ..running }
    }

    /// A container that runs, since when it was said to.
    fn running(&self, container: &Container, statuses: Option<&Vec<ContainerStatus>>) -> ContainerStatus {
        let image = container.image.clone().unwrap_or_default();
        let before = statuses.and_then(|statuses| statuses.iter().find(|status| status.name == container.name));
        let restarts = before.map_or(0, |before| before.restart_count + i32::from(before.image != image));
        let same = before.filter(|before| before.image == image).and_then(|before| before.state.as_ref());
        let earlier = same.and_then(|state| state.running.as_ref());
        let running = earlier.cloned().unwrap_or(ContainerStateRunning { started_at: Some(Time(self.now)) });
        let uid = self.observed.pod.metadata.uid.as_deref().unwrap_or_default();
        ContainerStatus {
            name: container.name.clone(),
            container_id: Some(format!("simulated://{uid}/{}-{restarts}", container.name)),
            restart_count: restarts,
            image_id: format!("simulated://{image}"),
            image,
            ready: true,
            started: Some(true),
            state: Some(ContainerState { running: Some(running), ..ContainerState::default() }),
            ..ContainerStatus::default()
        }
    }

    fn set_conditions(&self, spec: &PodSpec, conditions: &mut Vec<PodCondition>) {
        let containers = (*self.state != State::Ready).then(|| {
            let names: Vec<_> = spec.containers.iter().map(|container| container.name.as_str()).collect();
            ("ContainersNotReady", format!("containers with unready status: [{}]", names.join(" ")))
        });
        let ready = containers.clone().or_else(|| closed_gate(spec, conditions));
        let sandbox = self.observed.address.is_none().then(|| ("NoAddress", "the pod has no address".to_owned()));
        self.set(conditions, "PodReadyToStartContainers", sandbox);
        self.set(conditions, "Initialized", None);
        self.set(conditions, "Ready", ready);
        self.set(conditions, "ContainersReady", containers);
        self.set(conditions, "PodScheduled", None);
    }

    /// Makes a condition true, or false for this reason. Others' conditions stay.
    fn set(&self, conditions: &mut Vec<PodCondition>, type_: &str, wrong: Option<(&str, String)>) {
        let index = conditions.iter().position(|condition| condition.type_ == type_).unwrap_or_else(|| {
            conditions.push(PodCondition { type_: type_.to_owned(), ..PodCondition::default() });
            conditions.len() - 1
        });
        let condition = &mut conditions[index];
        let status = if wrong.is_none() { "True" } else { "False" };
        if condition.status != status {
            status.clone_into(&mut condition.status);
            condition.last_transition_time = Some(Time(self.now));
        }
        (condition.reason, condition.message) = wrong.map(|(reason, message)| (reason.to_owned(), message)).unzip();
    }
}

/// A condition that others have to make true before the pod is Ready, and have not.
fn closed_gate(spec: &PodSpec, conditions: &[PodCondition]) -> Option<(&'static str, String)> {
    let is_true = |type_: &str| conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True");
    let closed = spec.readiness_gates.iter().flatten().find(|gate| !is_true(&gate.condition_type))?;
    Some(("ReadinessGatesNotReady", format!("the status of pod readiness gate {:?} is not \"True\"", closed.condition_type)))
}

fn state_of<'a>(container: &Container, statuses: Option<&'a Vec<ContainerStatus>>) -> Option<&'a ContainerState> {
    statuses?.iter().find(|status| status.name == container.name)?.state.as_ref()
}

pub(super) fn key_of(pod: &Pod) -> ObjectKey {
    ObjectKey::new(pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests;
