//! The metadata of every object of every served kind, for those who follow owners and empty namespaces.
//!
//! # Guarantees
//! * One watch of metadata per resource, however many look.
//! * Whoever listens is told the uids to judge again, and the namespaces in which something went.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use informer::source::{Part, Sink, Source, Text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::{Resource, Uid, managed_fields, registry};
use kube::api::ApiResource;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Client, Resource as _};
use plan::garbage::{Graph, Item};
use serde::Deserialize;
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
    residents: Vec<Arc<WorkQueue<String>>>,
}

impl Inventory {
    /// Begins to watch every resource of the registry but events: they own nothing, are owned by nobody, and are many.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(client: &Client) -> Self {
        Self::watch(client, Part::Metadata)
    }

    /// The same, of a server in this process.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_here(client: &Client) -> Self {
        Self::watch(client, Part::MetadataHere)
    }

    fn watch(client: &Client, part: Part) -> Self {
        let shared = Arc::new(Shared::default());
        let mut watching = JoinSet::new();
        for resource in watched() {
            watching.spawn(Feed::run(client.clone(), part, resource, shared.clone()));
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

    /// Adds each namespace in which an object came or went to this queue.
    pub(crate) fn tell_of_residents(&self, queue: Arc<WorkQueue<String>>) {
        self.shared.state().residents.push(queue);
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
struct Feed {
    resource: &'static Resource,
    shared: Arc<Shared>,
    known: HashSet<Uid>,
    /// Those of the list that is being received.
    listed: HashSet<Uid>,
    first: bool,
}

impl Feed {
    async fn run(client: Client, part: Part, resource: &'static Resource, shared: Arc<Shared>) {
        let path = Partial::url_path(&api_resource(resource), None);
        let source = Source { part, ..Source::of(resource.qualified(), path) };
        let mut feed = Self { resource, shared, known: HashSet::new(), listed: HashSet::new(), first: true };
        source.feed(&client, &mut feed).await;
    }
}

impl Sink for Feed {
    fn begin_list(&mut self) {
        self.listed.clear();
    }

    fn listed(&mut self, object: Text<'_>) -> Result<(), serde_json::Error> {
        self.listed.insert(self.shared.put(self.resource, &read(object)?));
        Ok(())
    }

    fn end_list(&mut self) {
        self.known.difference(&self.listed).for_each(|uid| self.shared.remove(uid));
        self.known = std::mem::take(&mut self.listed);
        if std::mem::take(&mut self.first) {
            self.shared.listed.send_modify(|count| *count += 1);
        }
    }

    /// What is not served has no objects, so nobody need wait for them.
    fn unserved(&mut self) {
        self.listed.clear();
        self.end_list();
    }

    fn changed(&mut self, object: Text<'_>) -> Result<Option<String>, serde_json::Error> {
        let metadata = read(object)?;
        self.known.insert(self.shared.put(self.resource, &metadata));
        Ok(metadata.resource_version)
    }

    fn deleted(&mut self, object: Text<'_>) -> Result<Option<String>, serde_json::Error> {
        let metadata = read(object)?;
        let uid = Uid(metadata.uid.unwrap_or_default());
        self.known.remove(&uid);
        self.shared.remove(&uid);
        Ok(metadata.resource_version)
    }
}

/// The metadata in the text of an object; nobody here asks who owns which field.
fn read(object: Text<'_>) -> Result<ObjectMeta, serde_json::Error> {
    #[derive(Deserialize)]
    struct Holder {
        metadata: ObjectMeta,
    }
    match managed_fields::rest_of_metadata(object.as_str()) {
        // What stands behind is not looked at.
        Some(begin) => ObjectMeta::deserialize(&mut serde_json::Deserializer::from_slice(begin.as_bytes())),
        // A server may write its texts in another way than all that are known do.
        None => serde_json::from_slice::<Holder>(object.as_str().as_bytes()).map(|holder| holder.metadata),
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, resource: &'static Resource, metadata: &ObjectMeta) -> Uid {
        let item = Item::of(resource, metadata);
        let uid = item.uid.clone();
        let mut state = self.state();
        let namespace = item.deleting.then(|| item.key.namespace.clone());
        if state.graph.get(&uid).is_none() {
            state.tell_of_resident(&item.key.namespace);
        }
        let again = state.graph.put(item);
        state.tell(again, namespace);
        uid
    }

    fn remove(&self, uid: &Uid) {
        let mut state = self.state();
        let namespace = state.graph.get(uid).map(|item| item.key.namespace.clone());
        state.tell_of_resident(namespace.as_deref().unwrap_or_default());
        let again = state.graph.remove(uid);
        state.tell(again, namespace);
    }
}

impl State {
    fn tell_of_resident(&self, namespace: &str) {
        if !namespace.is_empty() {
            self.residents.iter().for_each(|queue| queue.add(namespace.to_owned()));
        }
    }

    fn tell(&self, again: Vec<Uid>, namespace: Option<String>) {
        for queue in &self.judges {
            again.iter().for_each(|uid| queue.add(uid.clone()));
        }
        for namespace in namespace.into_iter().filter(|namespace| !namespace.is_empty()) {
            self.namespaces.iter().for_each(|queue| queue.add(namespace.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use kinds::ObjectKey;

    use super::*;

    /// What a feed tells a graph of one object.
    fn told(text: &str) -> Option<ObjectKey> {
        let shared = Arc::new(Shared::default());
        let resource = registry::find("", "v1", "configmaps")?;
        let mut feed = Feed { resource, shared: shared.clone(), known: HashSet::new(), listed: HashSet::new(), first: true };
        assert_eq!(feed.changed(Text::of(text)).unwrap().as_deref(), Some("7"), "{text}");
        shared.state().graph.get(&Uid("u".to_owned())).map(|item| item.key.clone())
    }

    #[test]
    fn metadata_is_read_from_whole_objects_and_from_parts_however_they_are_written() {
        let metadata = r#""metadata":{"managedFields":[{"manager":"}"}],"name":"a","namespace":"n","uid":"u","resourceVersion":"7"}"#;
        for text in [
            format!(r#"{{"kind":"ConfigMap","apiVersion":"v1",{metadata},"data":{{"a":"b"}}}}"#),
            format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1",{metadata}}}"#),
            format!(r#"{{ "kind": "ConfigMap", {} }}"#, metadata.replace(':', ": ").replace(',', ", ")),
        ] {
            assert_eq!(told(&text), Some(ObjectKey::new("n", "a")), "{text}");
        }
        assert!(read(Text::of(r#"{"kind":"ConfigMap"}"#)).is_err());
    }
}
