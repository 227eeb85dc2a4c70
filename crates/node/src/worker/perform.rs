//! The worker's hands: begins actions and probes, and takes in what came of them.

use super::*;
use crate::container::specification::container_id;
use crate::probe::{self, Target};

/// The longest a container is waited for after its stop signal: bounds a hook too.
const LONGEST_GRACE: i64 = 7 * 24 * 3600;
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Worker {
    /// Begins an action that is not under way. True if it is already done, so that planning goes on.
    pub(super) fn begin(&mut self, action: Action, now: Timestamp) -> bool {
        if let Action::BeginStop { container, grace_seconds, why, .. } = &action {
            self.begin_stop(container, *grace_seconds, *why, now);
            return true;
        }
        if self.in_flight.contains_key(&action) {
            return false;
        }
        match self.task(&action) {
            Some(task) => {
                let task = self.tasks.spawn(task);
                self.by_task.insert(task.id(), action.clone());
                self.in_flight.insert(action, task);
            }
            None => tracing::warn!(?action, "the pod's specification no longer has what it needs"),
        }
        false
    }

    fn begin_stop(&mut self, name: &str, grace_seconds: i64, why: StopReason, now: Timestamp) {
        let text = match why {
            StopReason::PodEnds => format!("Stopping container {name}"),
            StopReason::LivenessFailed => format!("Container {name} failed liveness probe, will be restarted"),
            StopReason::StartupFailed => format!("Container {name} failed startup probe, will be restarted"),
            StopReason::ImageChanged => format!("Container {name} definition changed, will be restarted"),
            StopReason::PostStartFailed => format!("FailedPostStartHook: container {name} will be restarted"),
        };
        self.shared.log(&self.pod).event(self.container(name).as_ref(), Normal, "Killing", text);
        let stop = Stop { began: now, grace_seconds, pre_stop_over: None, terminated: false, killed: false };
        self.memory.containers.entry(name.to_owned()).or_default().stop = Some(stop);
    }

    /// The work of an action; `None` if the specification does not have the container.
    fn task(&self, action: &Action) -> Option<impl Future<Output = Finished> + Send + 'static> {
        let container = match action {
            Action::PrepareImage { container, .. }
            | Action::StartContainer { container, .. }
            | Action::RunPostStart { container, .. }
            | Action::RunPreStop { container, .. } => Some(self.container(container)?),
            _ => None,
        };
        let (shared, pod, action) = (self.shared.clone(), self.pod.clone(), action.clone());
        let inputs = self.inputs(&action);
        Some(async move {
            let result = perform(&shared, &pod, &action, container.as_ref(), inputs).await;
            if let Err(error) = &result {
                shared.log(&pod).action_failed(&action, container.as_ref(), error);
            }
            Finished::Action(action, Box::new(result))
        })
    }

    fn inputs(&self, action: &Action) -> Inputs {
        let start = match action {
            Action::StartContainer { container, attempt } => self.start_input(container, *attempt),
            _ => None,
        };
        let left = match action {
            Action::RunPreStop { container, .. } => self.grace_left(container),
            _ => Duration::from_secs(LONGEST_GRACE.unsigned_abs()),
        };
        let stop_signal = match action {
            Action::Terminate { container, .. } => self.stop_signal(container),
            _ => SIGTERM,
        };
        let address = self.memory.address.clone().unwrap_or_default();
        Inputs { shim_pid: self.memory.shim_pid, start, left, stop_signal, address }
    }

    fn start_input(&self, container: &str, attempt: u32) -> Option<StartInput> {
        let image = self.memory.images.get(&(container.to_owned(), attempt))?;
        let addresses = match operation::is_host_network(&self.pod) {
            true => self.shared.addresses.clone(),
            false => self.memory.address.clone().into_iter().collect(),
        };
        Some(StartInput { image: image.clone(), volumes: self.memory.volumes.clone()?, addresses })
    }

    fn grace_left(&self, container: &str) -> Duration {
        let stop = self.memory.containers.get(container).and_then(|container| container.stop.as_ref());
        let Some(stop) = stop else { return Duration::ZERO };
        let passed = Timestamp::now().duration_since(stop.began).as_secs();
        Duration::from_secs(stop.grace_seconds.min(LONGEST_GRACE).saturating_sub(passed).max(1).unsigned_abs())
    }

    /// The signal the image wants to be stopped with.
    fn stop_signal(&self, container: &str) -> i32 {
        let running = self.memory.containers.get(container).and_then(|container| container.running());
        let image = running.and_then(|running| self.memory.images.get(&(container.to_owned(), running.number)));
        let wanted = image.and_then(|image| image.image.config.stop_signal.clone());
        wanted.and_then(|signal| parse_signal(&signal)).unwrap_or(SIGTERM)
    }

    /// An action succeeded.
    pub(super) fn done(&mut self, action: Action, done: Done, now: Timestamp) {
        self.memory.failures.remove(&action);
        let memory = &mut self.memory;
        match (action, done) {
            (_, Done::Address(address)) => memory.address = Some(address),
            (_, Done::Sandbox(sandbox)) => (memory.sandbox, memory.shim_pid) = (Sandbox::Ready, Some(sandbox.shim_pid)),
            (_, Done::Volumes(volumes)) => memory.volumes = Some(volumes),
            (Action::PrepareImage { container, attempt }, Done::Image(image)) => self.prepared(container, attempt, *image),
            (Action::StartContainer { container, attempt }, Done::Started(started_at)) => {
                memory.started(&self.pod, &container, attempt, memory::at_nanosecond(started_at));
            }
            (Action::AttachNetwork, _) => memory.attached = true,
            (Action::RunPostStart { container, .. }, _) => {
                memory.containers.entry(container).or_default().post_start = plan::pod::Hook::Done;
            }
            (Action::RunPreStop { container, .. }, _) => change_stop(memory, &container, |stop| stop.pre_stop_over = Some(now)),
            (Action::Terminate { container, .. }, _) => change_stop(memory, &container, |stop| stop.terminated = true),
            (Action::Kill { container, .. }, _) => change_stop(memory, &container, |stop| stop.killed = true),
            (Action::RemoveContainer { container, attempt }, _) => {
                let seen = memory.containers.entry(container).or_default();
                seen.attempts.retain(|other| other.number != attempt);
            }
            (Action::RemoveSandbox, _) => memory.sandbox_gone(Sandbox::Absent, now),
            (Action::TearDownVolumes, _) => (memory.volumes_removed, memory.volumes) = (true, None),
            (Action::DetachNetwork, _) => memory.detached = true,
            _ => {}
        }
    }

    /// An image that the specification no longer names is of no use.
    fn prepared(&mut self, container: String, attempt: u32, image: PreparedImage) {
        let wanted = self.container(&container).and_then(|spec| spec.image).unwrap_or_default();
        if image.reference == wanted {
            self.memory.containers.entry(container.clone()).or_default().image_for = Some(attempt);
            self.memory.images.insert((container, attempt), image);
        }
    }

    /// An action failed.
    pub(super) fn failed(&mut self, action: Action, error: &OperationError, now: Timestamp) {
        match &action {
            // A failed hook is over; what follows is the planner's to say.
            Action::RunPreStop { container, .. } => change_stop(&mut self.memory, container, |stop| stop.pre_stop_over = Some(now)),
            Action::RunPostStart { container, .. } => {
                self.memory.containers.entry(container.clone()).or_default().post_start = plan::pod::Hook::Failed;
            }
            // The container ended meanwhile: its end is told soon.
            Action::Terminate { container, .. } if is_over(error) => {
                change_stop(&mut self.memory, container, |stop| stop.terminated = true)
            }
            Action::Kill { container, .. } if is_over(error) => change_stop(&mut self.memory, container, |stop| stop.killed = true),
            _ => self.memory.failed(action, error.reason(), error.to_string(), now),
        }
    }

    /// When the next probe is due.
    pub(super) fn next_probe(&self) -> Option<Timestamp> {
        let probers = self.memory.probers.iter().filter(|(key, _)| self.may_probe(key));
        probers.filter_map(|(_, prober)| prober.next_at()).min()
    }

    /// The container runs, is not being stopped, has started if the probe waits for that, and is not being probed.
    fn may_probe(&self, key: &(String, Kind)) -> bool {
        let (name, kind) = key;
        let Some(container) = self.memory.containers.get(name) else { return false };
        let waits = *kind != Kind::Startup && self.memory.probers.contains_key(&(name.clone(), Kind::Startup));
        let started = !waits || container.startup == Some(true);
        let ends = self.gone || self.pod.metadata.deletion_timestamp.is_some() || container.stop.is_some();
        container.running().is_some() && started && !ends && !self.probing.contains(key)
    }

    /// Begins the probes that are due.
    pub(super) fn probe(&mut self, now: Timestamp) {
        let is_due = |key: &(String, Kind), at: Option<Timestamp>| self.may_probe(key) && at.is_some_and(|at| at <= now);
        let due: Vec<_> =
            self.memory.probers.iter().filter(|(key, prober)| is_due(key, prober.next_at())).map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(target) = self.target(&key.0) else { continue };
            let Some(spec) = key.1.of(&target.1.container).cloned() else { continue };
            let limit = Duration::try_from(plan::probe::Schedule::of(&spec).timeout).unwrap_or(Duration::from_secs(1));
            self.probing.insert(key.clone());
            let (attempt, target) = target;
            self.tasks.spawn(async move {
                let found = probe::check(&target, &spec, limit).await;
                Finished::Probed { container: key.0, attempt, kind: key.1, began: now, found }
            });
        }
    }

    fn target(&self, name: &str) -> Option<(u32, Target)> {
        let attempt = self.memory.containers.get(name)?.running()?;
        debug_assert!(matches!(attempt.state, AttemptState::Running { .. }));
        Some((
            attempt.number,
            target(&self.shared, &self.pod, self.container(name)?, attempt.number, self.memory.address.clone().unwrap_or_default()),
        ))
    }

    /// A probe ended.
    pub(super) fn probed(&mut self, name: &str, attempt: u32, kind: Kind, began: Timestamp, found: Result<(), String>) {
        let key = (name.to_owned(), kind);
        self.probing.remove(&key);
        let same =
            self.memory.containers.get(name).and_then(|container| container.running()).is_some_and(|running| running.number == attempt);
        let Some(prober) = self.memory.probers.get_mut(&key).filter(|_| same) else { return };
        let outcome = if found.is_ok() { Outcome::Success } else { Outcome::Failure };
        let effect = prober.record(outcome, began, Timestamp::now());
        let (verdict, failures) = (prober.verdict(), prober.failures_to_tell());
        if effect.changed {
            self.memory.judged(name, kind, verdict);
        }
        if let Err(message) = found
            && effect.unhealthy
        {
            if let Some(times) = failures {
                self.memory.kept_back(name, kind, times, &message);
            }
            let text = format!("{} probe failed: {message}", kind.name());
            self.shared.log(&self.pod).event(self.container(name).as_ref(), Warning, "Unhealthy", text);
        }
    }
}

/// What actions need of the worker's memory.
struct Inputs {
    shim_pid: Option<i32>,
    start: Option<StartInput>,
    left: Duration,
    stop_signal: i32,
    address: String,
}

async fn perform(
    shared: &Shared,
    pod: &Pod,
    action: &Action,
    container: Option<&Container>,
    inputs: Inputs,
) -> Result<Done, OperationError> {
    let uid = operation::uid(pod);
    match (action, container) {
        (Action::ReserveAddress, _) => Ok(Done::Address(operation::reserve_address(shared, pod).await?)),
        (Action::CreateSandbox, _) => Ok(Done::Sandbox(Box::new(operation::create_sandbox(shared, pod).await?))),
        (Action::AttachNetwork, _) => nothing(operation::attach(shared, pod, inputs.shim_pid.unwrap_or_default()).await),
        (Action::PrepareVolumes, _) => Ok(Done::Volumes(volumes::prepare(shared, pod).await?)),
        (Action::PrepareImage { attempt, .. }, Some(container)) => {
            Ok(Done::Image(Box::new(operation::prepare_image(shared, pod, container, *attempt).await?)))
        }
        (Action::StartContainer { attempt, .. }, Some(container)) => {
            let lost = || OperationError::Hook("its image or its volumes are gone".to_owned());
            let input = inputs.start.ok_or_else(lost)?;
            Ok(Done::Started(operation::start(shared, pod, container, *attempt, input).await?))
        }
        (Action::RunPostStart { attempt, .. }, Some(container)) => hook(shared, pod, container, *attempt, inputs, true).await,
        (Action::RunPreStop { attempt, .. }, Some(container)) => hook(shared, pod, container, *attempt, inputs, false).await,
        (Action::Terminate { container, attempt }, _) => {
            nothing(shared.runtime.signal(uid, &container_id(container, *attempt), inputs.stop_signal).await.map_err(OperationError::from))
        }
        (Action::Kill { container, attempt }, _) => {
            nothing(shared.runtime.signal(uid, &container_id(container, *attempt), SIGKILL).await.map_err(OperationError::from))
        }
        (Action::RemoveContainer { container, attempt }, _) => nothing(operation::remove_container(shared, pod, container, *attempt).await),
        (Action::RemoveSandbox, _) => nothing(operation::remove_sandbox(shared, pod).await),
        (Action::TearDownVolumes, _) => nothing(operation::tear_down(shared, pod).await),
        (Action::DetachNetwork, _) => nothing(operation::detach(shared, pod).await),
        (Action::DeletePod, _) => nothing(operation::delete_pod(shared, pod).await),
        _ => Ok(Done::Nothing),
    }
}

fn nothing(result: Result<(), OperationError>) -> Result<Done, OperationError> {
    result.map(|()| Done::Nothing)
}

async fn hook(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    inputs: Inputs,
    at_start: bool,
) -> Result<Done, OperationError> {
    let lifecycle = container.lifecycle.clone().unwrap_or_default();
    let handler = if at_start { lifecycle.post_start } else { lifecycle.pre_stop };
    let Some(handler) = handler else { return Ok(Done::Nothing) };
    let target = target(shared, pod, container.clone(), attempt, inputs.address);
    probe::run_hook(&target, &handler, inputs.left).await.map(|()| Done::Nothing).map_err(OperationError::Hook)
}

fn target(shared: &Shared, pod: &Pod, container: Container, attempt: u32, address: String) -> Target {
    Target {
        runtime: shared.runtime.clone(),
        uid: operation::uid(pod).to_owned(),
        container_id: container_id(&container.name, attempt),
        container,
        address,
    }
}

fn change_stop(memory: &mut Memory, container: &str, change: impl FnOnce(&mut Stop)) {
    if let Some(stop) = memory.containers.get_mut(container).and_then(|container| container.stop.as_mut()) {
        change(stop);
    }
}

fn is_over(error: &OperationError) -> bool {
    use runtime::RuntimeError::{NoContainer, NoSandbox, NotRunning};
    matches!(error, OperationError::Runtime(NotRunning(_) | NoContainer { .. } | NoSandbox(_)))
}

/// A signal by its number or its name, with or without `SIG`.
fn parse_signal(text: &str) -> Option<i32> {
    let number = text.parse().ok().filter(|number| (1..=64).contains(number));
    let name = format!("SIG{}", text.to_uppercase().trim_start_matches("SIG"));
    number.or_else(|| name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_are_names_or_numbers() {
        assert_eq!(parse_signal("SIGQUIT"), Some(3));
        assert_eq!(parse_signal("usr1"), Some(10));
        assert_eq!(parse_signal("37"), Some(37));
        assert_eq!(parse_signal("SIGNOTHING"), None);
        assert_eq!(parse_signal("0"), None);
    }
}
