//! Runs the hooks of pre-delete gates beside the rounds: each try is a task of its own, with a deadline.
//!
//! # Guarantees
//! * At most one hook runs in a pod, and no round waits for it.
//! * A set is planned again when its hook has ended, from views that show how.
//! * A hook whose controller ends is ended too, by its node; the next controller runs it anew.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::{Recorder, Severity};
use informer::{Api, Informer};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kinds::ObjectKey;
use kube::Client;
use kube::api::{Patch, PatchParams};
use plan::statefulset::{HookRun, Marking};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::report::of_hook;
use crate::Clock;
use crate::exec::{self, Place};
use crate::runtime::{WorkQueue, Writes, call};

/// Hooks that run at the same time, of all sets.
const MOST: usize = 64;
/// How often the end of a hook is written before the hook is run anew instead.
const TRIES: u32 = 5;
/// Between two tries to write it.
const PAUSE: Duration = Duration::from_millis(200);

/// The hooks that run. They end when it is dropped.
pub(super) struct Hooks {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    client: Client,
    pods: Informer<Pod>,
    events: Recorder,
    clock: Clock,
    queue: Arc<WorkQueue<ObjectKey>>,
    /// The uids of the pods in which one runs.
    running: Mutex<HashSet<String>>,
    room: Semaphore,
}

/// A hook of a pod of a set.
pub(super) struct Job {
    pub(super) set: Arc<StatefulSet>,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) run: HookRun,
}

impl Hooks {
    pub(super) fn new(client: Client, pods: Informer<Pod>, events: Recorder, clock: Clock, queue: Arc<WorkQueue<ObjectKey>>) -> Self {
        let room = Semaphore::new(MOST);
        let shared = Shared { client, pods, events, clock, queue, running: Mutex::default(), room };
        Self { shared: Arc::new(shared), tasks: Mutex::default() }
    }

    /// The uids of those of these pods in which a hook runs.
    pub(super) fn running(&self) -> HashSet<String> {
        self.shared.running().clone()
    }

    /// Begins a hook, unless one runs in this pod.
    pub(super) fn begin(&self, job: Job) {
        if !self.shared.running().insert(job.uid.clone()) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move { shared.carry_out(job).await });
    }
}

impl Shared {
    fn running(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, job: Job) {
        let namespace = job.set.metadata.namespace.clone().unwrap_or_default();
        let key = ObjectKey::new(namespace.clone(), job.set.metadata.name.clone().unwrap_or_default());
        let result = self.try_once(&namespace, &job).await;
        self.tell(&job, &result);
        self.put_on_record(&namespace, &job, &job.run.marks(result, self.clock.now())).await;
        // In this order: a plan that knows neither the end nor the running would run the hook again.
        self.running().remove(&job.uid);
        self.queue.add(key);
    }

    async fn try_once(&self, namespace: &str, job: &Job) -> Result<(), String> {
        let _room = self.room.acquire().await.map_err(|error| error.to_string())?;
        let place = Place { namespace: namespace.to_owned(), pod: job.pod.clone(), container: job.run.container.clone() };
        let limit = Duration::try_from(job.run.timeout).unwrap_or(Duration::MAX);
        match timeout(limit, exec::exec(&self.client, &place, &job.run.command)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it did not end within {} s", limit.as_secs())),
        }
    }

    fn tell(&self, job: &Job, result: &Result<(), String>) {
        let severity = if result.is_ok() { Severity::Normal } else { Severity::Warning };
        let (reason, message) = of_hook(&job.pod, job.run.reason, result.as_ref().err().map(String::as_str));
        self.events.record(&*job.set, severity, reason, message);
    }

    /// Writes how it ended, and waits until the view shows it. If that can't be done, the hook is run anew.
    async fn put_on_record(&self, namespace: &str, job: &Job, marks: &[Marking]) {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(annotated(&job.uid, None, marks));
        for _ in 0..TRIES {
            let doing = || format!("record the end of the hook of pod {}", job.pod);
            match call(doing, api.patch(&job.pod, &PatchParams::default(), &patch)).await {
                Ok(answer) => {
                    let mut writes = Writes::default();
                    writes.wrote(&answer);
                    if let Err(error) = writes.seen_by(&self.pods).await {
                        tracing::warn!(pod = job.pod, %error, "the hook's end is not in view");
                    }
                    return;
                }
                // The pod is gone, or another one has its name.
                Err(error) if error.is_stale() => return,
                Err(error) => tracing::warn!(pod = job.pod, %error, "the hook's end was not recorded"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A patch of annotations of the pod that was observed.
pub(super) fn annotated(uid: &str, resource_version: Option<&str>, annotations: &[Marking]) -> Value {
    let annotations: Map<String, Value> = annotations.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let mut metadata = json!({"uid": uid, "annotations": annotations});
    if let Some(version) = resource_version {
        metadata["resourceVersion"] = version.into();
    }
    json!({"metadata": metadata})
}
