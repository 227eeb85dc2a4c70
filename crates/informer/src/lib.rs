//! A live, shared view of all objects of one kind: one list, one watch and one decode per event in the process, whoever
//! looks. Controllers, the node agent, DNS and the service proxy all see the cluster through these.
//!
//! # Guarantees
//! * What is read is a state the server had; it only moves forward. A list is taken over as a whole.
//! * A [`Subscription`] tells of every object that changed. Changes of one object that were not fetched yet are told as one,
//!   so what waits is bounded by the number of objects.
//! * An object that nobody has looked at for some seconds is kept as text, which takes a fraction of the memory, and decoded again
//!   for whoever looks.
//!
//! # Caveats
//! * The view lags the server. Who has just written waits with [`Informer::caught_up`], or after a deletion with
//!   [`Informer::until`], before deciding again.

mod api;
mod feed;
mod held;
mod lines;
mod retry;
pub mod source;
mod view;

use std::fmt::Debug;
use std::sync::Arc;

use kinds::ObjectKey;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

pub use api::Api;
pub use feed::Decode;
use feed::Feed;
use held::Held;
use source::Source;
pub use view::when_memory_comes_free;
use view::{Inbox, Seen, Shared, View, locked};

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
    pub fn start(api: Api<K>) -> Self {
        let source = Source::of(K::plural(&()), api.resource_url().to_owned());
        Self::start_at(api.into_client(), source, feed::decode)
    }

    /// As [`Informer::start`], from a source and with a decoder of one's own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_at(client: Client, source: Source, decode: Decode<K>) -> Self {
        let shared = Arc::new(Shared::new(decode));
        let mut feed = Feed::new(shared.clone(), decode);
        let resting = shared.clone();
        let task = tokio::spawn(async move { tokio::join!(source.feed(&client, &mut feed), resting.rest()) });
        Self { shared, _watching: Arc::new(AbortOnDrop(task.abort_handle())) }
    }

    /// A view that is never filled, for a kind that nobody looks at.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn idle() -> Self {
        let task = tokio::spawn(std::future::ready(()));
        Self { shared: Arc::new(Shared::new(feed::decode)), _watching: Arc::new(AbortOnDrop(task.abort_handle())) }
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        // The sender lives in `shared`, so waiting can't fail.
        let _ = self.shared.progress.subscribe().wait_for(|progress| progress.synced).await;
    }

    /// Waits until the view holds what was written at this `metadata.resourceVersion`, or something newer of this kind. A
    /// list that is begun after this call is newer too, though it may show no trace of the write.
    pub async fn caught_up(&self, resource_version: &str) {
        let wanted = resource_version.parse().unwrap_or(0);
        let mut progress = self.shared.progress.subscribe();
        let begun = progress.borrow().begun;
        let _ = progress.wait_for(|progress| progress.revision >= wanted || progress.done > begun).await;
    }

    /// Waits until what the view holds under this key, if anything, is as wanted: for a deletion, whose revision the one
    /// who deletes is not always told.
    pub async fn until(&self, key: &ObjectKey, wanted: impl Fn(Option<&K>) -> bool) {
        let mut progress = self.shared.progress.subscribe();
        while !wanted(self.get(key).as_deref()) {
            // The sender lives in `shared`, so waiting can't fail.
            let _ = progress.changed().await;
        }
    }

    /// The newest `resourceVersion` the view has seen on an object of this kind.
    pub fn revision(&self) -> u64 {
        self.shared.progress.borrow().revision
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let held = self.shared.view().objects.get(key).cloned();
        self.shared.one(held)
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.select(|view| view.objects.values().cloned().collect())
    }

    /// All objects of one namespace, in the order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.with_prefix(namespace, "")
    }

    /// All objects of one namespace whose names begin with this text, in the order of their names.
    pub fn with_prefix(&self, namespace: &str, prefix: &str) -> Vec<Arc<K>> {
        let first = ObjectKey::new(namespace, prefix);
        let begins = |key: &ObjectKey| key.namespace == namespace && key.name.starts_with(prefix);
        self.select(|view| view.objects.range(first..).take_while(|(key, _)| begins(key)).map(|(_, held)| held.clone()).collect())
    }

    /// All objects whose controlling owner has this uid, in the order of their keys.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.select(|view| view.controlled_by(Some(uid)))
    }

    /// All objects of one namespace that have no controlling owner, in the order of their names.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.select(|view| view.orphans(namespace))
    }

    /// Some objects of one state. They are decoded when the view is free again for its feed.
    fn select(&self, choose: impl FnOnce(&View<K>) -> Vec<Arc<Held<K>>>) -> Vec<Arc<K>> {
        let held = choose(&self.shared.view());
        self.shared.decoded(held)
    }

    /// A new subscription, which begins with every object there is.
    pub fn subscribe(&self) -> Subscription<K> {
        Subscription { inbox: self.shared.open_inbox(), shared: self.shared.clone() }
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

    fn against_view(&self, seen: Seen<K>) -> Vec<Change<K>> {
        let view = self.shared.view();
        let pairs: Vec<_> = seen.into_iter().map(|(key, old)| (view.objects.get(&key).cloned(), key, old)).collect();
        drop(view);
        let change = |(new, key, old)| Change { key, old: self.shared.one(old), new: self.shared.one(new) };
        pairs.into_iter().map(change).collect()
    }
}

#[cfg(test)]
mod tests;
