//! The metadata of every object of every served kind, for those who follow owners and empty namespaces.
//!
//! # Guarantees
//! * One watch of metadata per resource, however many look.
//! * Whoever listens is told the uids to judge again, and the namespaces in which something went.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use kinds::{Resource, Uid, registry};
use kube::api::ApiResource;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::{Api, Client};
use plan::garbage::{Graph, Item};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::runtime::WorkQueue;

/// The metadata of an object of any kind.
pub(crate) type Partial = PartialObjectMeta<DynamicObject>;

/// A live graph of all objects. Cheap to clone; the watches end when the last clone is dropped.
#[derive(Clone)]
pub struct Inventory {
    shared: Arc<Shared>,
    _watching: Arc<JoinSet<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// How many resources have been listed.
    listed: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    graph: Graph,
    judges: Vec<Arc<WorkQueue<Uid>>>,
    namespaces: Vec<Arc<WorkQueue<String>>>,
}

impl Inventory {
    /// Begins to watch every resource of the registry but events: they own nothing, are owned by nobody, and are many.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(client: &Client) -> Self {
        let shared = Arc::new(Shared::default());
        let mut watching = JoinSet::new();
        for resource in watched() {
            watching.spawn(follow(client.clone(), resource, shared.clone()));
        }
        Self { shared, _watching: Arc::new(watching) }
    }

    /// A graph of nothing, for a process that follows no owners.
    pub fn idle() -> Self {
        Self { shared: Arc::default(), _watching: Arc::default() }
    }

    /// Waits until every resource has been listed.
    pub async fn synced(&self) {
        let all = watched().count();
        // The sender lives in `shared`, so waiting can't fail.
        let _ = self.shared.listed.subscribe().wait_for(|listed| *listed >= all).await;
    }

    /// Looks into the graph, or notes in it what the server said.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Graph) -> T) -> T {
        look(&mut self.shared.state().graph)
    }

    /// Adds the uids to judge again to this queue, now those of all objects with owners or on their way.
    pub(crate) fn tell_judge(&self, queue: Arc<WorkQueue<Uid>>) {
        let mut state = self.shared.state();
        state.graph.all_to_judge().into_iter().for_each(|uid| queue.add(uid));
        state.judges.push(queue);
    }

    /// Adds each namespace in which an object went, or its finalizers changed, to this queue.
    pub(crate) fn tell_of_namespaces(&self, queue: Arc<WorkQueue<String>>) {
        self.shared.state().namespaces.push(queue);
    }
}

/// The resources to watch, each stored object once.
fn watched() -> impl Iterator<Item = &'static Resource> {
    registry::RESOURCES.iter().filter(|resource| resource.storage != "events")
}

/// How `kube` names a resource.
pub(crate) fn api_resource(resource: &Resource) -> ApiResource {
    ApiResource {
        group: resource.group.to_owned(),
        version: resource.version.to_owned(),
        api_version: resource.api_version(),
        kind: resource.kind.to_owned(),
        plural: resource.plural.to_owned(),
    }
}

/// Feeds the graph from one resource's watch.
async fn follow(client: Client, resource: &'static Resource, shared: Arc<Shared>) {
    let api = Api::<Partial>::all_with(client, &api_resource(resource));
    let mut events = Box::pin(watcher::watcher(api, watcher::Config::default()).backoff(DefaultBackoff::default()));
    let (mut known, mut listed) = (HashSet::new(), HashSet::new());
    let mut first = true;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => drop(listed.insert(shared.put(resource, &object))),
            Ok(Event::InitDone) => {
                known.difference(&listed).for_each(|uid| shared.remove(uid));
                known = std::mem::take(&mut listed);
                if std::mem::take(&mut first) {
                    shared.listed.send_modify(|count| *count += 1);
                }
            }
            Ok(Event::Apply(object)) => drop(known.insert(shared.put(resource, &object))),
            Ok(Event::Delete(object)) => {
                let uid = Uid(object.metadata.uid.unwrap_or_default());
                known.remove(&uid);
                shared.remove(&uid);
            }
            // Not served here, so there is nothing of it; it may be served later.
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.is_not_found() => {
                if std::mem::take(&mut first) {
                    shared.listed.send_modify(|count| *count += 1);
                }
            }
            Err(error) => tracing::warn!(resource = resource.qualified(), %error, "watch failed; it is tried again"),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, resource: &'static Resource, object: &Partial) -> Uid {
        let item = Item::of(resource, &object.metadata);
        let uid = item.uid.clone();
        let mut state = self.state();
        let namespace = item.deleting.then(|| item.key.namespace.clone());
        let again = state.graph.put(item);
        state.tell(again, namespace);
        uid
    }

    fn remove(&self, uid: &Uid) {
        let mut state = self.state();
        let namespace = state.graph.get(uid).map(|item| item.key.namespace.clone());
        let again = state.graph.remove(uid);
        state.tell(again, namespace);
    }
}

impl State {
    fn tell(&self, again: Vec<Uid>, namespace: Option<String>) {
        for queue in &self.judges {
            again.iter().for_each(|uid| queue.add(uid.clone()));
        }
        for namespace in namespace.into_iter().filter(|namespace| !namespace.is_empty()) {
            self.namespaces.iter().for_each(|queue| queue.add(namespace.clone()));
        }
    }
}
