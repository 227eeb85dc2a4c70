//! What the agent knows of a pod beyond the API's object.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use plan::pod::{Action, Attempt, AttemptState, Container, Ended, Failure, Hook, Rejection, Sandbox};
use plan::probe::{Kind, Prober};
use runtime::{ContainerState, Exit};

use crate::container::specification::{container_id, parse_container_id};
use crate::operations::PreparedImage;
use crate::volumes::Prepared;

/// So much of what a probe found gets into the pod's status.
const LONGEST_PROBE_MESSAGE: usize = 256;

/// One pod's state on the node. Owned and changed by its worker alone.
#[derive(Debug)]
pub(crate) struct Memory {
    pub rejection: Option<Rejection>,
    pub sandbox: Sandbox,
    pub shim_pid: Option<i32>,
    pub address: Option<String>,
    pub attached: bool,
    pub volumes: Option<Prepared>,
    pub volumes_removed: bool,
    pub detached: bool,
    pub containers: BTreeMap<String, Container>,
    /// By container and attempt: of those that run, and of those to come.
    pub images: BTreeMap<(String, u32), PreparedImage>,
    pub probers: BTreeMap<(String, Kind), Prober>,
    pub failures: BTreeMap<Action, Failure>,
    /// Ends that were told before the start was, by the runtime's identity.
    pub early_exits: BTreeMap<String, Exit>,
    pub seen_at: Timestamp,
}

impl Memory {
    /// What is known of a pod that was never seen, or that an earlier agent left: from the runtime, and from the recorded status.
    pub fn recovered(pod: &Pod, found: Option<&runtime::Sandbox>, now: Timestamp) -> Self {
        let recorded = pod.status.clone().unwrap_or_default();
        let ended = matches!(recorded.phase.as_deref(), Some("Succeeded" | "Failed"));
        let mut containers = found.map(from_runtime).unwrap_or_default();
        let lists = [&recorded.init_container_statuses, &recorded.container_statuses, &recorded.ephemeral_container_statuses];
        let statuses = lists.into_iter().flatten().flatten();
        // Of a pod that ended and was cleaned up, the recorded status is all there is to know.
        for status in statuses.filter(|_| !ended || found.is_some()) {
            adopt(containers.entry(status.name.clone()).or_default(), status, now);
        }
        let probers = containers.iter().flat_map(|(name, container)| probers(pod, name, container)).collect();
        Self {
            rejection: None,
            sandbox: if found.is_some() { Sandbox::Ready } else { Sandbox::Absent },
            shim_pid: found.map(|sandbox| sandbox.shim_pid),
            address: recorded.pod_ip.filter(|_| found.is_some()),
            attached: found.is_some_and(|sandbox| !sandbox.containers.is_empty()),
            volumes: None,
            volumes_removed: false,
            detached: false,
            containers,
            images: BTreeMap::new(),
            probers,
            failures: BTreeMap::new(),
            early_exits: BTreeMap::new(),
            seen_at: now,
        }
    }

    /// A container was started.
    pub fn started(&mut self, pod: &Pod, name: &str, number: u32, started_at: Timestamp) {
        self.images.retain(|(container, attempt), _| container != name || *attempt >= number);
        let prepared = self.images.get(&(name.to_owned(), number));
        let image = prepared.map(|prepared| prepared.reference.clone()).unwrap_or_default();
        let image_id = prepared.map(|prepared| prepared.image.digest.clone()).unwrap_or_default();
        let container = self.containers.entry(name.to_owned()).or_default();
        // An image that was given up has no crashes to count for the next one.
        let crashes = match container.latest() {
            Some(latest) if latest.image.is_empty() || latest.image == image => container.crashes_so_far() + 1,
            _ => 0,
        };
        let mut attempts = std::mem::take(&mut container.attempts);
        attempts.push(Attempt { number, state: AttemptState::Running { started_at }, image, image_id, earlier_sandbox: false });
        *container = Container { attempts, crashes, ..Container::default() };
        self.probers.extend(probers(pod, name, container));
        if let Some(exit) = self.early_exits.remove(&container_id(name, number)) {
            self.exited(name, number, &exit, None);
        }
    }

    /// The specification of a container names another image than before: what was prepared or failed with that one is void.
    pub fn image_changed(&mut self, name: &str) {
        let is_of = |action: &Action| match action {
            Action::PrepareImage { container, .. } | Action::StartContainer { container, .. } => container == name,
            _ => false,
        };
        self.failures.retain(|action, _| !is_of(action));
        if let Some(container) = self.containers.get_mut(name) {
            container.image_for = None;
        }
    }

    /// A container ended. An end of a start that was not told yet waits for it.
    pub fn exited(&mut self, name: &str, number: u32, exit: &Exit, message: Option<String>) {
        let attempts = self.containers.get_mut(name).map(|container| &mut container.attempts);
        let Some(attempt) = attempts.and_then(|attempts| attempts.iter_mut().find(|attempt| attempt.number == number)) else {
            self.early_exits.insert(container_id(name, number), exit.clone());
            return;
        };
        if let AttemptState::Running { started_at } = attempt.state {
            attempt.state = AttemptState::Ended(ended(Some(started_at), exit, message));
            self.probers.retain(|(container, _), _| container != name);
        }
    }

    /// The sandbox is gone, and what ran in it.
    pub fn sandbox_gone(&mut self, sandbox: Sandbox, now: Timestamp) {
        self.sandbox = sandbox;
        self.shim_pid = None;
        self.attached = false;
        self.probers.clear();
        self.images.clear();
        for container in self.containers.values_mut() {
            container.image_for = None;
            for attempt in &mut container.attempts {
                attempt.earlier_sandbox = true;
                if let AttemptState::Running { started_at } = attempt.state {
                    attempt.state = AttemptState::Ended(unknown_end(Some(started_at), now));
                }
            }
        }
    }

    /// The last run of the action failed once more.
    pub fn failed(&mut self, action: Action, reason: &str, message: String, now: Timestamp) {
        let count = self.failures.get(&action).map_or(0, |failure| failure.count) + 1;
        self.failures.insert(action, Failure { reason: reason.to_owned(), message, count, at: now });
    }

    /// A probe failed so many times in a row.
    pub fn kept_back(&mut self, name: &str, kind: Kind, times: u32, message: &str) {
        let message: String = message.trim().chars().take(LONGEST_PROBE_MESSAGE).collect();
        let how_often = if times == 1 { "once".to_owned() } else { format!("{times} times") };
        let failure = format!("{} probe failed {how_often}: {message}", kind.name().to_lowercase());
        if kind != Kind::Liveness {
            self.containers.entry(name.to_owned()).or_default().probe_failure = Some(failure);
        }
    }

    /// A newer verdict of a probe.
    pub fn judged(&mut self, name: &str, kind: Kind, verdict: Option<bool>) {
        let container = self.containers.entry(name.to_owned()).or_default();
        match kind {
            Kind::Startup => container.startup = verdict,
            Kind::Liveness => container.liveness = verdict,
            Kind::Readiness => container.readiness = verdict,
        }
    }
}

fn from_runtime(sandbox: &runtime::Sandbox) -> BTreeMap<String, Container> {
    let mut containers: BTreeMap<String, Container> = BTreeMap::new();
    for found in &sandbox.containers {
        let Some((name, number)) = parse_container_id(&found.id) else { continue };
        let state = match &found.state {
            ContainerState::Running { started_at, .. } => AttemptState::Running { started_at: at_nanosecond(*started_at) },
            ContainerState::Exited { started_at, exit } => AttemptState::Ended(ended(Some(at_nanosecond(*started_at)), exit, None)),
        };
        let attempt = Attempt { number, state, image: String::new(), image_id: String::new(), earlier_sandbox: false };
        containers.entry(name.to_owned()).or_default().attempts.push(attempt);
    }
    for container in containers.values_mut() {
        container.attempts.sort_by_key(|attempt| attempt.number);
        container.crashes = container.latest().map_or(0, |latest| latest.number);
        container.post_start = Hook::Done;
    }
    containers
}

/// Adds what only the recorded status knows: the image, verdicts of probes, and starts that the runtime has lost.
fn adopt(container: &mut Container, status: &ContainerStatus, now: Timestamp) {
    let number = u32::try_from(status.restart_count).unwrap_or(0);
    if let Some(attempt) = container.attempts.last_mut() {
        // If it began after the status was written, it may have another image; then it is started once too often.
        (attempt.image, attempt.image_id) = (status.image.clone(), status.image_id.clone());
        if attempt.number == number {
            container.readiness = Some(status.ready).filter(|ready| *ready);
            container.startup = status.started.filter(|started| *started);
        }
        return;
    }
    let Some(state) = status.state.as_ref().filter(|_| status.container_id.is_some()) else { return };
    let terminated = state.terminated.as_ref().or_else(|| status.last_state.as_ref()?.terminated.as_ref());
    let started_at = state.running.as_ref().and_then(|running| running.started_at.as_ref()).map(|time| time.0);
    let ended = match terminated.filter(|_| state.running.is_none()) {
        None => unknown_end(started_at, now),
        Some(end) => Ended {
            started_at: end.started_at.as_ref().map(|time| time.0),
            finished_at: end.finished_at.as_ref().map_or(now, |time| time.0),
            exit_code: end.exit_code,
            signal: end.signal,
            out_of_memory: end.reason.as_deref() == Some("OOMKilled"),
            unknown: end.reason.as_deref() == Some("ContainerStatusUnknown"),
            message: end.message.clone(),
        },
    };
    container.attempts.push(Attempt {
        number,
        state: AttemptState::Ended(ended),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        earlier_sandbox: true,
    });
    container.crashes = number;
}

fn ended(started_at: Option<Timestamp>, exit: &Exit, message: Option<String>) -> Ended {
    Ended {
        started_at,
        finished_at: at_nanosecond(exit.finished_at),
        exit_code: exit.code,
        signal: exit.signal,
        out_of_memory: exit.out_of_memory,
        unknown: false,
        message,
    }
}

fn unknown_end(started_at: Option<Timestamp>, now: Timestamp) -> Ended {
    let message = "The container could not be located when the pod was looked for".to_owned();
    Ended { started_at, finished_at: now, exit_code: 137, signal: None, out_of_memory: false, unknown: true, message: Some(message) }
}

/// The probes of a running container.
fn probers(pod: &Pod, name: &str, container: &Container) -> Vec<((String, Kind), Prober)> {
    let Some(AttemptState::Running { started_at }) = container.running().map(|attempt| &attempt.state) else { return Vec::new() };
    let found = pod.spec.iter().flat_map(plan::pod::roles).find(|(_, spec)| spec.name == name);
    let Some((_, spec)) = found else { return Vec::new() };
    let known = [(Kind::Startup, container.startup), (Kind::Liveness, container.liveness), (Kind::Readiness, container.readiness)];
    let prober =
        |(kind, known): (Kind, Option<bool>)| Some(((name.to_owned(), kind), Prober::new(kind, kind.of(spec)?, *started_at, known)));
    known.into_iter().filter_map(prober).collect()
}

/// A moment as the runtime tells it.
pub(crate) fn at_nanosecond(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use runtime::{Resources, SandboxSpec};
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(2_000).unwrap()
    }

    fn pod(status: serde_json::Value) -> Pod {
        let spec = json!({ "containers": [{ "name": "redis", "readinessProbe": { "exec": { "command": ["ping"] } } }] });
        serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" }, "spec": spec, "status": status }))
            .unwrap()
    }

    fn sandbox(containers: Vec<runtime::Container>) -> runtime::Sandbox {
        let spec = SandboxSpec {
            uid: "u".to_owned(),
            namespace: "n".to_owned(),
            name: "p".to_owned(),
            hostname: "p".to_owned(),
            host_network: false,
            share_process_namespace: false,
            sysctls: BTreeMap::new(),
            resources: Resources::default(),
        };
        runtime::Sandbox { spec, shim_pid: 1, containers, warnings: Vec::new() }
    }

    fn running(id: &str) -> runtime::Container {
        let state = ContainerState::Running { pid: 7, started_at: 1_000_000_000_000 };
        runtime::Container { id: id.to_owned(), name: "redis".to_owned(), state }
    }

    fn exit(code: i32) -> Exit {
        Exit { code, signal: None, out_of_memory: false, finished_at: 1_500_000_000_000 }
    }

    #[test]
    fn restarts_and_readiness_survive_the_agent() {
        let status = json!({ "podIP": "10.77.0.5", "containerStatuses": [
            { "name": "redis", "ready": true, "started": true, "restartCount": 3, "image": "i", "imageID": "sha256:1", "containerID": "x", "state": { "running": {} } },
        ] });
        let memory = Memory::recovered(&pod(status), Some(&sandbox(vec![running("redis-3")])), now());
        let redis = &memory.containers["redis"];
        assert_eq!((redis.running().unwrap().number, redis.readiness, redis.crashes), (3, Some(true), 3));
        assert_eq!(redis.running().unwrap().image_id, "sha256:1");
        assert_eq!((memory.address.as_deref(), memory.attached), (Some("10.77.0.5"), true));
        assert_eq!(memory.probers[&("redis".to_owned(), Kind::Readiness)].verdict(), Some(true));
    }

    #[test]
    fn what_ran_before_a_reboot_counts_as_ended() {
        let status = json!({ "containerStatuses": [
            { "name": "redis", "ready": true, "restartCount": 2, "image": "i", "imageID": "", "containerID": "x", "state": { "running": {} } },
        ] });
        let memory = Memory::recovered(&pod(status), None, now());
        let redis = &memory.containers["redis"];
        assert_eq!((memory.sandbox, redis.next_attempt()), (Sandbox::Absent, 3));
        assert!(redis.ended().unwrap().unknown && redis.latest().unwrap().earlier_sandbox);
    }

    #[test]
    fn an_end_that_is_told_before_the_start_is_kept() {
        let pod = pod(json!({}));
        let mut memory = Memory::recovered(&pod, None, now());
        memory.exited("redis", 0, &exit(3), None);
        memory.started(&pod, "redis", 0, now());
        assert_eq!(memory.containers["redis"].ended().map(|ended| ended.exit_code), Some(3));
        assert!(memory.probers.is_empty() && memory.early_exits.is_empty());
    }
}
