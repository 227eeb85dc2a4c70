//! What is known of the objects of one kind, and who is told of changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use kinds::ObjectKey;
use kube::Resource;
use tokio::sync::{Notify, watch};

#[derive(Debug)]
pub(crate) struct Shared<K> {
    view: RwLock<View<K>>,
    subscribers: Mutex<Vec<Weak<Inbox<K>>>>,
    pub(crate) progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) synced: bool,
    /// The newest revision seen on an object.
    pub(crate) revision: u64,
    /// How many lists were begun.
    pub(crate) begun: u64,
    /// The number of the last list that the view has taken over.
    pub(crate) done: u64,
}

/// Written by the feed alone.
#[derive(Debug)]
pub(crate) struct View<K> {
    pub(crate) objects: BTreeMap<ObjectKey, Arc<K>>,
    /// Keys by the uid of the controlling owner; under `None` those without one.
    owned: HashMap<Option<String>, BTreeSet<ObjectKey>>,
}

#[derive(Debug)]
pub(crate) struct Inbox<K> {
    /// What the subscriber saw of each object that has changed since.
    pub(crate) seen: Mutex<BTreeMap<ObjectKey, Option<Arc<K>>>>,
    pub(crate) wake: Notify,
}

impl<K> Default for Shared<K> {
    fn default() -> Self {
        let view = View { objects: BTreeMap::new(), owned: HashMap::new() };
        Self { view: RwLock::new(view), subscribers: Mutex::default(), progress: watch::Sender::new(Progress::default()) }
    }
}

impl<K> Shared<K> {
    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View<K>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View<K>> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new inbox that begins with every object as unseen.
    pub(crate) fn open_inbox(&self) -> Arc<Inbox<K>> {
        let view = self.view();
        let seen = view.objects.keys().map(|key| (key.clone(), None)).collect();
        let inbox = Arc::new(Inbox { seen: Mutex::new(seen), wake: Notify::new() });
        locked(&self.subscribers).push(Arc::downgrade(&inbox));
        inbox
    }
}

impl<K: Resource> Shared<K> {
    /// Puts an object, or its absence, into the view and tells the subscribers.
    pub(crate) fn put(&self, key: ObjectKey, new: Option<Arc<K>>, revision: u64) {
        let mut view = self.view_mut();
        let old = view.replace(&key, new);
        // Under the view's lock, so that a subscriber never takes a change before it can see it.
        self.tell(std::iter::once((key, old)));
        drop(view);
        self.advance(revision, false);
    }

    /// Makes the view what a list says, and tells of what is new, different or gone.
    pub(crate) fn take_over(&self, listed: BTreeMap<ObjectKey, Arc<K>>, revision: u64) {
        let mut view = self.view_mut();
        let gone: Vec<_> = view.objects.keys().filter(|key| !listed.contains_key(key)).cloned().collect();
        let changed: Vec<_> = listed.into_iter().filter(|(key, object)| !view.holds(key, object)).collect();
        let puts = gone.into_iter().map(|key| (key, None)).chain(changed.into_iter().map(|(key, object)| (key, Some(object))));
        let told: Vec<_> = puts.map(|(key, new)| (key.clone(), view.replace(&key, new))).collect();
        self.tell(told.into_iter());
        drop(view);
        self.advance(revision, true);
    }

    fn tell(&self, changes: impl Iterator<Item = (ObjectKey, Option<Arc<K>>)>) {
        let mut subscribers = locked(&self.subscribers);
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        let inboxes: Vec<_> = subscribers.iter().filter_map(Weak::upgrade).collect();
        for (key, old) in changes {
            for inbox in &inboxes {
                locked(&inbox.seen).entry(key.clone()).or_insert_with(|| old.clone());
            }
        }
        inboxes.iter().for_each(|inbox| inbox.wake.notify_one());
    }

    /// Notes that a list is about to be asked for.
    pub(crate) fn begin_list(&self) {
        self.progress.send_modify(|progress| progress.begun += 1);
    }

    fn advance(&self, revision: u64, listed: bool) {
        self.progress.send_modify(|progress| {
            progress.revision = progress.revision.max(revision);
            if listed {
                (progress.synced, progress.done) = (true, progress.begun);
            }
        });
    }
}

impl<K: Resource> View<K> {
    /// All objects whose controlling owner has this uid, or that have none.
    pub(crate) fn controlled_by(&self, uid: Option<&str>) -> Vec<Arc<K>> {
        let keys = self.owned.get(&uid.map(str::to_owned)).into_iter().flatten();
        keys.filter_map(|key| self.objects.get(key).cloned()).collect()
    }

    /// Whether this version of this object is what the view has.
    fn holds(&self, key: &ObjectKey, object: &K) -> bool {
        let version = |object: &K| (object.meta().uid.clone(), object.meta().resource_version.clone());
        self.objects.get(key).is_some_and(|held| held.meta().resource_version.is_some() && version(held) == version(object))
    }

    /// Puts an object or its absence; answers what was there before.
    fn replace(&mut self, key: &ObjectKey, new: Option<Arc<K>>) -> Option<Arc<K>> {
        let after = new.as_deref().map(controller_uid);
        let old = match new {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
        let before = old.as_deref().map(controller_uid);
        if before != after {
            self.reindex(key, before, after);
        }
        old
    }

    fn reindex(&mut self, key: &ObjectKey, before: Option<Option<String>>, after: Option<Option<String>>) {
        if let Some(owner) = before
            && let Some(keys) = self.owned.get_mut(&owner)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.owned.remove(&owner);
            }
        }
        if let Some(owner) = after {
            self.owned.entry(owner).or_default().insert(key.clone());
        }
    }
}

fn controller_uid<K: Resource>(object: &K) -> Option<String> {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone())
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
