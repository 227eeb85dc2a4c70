//! Feeds a view from a list and a watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kinds::ObjectKey;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};

use crate::Watched;
use crate::view::Shared;

pub(crate) async fn run<K: Watched>(api: Api<K>, config: watcher::Config, shared: Arc<Shared<K>>) {
    follow(watcher::watcher(api, config).default_backoff(), &shared).await;
}

/// Applies events until the stream ends.
async fn follow<K: Watched>(events: impl Stream<Item = watcher::Result<Event<K>>>, shared: &Shared<K>) {
    let mut events = Box::pin(events);
    // The list that is being received. The view doesn't change, nor its revision, before the list is whole.
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => drop(listed.insert(key_of(&object), Arc::new(object))),
            Ok(Event::InitDone) => {
                let listed = std::mem::take(&mut listed);
                let revision = listed.values().map(|object| revision_of(&**object)).max().unwrap_or(0);
                shared.take_over(listed, revision);
            }
            Ok(Event::Apply(object)) => {
                let revision = revision_of(&object);
                shared.put(key_of(&object), Some(Arc::new(object)), revision);
            }
            Ok(Event::Delete(object)) => shared.put(key_of(&object), None, revision_of(&object)),
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch failed; it is tried again"),
        }
    }
}

fn key_of<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new(object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

/// The `resourceVersion` as a number; a server whose versions are no numbers gets no order from us.
fn revision_of<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
