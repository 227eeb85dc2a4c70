//! What is known of the objects of one kind, and who is told of changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use kinds::ObjectKey;
use tokio::sync::{Notify, watch};

use crate::feed::Decode;
use crate::held::{Held, Rest};

/// How long an object stays decoded that nobody looks at, at least; at most twice that.
const REST: Duration = Duration::from_secs(5);
/// How many objects are looked through at a time for those that rest.
const STRETCH: usize = 512;

/// What the program does when much memory has come free.
static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Names what is done when many objects have come to rest: an allocator gives memory back to the system only when it is told, or
/// at its next work. It may block. Only the first such call counts.
pub fn when_memory_comes_free(give_back: fn()) {
    // Another that was named first stays.
    let _ = GIVE_BACK.set(give_back);
}

async fn give_back() {
    if let Some(give_back) = GIVE_BACK.get() {
        // It has no answer, and its failure would change nothing here.
        let _ = tokio::task::spawn_blocking(give_back).await;
    }
}

#[derive(Debug)]
pub(crate) struct Shared<K> {
    view: RwLock<View<K>>,
    decode: Decode<K>,
    /// Something was looked at, and is decoded.
    looked_at: Notify,
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
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Held<K>>>,
    /// Keys by the uid of the controlling owner; under `None` those without one.
    owned: HashMap<Option<Box<str>>, BTreeSet<ObjectKey>>,
}

#[derive(Debug)]
pub(crate) struct Inbox<K> {
    /// What the subscriber saw of each object that has changed since.
    pub(crate) seen: Mutex<Seen<K>>,
    pub(crate) wake: Notify,
}

pub(crate) type Seen<K> = BTreeMap<ObjectKey, Option<Arc<Held<K>>>>;

impl<K> Shared<K> {
    pub(crate) fn new(decode: Decode<K>) -> Self {
        let view = View { objects: BTreeMap::new(), owned: HashMap::new() };
        Self {
            view: RwLock::new(view),
            decode,
            looked_at: Notify::new(),
            subscribers: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// The objects themselves.
    pub(crate) fn decoded(&self, held: impl IntoIterator<Item = Arc<Held<K>>>) -> Vec<Arc<K>> {
        let objects = held.into_iter().filter_map(|held| held.get(self.decode)).collect();
        self.looked_at.notify_one();
        objects
    }

    /// The object itself.
    pub(crate) fn one(&self, held: Option<Arc<Held<K>>>) -> Option<Arc<K>> {
        self.decoded(held).pop()
    }

    /// For ever lets go of decoded objects that nobody looks at.
    pub(crate) async fn rest(&self) {
        loop {
            self.looked_at.notified().await;
            tokio::time::sleep(REST).await;
            if self.rest_once().await {
                self.looked_at.notify_one();
            }
        }
    }

    /// Lets go of what rests. Whether anything was looked at since the last call, so that another makes sense.
    pub(crate) async fn rest_once(&self) -> bool {
        let (mut after, mut awake, mut asleep) = (Bound::Unbounded, false, 0);
        loop {
            let stretch: Vec<_> = {
                let view = self.view();
                let objects = view.objects.range((after, Bound::Unbounded)).take(STRETCH);
                objects.map(|(key, held)| (key.clone(), held.clone())).collect()
            };
            for (_, held) in &stretch {
                match held.rest() {
                    Rest::Awake => awake = true,
                    Rest::FallenAsleep => asleep += 1,
                    Rest::Kept => {}
                }
            }
            let Some((last, _)) = stretch.into_iter().next_back() else { break };
            after = Bound::Excluded(last);
            tokio::task::yield_now().await;
        }
        if asleep >= STRETCH {
            give_back().await;
        }
        awake
    }

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

impl<K> Shared<K> {
    /// Puts an object, or its absence, into the view and tells the subscribers.
    pub(crate) fn put(&self, key: ObjectKey, new: Option<Arc<Held<K>>>, revision: u64) {
        let mut view = self.view_mut();
        let old = view.replace(&key, new);
        // Under the view's lock, so that a subscriber never takes a change before it can see it.
        let told = self.tell(std::iter::once((key, old)));
        drop(view);
        self.wake(&told);
        self.advance(revision, false);
    }

    /// Makes the view what a list says, and tells of what is new, different or gone.
    pub(crate) fn take_over(&self, listed: BTreeMap<ObjectKey, Arc<Held<K>>>, revision: u64) {
        let mut view = self.view_mut();
        let gone: Vec<_> = view.objects.keys().filter(|key| !listed.contains_key(key)).cloned().collect();
        let changed: Vec<_> = listed.into_iter().filter(|(key, object)| !view.holds(key, object)).collect();
        let puts = gone.into_iter().map(|key| (key, None)).chain(changed.into_iter().map(|(key, object)| (key, Some(object))));
        let changes: Vec<_> = puts.map(|(key, new)| (key.clone(), view.replace(&key, new))).collect();
        let told = self.tell(changes.into_iter());
        drop(view);
        self.wake(&told);
        self.advance(revision, true);
    }

    /// Leaves changes for all subscribers, who have to be woken.
    fn tell(&self, changes: impl Iterator<Item = (ObjectKey, Option<Arc<Held<K>>>)>) -> Vec<Arc<Inbox<K>>> {
        let mut subscribers = locked(&self.subscribers);
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        let inboxes: Vec<_> = subscribers.iter().filter_map(Weak::upgrade).collect();
        for (key, old) in changes {
            for inbox in &inboxes {
                locked(&inbox.seen).entry(key.clone()).or_insert_with(|| old.clone());
            }
        }
        inboxes
    }

    /// Without the view's lock, which they take as soon as they wake.
    fn wake(&self, inboxes: &[Arc<Inbox<K>>]) {
        inboxes.iter().for_each(|inbox| inbox.wake.notify_one());
        self.looked_at.notify_one();
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

impl<K> View<K> {
    /// All objects whose controlling owner has this uid, or that have none.
    pub(crate) fn controlled_by(&self, uid: Option<&str>) -> Vec<Arc<Held<K>>> {
        let keys = self.owned.get(&uid.map(Box::from)).into_iter().flatten();
        keys.filter_map(|key| self.objects.get(key).cloned()).collect()
    }

    /// All objects of one namespace without a controlling owner.
    pub(crate) fn orphans(&self, namespace: &str) -> Vec<Arc<Held<K>>> {
        let first = ObjectKey::new(namespace, "");
        let keys = self.owned.get(&None).into_iter().flat_map(|keys| keys.range(first.clone()..));
        let of_namespace = keys.take_while(|key| key.namespace == namespace);
        of_namespace.filter_map(|key| self.objects.get(key).cloned()).collect()
    }

    /// Whether this version of this object is what the view has.
    fn holds(&self, key: &ObjectKey, object: &Held<K>) -> bool {
        self.objects.get(key).is_some_and(|held| held.is_same_as(object))
    }

    /// Puts an object or its absence; answers what was there before.
    fn replace(&mut self, key: &ObjectKey, new: Option<Arc<Held<K>>>) -> Option<Arc<Held<K>>> {
        let after = new.as_ref().map(|object| object.owner.clone());
        let old = match new {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
        let before = old.as_ref().map(|object| object.owner.clone());
        if before != after {
            self.reindex(key, before, after);
        }
        old
    }

    fn reindex(&mut self, key: &ObjectKey, before: Option<Option<Box<str>>>, after: Option<Option<Box<str>>>) {
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

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
