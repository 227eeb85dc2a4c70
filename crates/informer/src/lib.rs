//! A live, shared view of all objects of one kind: one list, one watch and one decode per event in the process, whoever
//! looks. Controllers, the node agent, DNS and the service proxy all see the cluster through these.
//!
//! # Guarantees
//! * What is read is a state the server had; it only moves forward.
//! * A [`Subscription`] tells of every object that changed. Changes of one object that were not fetched yet are told as one,
//!   so what waits is bounded by the number of objects.
//!
//! # Caveats
//! * The view lags the server. Who has just written waits with [`Informer::caught_up`] before deciding again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use futures::StreamExt;
use kinds::ObjectKey;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

/// A kind that can be watched.
pub trait Watched: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {}

impl<K> Watched for K where K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {}

/// A live view of all objects of one kind. Cheap to clone; the watch ends when the last clone is dropped.
#[derive(Debug)]
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
    _watching: Arc<AbortOnDrop>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _watching: self._watching.clone() }
    }
}

#[derive(Debug)]
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One object that changed between two looks.
#[derive(Clone, Debug)]
pub struct Change<K> {
    pub key: ObjectKey,
    /// What the subscriber saw before; `None` if it is new.
    pub old: Option<Arc<K>>,
    /// What is there now; `None` if it is gone.
    pub new: Option<Arc<K>>,
}

#[derive(Debug)]
struct Shared<K> {
    view: RwLock<View<K>>,
    subscribers: Mutex<Vec<std::sync::Weak<Inbox<K>>>>,
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    synced: bool,
    revision: u64,
}

#[derive(Debug)]
struct View<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    /// Keys by the uid of the controlling owner.
    owned: HashMap<String, BTreeSet<ObjectKey>>,
}

#[derive(Debug)]
struct Inbox<K> {
    /// What the subscriber saw of each object that has changed since.
    seen: Mutex<BTreeMap<ObjectKey, Option<Arc<K>>>>,
    wake: Notify,
}

/// The changes since the last look. Begins with every object that exists as new.
#[derive(Debug)]
pub struct Subscription<K> {
    inbox: Arc<Inbox<K>>,
    shared: Arc<Shared<K>>,
}

impl<K: Watched> Informer<K> {
    /// Begins to watch; the view is empty until [`Informer::synced`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(api: Api<K>, config: watcher::Config) -> Self {
        let shared = Arc::new(Shared {
            view: RwLock::new(View { objects: BTreeMap::new(), owned: HashMap::new() }),
            subscribers: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
        });
        let task = tokio::spawn(run(api, config, shared.clone()));
        Self { shared, _watching: Arc::new(AbortOnDrop(task.abort_handle())) }
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        // The sender lives in `shared`, so waiting can't fail.
        let _ = self.shared.progress.subscribe().wait_for(|progress| progress.synced).await;
    }

    /// Waits until the view holds what was written at this `metadata.resourceVersion`, or something newer of this kind.
    pub async fn caught_up(&self, resource_version: &str) {
        let wanted = resource_version.parse().unwrap_or(0);
        let _ = self.shared.progress.subscribe().wait_for(|progress| progress.revision >= wanted).await;
    }

    /// The newest `resourceVersion` the view has seen on an object of this kind.
    pub fn revision(&self) -> u64 {
        self.shared.progress.borrow().revision
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.view().objects.get(key).cloned()
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.view().objects.values().cloned().collect()
    }

    /// All objects of one namespace, in the order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = ObjectKey::new(namespace, "");
        let view = self.shared.view();
        view.objects.range(first..).take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// All objects whose controlling owner has this uid, in the order of their keys.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        let view = self.shared.view();
        let keys = view.owned.get(uid).into_iter().flatten();
        keys.filter_map(|key| view.objects.get(key).cloned()).collect()
    }

    /// A new subscription, which begins with every object there is.
    pub fn subscribe(&self) -> Subscription<K> {
        let view = self.shared.view();
        let seen = view.objects.keys().map(|key| (key.clone(), None)).collect();
        let inbox = Arc::new(Inbox { seen: Mutex::new(seen), wake: Notify::new() });
        locked(&self.shared.subscribers).push(Arc::downgrade(&inbox));
        Subscription { inbox, shared: self.shared.clone() }
    }
}

impl<K> Subscription<K> {
    /// Waits for the next changes. Cancel-safe.
    pub async fn changes(&mut self) -> Vec<Change<K>> {
        loop {
            let seen = std::mem::take(&mut *locked(&self.inbox.seen));
            if !seen.is_empty() {
                return self.against_view(seen);
            }
            self.inbox.wake.notified().await;
        }
    }

    fn against_view(&self, seen: BTreeMap<ObjectKey, Option<Arc<K>>>) -> Vec<Change<K>> {
        let view = self.shared.view();
        let change = |(key, old)| {
            let new = view.objects.get(&key).cloned();
            Change { key, old, new }
        };
        seen.into_iter().map(change).collect()
    }
}

impl<K> Shared<K> {
    fn view(&self) -> RwLockReadGuard<'_, View<K>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Watched> Shared<K> {
    /// Puts an object, or its absence, into the view and tells the subscribers.
    fn put(&self, key: ObjectKey, new: Option<Arc<K>>) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let old = match new.clone() {
            Some(object) => view.objects.insert(key.clone(), object),
            None => view.objects.remove(&key),
        };
        let (before, after) = (old.as_deref().and_then(controller_uid), new.as_deref().and_then(controller_uid));
        if before != after {
            view.reindex(&key, before, after);
        }
        // Under the view's lock, so that a subscriber never takes a change before it can see it.
        self.tell(&key, old.as_ref());
    }

    fn tell(&self, key: &ObjectKey, old: Option<&Arc<K>>) {
        locked(&self.subscribers).retain(|subscriber| {
            let Some(inbox) = subscriber.upgrade() else { return false };
            locked(&inbox.seen).entry(key.clone()).or_insert_with(|| old.cloned());
            inbox.wake.notify_one();
            true
        });
    }

    fn advance(&self, resource_version: Option<&str>, synced: bool) {
        let revision = resource_version.and_then(|version| version.parse().ok()).unwrap_or(0);
        self.progress.send_modify(|progress| {
            progress.revision = progress.revision.max(revision);
            progress.synced |= synced;
        });
    }
}

impl<K> View<K> {
    fn reindex(&mut self, key: &ObjectKey, before: Option<String>, after: Option<String>) {
        if let Some(uid) = before
            && let Some(keys) = self.owned.get_mut(&uid)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.owned.remove(&uid);
            }
        }
        if let Some(uid) = after {
            self.owned.entry(uid).or_default().insert(key.clone());
        }
    }
}

async fn run<K: Watched>(api: Api<K>, config: watcher::Config, shared: Arc<Shared<K>>) {
    use kube::runtime::WatchStreamExt;
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(key_of(&object));
                apply(&shared, object);
            }
            Ok(Event::InitDone) => {
                forget_unlisted(&shared, &listed);
                shared.advance(None, true);
            }
            Ok(Event::Apply(object)) => apply(&shared, object),
            Ok(Event::Delete(object)) => {
                let version = object.resource_version();
                shared.put(key_of(&object), None);
                shared.advance(version.as_deref(), false);
            }
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch failed; it is tried again"),
        }
    }
}

fn apply<K: Watched>(shared: &Shared<K>, object: K) {
    let version = object.resource_version();
    shared.put(key_of(&object), Some(Arc::new(object)));
    shared.advance(version.as_deref(), false);
}

/// Objects that a new list does not have were deleted while nobody watched.
fn forget_unlisted<K: Watched>(shared: &Shared<K>, listed: &BTreeSet<ObjectKey>) {
    let gone: Vec<_> = shared.view().objects.keys().filter(|key| !listed.contains(key)).cloned().collect();
    for key in gone {
        shared.put(key, None);
    }
}

fn key_of<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new(object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

fn controller_uid<K: Resource>(object: &K) -> Option<String> {
    let owners = object.meta().owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).next()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
