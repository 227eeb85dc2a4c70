//! Starts the agent, and hands every pod of the node its worker.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use events::{Recorder, Severity, Source};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::{ObjectKey, Quantity};
use plan::pod::{Rejection, admit};
use runtime::{RuntimeEvent, Sandbox};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::container::specification::parse_container_id;
use crate::paths::Paths;
use crate::sources::{Sources, Views};
use crate::tokens::Tokens;
use crate::worker::{Message, Worker};
use crate::{Config, Parts, Shared, Task, provision, registration, rotation, server, sticky};

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the node's directories: {0}")]
    Directories(#[source] io::Error),
    #[error("the node could not be registered: {0}")]
    Registration(#[source] Box<kube::Error>),
}

/// The agent of this node. Dropping it ends the agent and leaves the pods running.
pub struct Agent {
    shared: Arc<Shared>,
    _tasks: Vec<Task>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}

fn recorder(client: kube::Client, host: String) -> Recorder {
    Recorder::start(client, Source { component: "kubelet", host }, Box::new(jiff::Timestamp::now))
}

impl Agent {
    /// Registers the node, finds what an earlier agent left, and begins to work.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, StartError> {
        let Parts { client, views, runtime: opened, network, images } = parts;
        let paths = Paths::new(&config.data_dir, &config.run_dir);
        prepare_directories(&paths).map_err(StartError::Directories)?;
        let node = registration::node(&config);
        registration::register(&client, &node).await.map_err(|error| StartError::Registration(Box::new(error)))?;
        let allocatable = node.status.iter().flat_map(|status| status.allocatable.iter().flatten());
        let allocatable = allocatable.filter_map(|(name, amount)| Some((name.clone(), amount.0.parse::<Quantity>().ok()?))).collect();
        let shared = Arc::new(Shared {
            paths,
            sources: Sources { views: views.clone(), client: client.clone() },
            runtime: opened.runtime,
            network,
            images,
            events: recorder(client.clone(), config.node_name.clone()),
            tokens: Tokens::default(),
            running: watch::Sender::default(),
            allocatable,
            addresses: config.addresses.clone(),
            cluster_dns: config.cluster_dns.clone(),
            cluster_domain: config.cluster_domain.clone(),
            resolver_file: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            node: node.clone(),
        });
        let dispatcher = Dispatcher {
            shared: shared.clone(),
            node_name: config.node_name.clone(),
            found: opened.found.into_iter().map(|sandbox| (sandbox.spec.uid.clone(), sandbox)).collect(),
            workers: HashMap::new(),
            tasks: JoinSet::new(),
        };
        let tasks = vec![
            Task::start(dispatcher.run(views.clone(), opened.events)),
            Task::start(registration::keep_alive(client.clone(), node)),
            Task::start(provision::run(client, views.clone(), config.node_name, shared.paths.local_volumes())),
            Task::start(sticky::run(views, shared.network.clone())),
            Task::start(rotation::run(shared.clone())),
        ];
        Ok(Self { shared, _tasks: tasks })
    }

    /// Serves the node's HTTP interface (container logs, exec) on one connection, until it is closed.
    pub async fn connection<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        server::serve(self.shared.clone(), stream).await;
    }

    /// What [`Agent::connection`] does, apart from the agent: to be called where the agent itself can't be kept.
    pub fn connector(&self) -> Connector {
        Connector { shared: self.shared.clone() }
    }
}

/// Serves connections for an agent. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// As [`Agent::connection`].
    pub async fn connection<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        server::serve(self.shared.clone(), stream).await;
    }
}

fn prepare_directories(paths: &Paths) -> io::Result<()> {
    for directory in [paths.pods(), paths.logs(), paths.local_volumes()] {
        std::fs::create_dir_all(directory)?;
    }
    volume::scratch::secrets(&paths.secrets())
}

/// A worker's mailbox.
struct Handle {
    sender: mpsc::Sender<Message>,
    pod: Arc<Pod>,
    rejected: bool,
}

/// Tells every worker what concerns its pod.
struct Dispatcher {
    shared: Arc<Shared>,
    node_name: String,
    /// Sandboxes of an earlier agent that no pod has claimed yet.
    found: HashMap<String, Sandbox>,
    /// By the pods' uid.
    workers: HashMap<String, Handle>,
    /// Workers; each returns its uid.
    tasks: JoinSet<String>,
}

impl Dispatcher {
    async fn run(mut self, views: Views, mut events: mpsc::UnboundedReceiver<RuntimeEvent>) {
        views.pods.synced().await;
        let mut pods = views.pods.subscribe();
        // Whoever is in the list claims what an earlier agent left; what nobody claims is an orphan.
        for pod in views.pods.list() {
            self.changed(None, Some(pod)).await;
        }
        self.end_orphans();
        self.take_addresses_back().await;
        let mut config_maps = views.config_maps.subscribe();
        let mut secrets = views.secrets.subscribe();
        loop {
            tokio::select! {
                changes = pods.changes() => {
                    for change in changes {
                        self.changed(change.old, change.new).await;
                    }
                }
                Some(event) = events.recv() => self.happened(event).await,
                changes = config_maps.changes() => self.sources_changed(changes.into_iter().map(|change| change.key).collect()).await,
                changes = secrets.changes() => self.sources_changed(changes.into_iter().map(|change| change.key).collect()).await,
                Some(ended) = self.tasks.join_next() => self.worker_ended(ended),
            }
        }
    }

    /// The pod changed, came, went, or was exchanged for another of its name.
    async fn changed(&mut self, old: Option<Arc<Pod>>, new: Option<Arc<Pod>>) {
        let same = |one: &Pod, other: &Pod| one.metadata.uid == other.metadata.uid;
        if let Some(old) = old.filter(|old| !new.as_ref().is_some_and(|new| same(old, new))) {
            self.tell(old.metadata.uid.as_deref().unwrap_or_default(), Message::Gone).await;
        }
        let Some(pod) = new.filter(|pod| self.is_mine(pod)) else { return };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match self.workers.get_mut(&uid) {
            Some(handle) => {
                handle.pod = pod.clone();
                self.tell(&uid, Message::Pod(pod)).await;
            }
            None => self.hire(uid, pod),
        }
    }

    fn is_mine(&self, pod: &Pod) -> bool {
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(&*self.node_name))
    }

    fn hire(&mut self, uid: String, pod: Arc<Pod>) {
        let found = self.found.remove(&uid);
        let rejection = if found.is_none() { self.refuse(&pod) } else { None };
        let rejected = rejection.is_some();
        if let Some(rejection) = &rejection {
            self.shared.log(&pod).event(None, Severity::Warning, "FailedAdmission", format!("{}: {}", rejection.reason, rejection.message));
        }
        let (worker, sender) = Worker::new(self.shared.clone(), pod.clone(), found.as_ref(), rejection);
        self.employ(uid, Handle { sender, pod, rejected }, worker);
    }

    fn employ(&mut self, uid: String, handle: Handle, worker: Worker) {
        self.workers.insert(uid.clone(), handle);
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    /// Pods are admitted once: one that has begun is never refused later.
    fn refuse(&self, pod: &Pod) -> Option<Rejection> {
        let has_begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if has_begun || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let is_active = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        };
        let others = self.workers.values().filter(|handle| !handle.rejected && is_active(&handle.pod)).map(|handle| &*handle.pod);
        admit(pod, &self.shared.node, others).err()
    }

    /// Ends what an earlier agent left of pods that the API no longer has.
    fn end_orphans(&mut self) {
        let orphans: Vec<_> = self.found.drain().collect();
        for (uid, sandbox) in orphans {
            let pod = Arc::new(pod_of(&sandbox));
            tracing::info!(pod = %ObjectKey::new(&sandbox.spec.namespace, &sandbox.spec.name), "its object is gone: it is ended");
            let (worker, sender) = Worker::new(self.shared.clone(), pod.clone(), Some(&sandbox), None);
            self.employ(uid, Handle { sender, pod, rejected: false }, worker.cleaning_up());
        }
    }

    /// Frees what pods had that went, sandbox and all, while no agent watched: a reboot makes sandboxes void.
    async fn take_addresses_back(&self) {
        let network = &self.shared.network;
        for holder in network.holders().into_iter().filter(|holder| !self.workers.contains_key(&holder.uid)) {
            tracing::info!(pod = %holder.key, "it is gone: its address is free");
            if let Err(error) = network.detach(&holder).await {
                tracing::warn!(pod = %holder.key, %error, "its address was not freed");
            }
        }
    }

    async fn happened(&self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Exited { pod, container, exit } => self.tell(&pod, Message::Exited { container_id: container, exit }).await,
            RuntimeEvent::SandboxLost { pod } => self.tell(&pod, Message::SandboxLost).await,
        }
    }

    async fn sources_changed(&self, keys: Vec<ObjectKey>) {
        for key in keys {
            let beside = |handle: &&Handle| handle.pod.metadata.namespace.as_deref() == Some(&*key.namespace);
            for handle in self.workers.values().filter(beside) {
                // A worker that has ended needs to know nothing.
                let _ = handle.sender.send(Message::Changed(key.name.clone())).await;
            }
        }
    }

    async fn tell(&self, uid: &str, message: Message) {
        if let Some(handle) = self.workers.get(uid) {
            // A worker that has ended needs to know nothing.
            let _ = handle.sender.send(message).await;
        }
    }

    fn worker_ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => drop(self.workers.remove(&uid)),
            Err(error) => tracing::error!(%error, "a worker panicked; its pod is left as it is until the agent restarts"),
        }
    }
}

/// The object of a pod of which only the sandbox is left, as far as it can be told.
fn pod_of(sandbox: &Sandbox) -> Pod {
    let names = sandbox.containers.iter().filter_map(|container| parse_container_id(&container.id)).map(|(name, _)| name.to_owned());
    let names: std::collections::BTreeSet<String> = names.collect();
    let container = |name: String| k8s_openapi::api::core::v1::Container { name, ..Default::default() };
    Pod {
        metadata: ObjectMeta {
            name: Some(sandbox.spec.name.clone()),
            namespace: Some(sandbox.spec.namespace.clone()),
            uid: Some(sandbox.spec.uid.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: names.into_iter().map(container).collect(),
            host_network: Some(sandbox.spec.host_network),
            ..PodSpec::default()
        }),
        status: None,
    }
}
