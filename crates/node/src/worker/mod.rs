//! One task per pod: observes, plans, and lets the operations run side by side. It sleeps until something happens.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use events::Severity::{Normal, Warning};
use informer::Api;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Patch, PatchParams};
use plan::pod::{Action, AttemptState, Observed, Plan, Rejection, Sandbox, Stop, StopReason};
use plan::probe::{Kind, Outcome};
use runtime::Exit;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::Shared;
use crate::error::OperationError;
use crate::operations::{self as operation, PreparedImage, StartInput};
use crate::volumes::{self, Prepared};

pub(crate) mod memory;
mod perform;
pub(crate) mod report;

use memory::Memory;

/// What waits for a worker at most; senders wait too, for a worker is never long busy.
const INBOX: usize = 256;
/// Between two tries to write a status that the API did not take.
const WRITE_PAUSE: i64 = 1;

/// Something a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    Pod(Arc<Pod>),
    /// The object is gone from the API.
    Gone,
    Exited {
        container_id: String,
        exit: Exit,
    },
    SandboxLost,
    /// A ConfigMap or Secret of this name changed in the pod's namespace.
    Changed(String),
}

/// What an action left behind.
#[derive(Debug)]
enum Done {
    Nothing,
    Address(String),
    Sandbox(Box<runtime::Sandbox>),
    Volumes(Prepared),
    Image(Box<PreparedImage>),
    Started(i64),
}

/// A task of the worker that ended.
#[derive(Debug)]
enum Finished {
    Action(Action, Box<Result<Done, OperationError>>),
    Written(Result<Box<Pod>, kube::Error>),
    Refreshed(Box<Result<Prepared, OperationError>>),
    Probed {
        container: String,
        attempt: u32,
        kind: Kind,
        began: Timestamp,
        found: Result<(), String>,
    },
    /// A container's end, with what it left as its last words.
    Ended {
        container: String,
        attempt: u32,
        exit: Exit,
        message: Option<String>,
    },
}

/// The worker of one pod.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    /// Those of the pod that were added while it runs.
    ephemeral: Vec<Container>,
    gone: bool,
    memory: Memory,
    inbox: mpsc::Receiver<Message>,
    tasks: JoinSet<Finished>,
    in_flight: BTreeMap<Action, AbortHandle>,
    /// Which action a task does, for one that panicked.
    by_task: HashMap<Id, Action>,
    probing: BTreeSet<(String, Kind)>,
    writing: bool,
    write_again_at: Option<Timestamp>,
    refreshing: bool,
    /// A refresh was asked for while one ran.
    refresh_again: bool,
    /// Containers whose waiting was told in an event, with the reason.
    told: BTreeMap<String, String>,
}

impl Worker {
    /// A worker for a pod that is new, or that an earlier agent left.
    pub fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        found: Option<&runtime::Sandbox>,
        rejection: Option<Rejection>,
    ) -> (Self, mpsc::Sender<Message>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut memory = Memory::recovered(&pod, found, Timestamp::now());
        memory.rejection = rejection;
        let worker = Self {
            shared,
            ephemeral: ephemeral(&pod),
            pod,
            gone: false,
            memory,
            inbox,
            tasks: JoinSet::new(),
            in_flight: BTreeMap::new(),
            by_task: HashMap::new(),
            probing: BTreeSet::new(),
            writing: false,
            write_again_at: None,
            refreshing: false,
            refresh_again: false,
            told: BTreeMap::new(),
        };
        (worker, sender)
    }

    /// The pod's object is gone; only what it left is to be removed.
    pub fn cleaning_up(mut self) -> Self {
        self.gone = true;
        self
    }

    /// Runs until nothing of the pod is left.
    pub async fn run(mut self) {
        loop {
            let wake = self.step();
            if self.is_finished() {
                if let Err(error) = operation::remove_logs(&self.shared, &self.pod).await {
                    tracing::warn!(pod = operation::name(&self.pod), %error, "logs were not removed");
                }
                return;
            }
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.receive(message),
                    // The agent ends; the pod stays.
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.join(ended),
                () = until(wake) => {}
            }
            // Whatever else is there already belongs to the same look.
            while let Ok(message) = self.inbox.try_recv() {
                self.receive(message);
            }
            while let Some(ended) = self.tasks.try_join_next_with_id() {
                self.join(ended);
            }
        }
    }

    /// Plans and begins what is planned. Returns when to look again.
    fn step(&mut self) -> Option<Timestamp> {
        loop {
            let now = Timestamp::now();
            let Plan { actions, status, recheck_at } = self.plan(now);
            let mut again = false;
            for action in self.allowed(actions) {
                again |= self.begin(action, now);
            }
            if again {
                continue;
            }
            self.publish_running();
            self.report(status, now);
            self.probe(now);
            let refresh_at = self.memory.volumes.as_ref().and_then(|volumes| volumes.refresh_at).filter(|_| !self.refreshing);
            if refresh_at.is_some_and(|at| at <= now) {
                self.refresh();
            }
            let times = [recheck_at, self.next_probe(), self.write_again_at, refresh_at.filter(|at| *at > now)];
            return times.into_iter().flatten().min();
        }
    }

    /// Tells followers of logs which containers run.
    fn publish_running(&self) {
        let uid = operation::uid(&self.pod);
        let of_container = |(name, container): (&String, &plan::pod::Container)| {
            let running = container.running()?;
            Some((uid.to_owned(), crate::container::specification::container_id(name, running.number)))
        };
        let own: BTreeSet<_> = self.memory.containers.iter().filter_map(of_container).collect();
        self.shared.running.send_if_modified(|all| {
            let first = (uid.to_owned(), String::new());
            let before: BTreeSet<_> = all.range(first..).take_while(|(other, _)| other == uid).cloned().collect();
            all.retain(|id| id.0 != uid || own.contains(id));
            all.extend(own.difference(&before).cloned());
            before != own
        });
    }

    fn plan(&self, now: Timestamp) -> Plan {
        let memory = &self.memory;
        let observed = Observed {
            pod: &self.pod,
            gone: self.gone,
            host_addresses: &self.shared.addresses,
            rejection: memory.rejection.as_ref(),
            sandbox: memory.sandbox,
            address: memory.address.as_deref(),
            attached: memory.attached,
            volumes_ready: memory.volumes.is_some(),
            volumes_removed: memory.volumes_removed,
            detached: memory.detached,
            ephemeral: &self.ephemeral,
            containers: &memory.containers,
            failures: &memory.failures,
            seen_at: memory.seen_at,
        };
        plan::pod::plan(&observed, now)
    }

    /// What may begin now: nothing is removed while it is still being made. A pull that nobody waits for any more is ended.
    fn allowed(&mut self, actions: Vec<Action>) -> Vec<Action> {
        if !actions.iter().any(is_clean_up) {
            return actions;
        }
        for (_, task) in self.in_flight.iter().filter(|(action, _)| matches!(action, Action::PrepareImage { .. })) {
            task.abort();
        }
        let making = self.in_flight.keys().any(|action| !is_clean_up(action)) || self.refreshing;
        actions.into_iter().filter(|action| !making || !is_clean_up(action)).collect()
    }

    fn is_finished(&self) -> bool {
        let memory = &self.memory;
        self.gone && memory.sandbox == Sandbox::Absent && memory.volumes_removed && memory.detached && self.tasks.is_empty()
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => self.adopt(pod),
            Message::Gone => self.gone = true,
            Message::SandboxLost => {
                if self.memory.sandbox == Sandbox::Ready {
                    self.shared.log(&self.pod).event(
                        None,
                        Normal,
                        "SandboxChanged",
                        "Pod sandbox changed, it will be killed and re-created.".to_owned(),
                    );
                    self.memory.sandbox_gone(Sandbox::Lost, Timestamp::now());
                }
            }
            Message::Exited { container_id, exit } => self.ended(&container_id, exit),
            Message::Changed(name) => self.source_changed(&name),
        }
    }

    /// Takes a newer version of the object.
    fn adopt(&mut self, pod: Arc<Pod>) {
        let version = |pod: &Pod| pod.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok());
        if version(&pod) < version(&self.pod) {
            return;
        }
        let told = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let changed = told(&pod) != told(&self.pod);
        for (name, image) in images(&pod) {
            if images(&self.pod).any(|(other, before)| other == name && before != image) {
                self.memory.image_changed(name);
            }
        }
        self.ephemeral = ephemeral(&pod);
        self.pod = pod;
        // Volumes may hold them.
        if changed && self.memory.volumes.is_some() && !self.gone {
            self.refresh();
        }
    }

    /// Its last words are read before its end is told.
    fn ended(&mut self, container_id: &str, exit: Exit) {
        let Some((container, attempt)) = crate::container::specification::parse_container_id(container_id) else { return };
        let path = self.shared.paths.termination_message(operation::uid(&self.pod), container, attempt);
        let container = container.to_owned();
        self.tasks.spawn(async move {
            let message = volumes::blocking(move || read_message(&path)).await.ok().filter(|message| !message.is_empty());
            Finished::Ended { container, attempt, exit, message }
        });
    }

    /// What waited for a ConfigMap or Secret is tried at once; volumes follow it.
    fn source_changed(&mut self, name: &str) {
        let text = serde_json::to_string(&self.pod.spec).unwrap_or_default();
        if !text.contains(&format!("\"{name}\"")) {
            return;
        }
        let waits =
            |action: &Action| matches!(action, Action::PrepareVolumes | Action::PrepareImage { .. } | Action::StartContainer { .. });
        self.memory.failures.retain(|action, _| !waits(action));
        if self.memory.volumes.is_some() && !self.gone {
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        if self.refreshing {
            self.refresh_again = true;
            return;
        }
        self.refreshing = true;
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        self.tasks.spawn(async move { Finished::Refreshed(Box::new(volumes::prepare(&shared, &pod).await)) });
    }

    fn join(&mut self, ended: Result<(Id, Finished), tokio::task::JoinError>) {
        match ended {
            Ok((id, finished)) => {
                self.by_task.remove(&id);
                self.finish(finished);
            }
            Err(error) => {
                if let Some(action) = self.by_task.remove(&error.id()) {
                    self.in_flight.remove(&action);
                    if !error.is_cancelled() {
                        self.memory.failed(action, "InternalError", error.to_string(), Timestamp::now());
                    }
                }
            }
        }
    }

    fn finish(&mut self, finished: Finished) {
        let now = Timestamp::now();
        match finished {
            Finished::Action(action, result) => {
                self.in_flight.remove(&action);
                match *result {
                    Ok(done) => self.done(action, done, now),
                    Err(error) => self.failed(action, &error, now),
                }
            }
            Finished::Written(result) => self.written(result, now),
            Finished::Refreshed(result) => self.refreshed(*result, now),
            Finished::Probed { container, attempt, kind, began, found } => self.probed(&container, attempt, kind, began, found),
            Finished::Ended { container, attempt, exit, message } => self.memory.exited(&container, attempt, &exit, message),
        }
    }

    fn refreshed(&mut self, result: Result<Prepared, OperationError>, now: Timestamp) {
        self.refreshing = false;
        match result {
            Ok(prepared) => self.memory.volumes = Some(prepared),
            Err(error) => {
                tracing::warn!(pod = operation::name(&self.pod), %error, "volumes were not brought up to date");
                // What is mounted stays usable; it is tried again in a while.
                if let Some(volumes) = &mut self.memory.volumes {
                    volumes.refresh_at = now.checked_add(jiff::SignedDuration::from_secs(10)).ok();
                }
            }
        }
        if std::mem::take(&mut self.refresh_again) {
            self.refresh();
        }
    }

    /// Writes the status if it changed and no write is under way.
    fn report(&mut self, status: k8s_openapi::api::core::v1::PodStatus, now: Timestamp) {
        // The address comes in a moment: one write instead of two.
        let reserving = self.in_flight.contains_key(&Action::ReserveAddress) && self.memory.address.is_none();
        if self.writing || self.gone || reserving || self.write_again_at.is_some_and(|at| at > now) {
            return;
        }
        self.write_again_at = None;
        let recorded = self.pod.status.clone().unwrap_or_default();
        let Some(patch) = report::patch(operation::uid(&self.pod), &recorded, &status) else { return };
        self.tell_waiting(&status);
        self.writing = true;
        let api: Api<Pod> = Api::namespaced(self.shared.sources.client.clone(), operation::namespace(&self.pod));
        let name = operation::name(&self.pod).to_owned();
        self.tasks.spawn(async move {
            let written = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            Finished::Written(written.map(Box::new))
        });
    }

    /// Waiting that began since the last report is told in an event.
    fn tell_waiting(&mut self, status: &k8s_openapi::api::core::v1::PodStatus) {
        let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        for container in lists.into_iter().flatten().flatten() {
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            let reason = waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_default();
            let before = self.told.insert(container.name.clone(), reason.clone());
            if before.as_deref() == Some(reason.as_str()) {
                continue;
            }
            let message = match reason.as_str() {
                "CrashLoopBackOff" => {
                    format!("Back-off restarting failed container {} in pod {}", container.name, operation::name(&self.pod))
                }
                "ImagePullBackOff" => format!("Back-off pulling image \"{}\"", container.image),
                _ => continue,
            };
            self.shared.log(&self.pod).event(self.container(&container.name).as_ref(), Warning, "BackOff", message);
        }
    }

    fn written(&mut self, result: Result<Box<Pod>, kube::Error>, now: Timestamp) {
        self.writing = false;
        match result {
            Ok(pod) => self.adopt(Arc::new(*pod)),
            Err(error) => {
                tracing::debug!(pod = operation::name(&self.pod), %error, "the status was not written");
                self.write_again_at = now.checked_add(jiff::SignedDuration::from_secs(WRITE_PAUSE)).ok();
            }
        }
    }

    /// A container's specification.
    fn container(&self, name: &str) -> Option<Container> {
        operation::container(&self.pod, name)
    }
}

fn ephemeral(pod: &Pod) -> Vec<Container> {
    let added = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    added.map(plan::pod::ephemeral).collect()
}

/// Containers and their images.
fn images(pod: &Pod) -> impl Iterator<Item = (&str, Option<&str>)> {
    let containers = pod.spec.iter().flat_map(plan::pod::roles);
    containers.map(|(_, container)| (container.name.as_str(), container.image.as_deref()))
}

fn is_clean_up(action: &Action) -> bool {
    matches!(action, Action::RemoveSandbox | Action::TearDownVolumes | Action::DetachNetwork | Action::DeletePod)
}

/// Last words are at most so long.
const MESSAGE_LIMIT: u64 = 4096;

fn read_message(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    let mut bytes = Vec::new();
    file.take(MESSAGE_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn until(at: Option<Timestamp>) {
    match at {
        Some(at) => {
            let wait = at.duration_since(Timestamp::now());
            tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}
