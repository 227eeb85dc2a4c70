//! Feeds a view from a list and a watch.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kinds::ObjectKey;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::Watched;
use crate::view::Shared;

pub(crate) async fn run<W, K: Watched>(api: Api<W>, config: watcher::Config, read: fn(W) -> K, shared: Arc<Shared<K>>)
where
    W: Resource + DeserializeOwned + Clone + Debug + Send + 'static,
{
    let events = watcher::watcher(api, config).backoff(Retry::default());
    follow(events.map(|event| event.map(|event| converted(event, read))), &shared).await;
}

fn converted<W, K>(event: Event<W>, read: fn(W) -> K) -> Event<K> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(read(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(read(object)),
        Event::Delete(object) => Event::Delete(read(object)),
    }
}

/// Applies events until the stream ends.
async fn follow<K: Watched>(events: impl Stream<Item = watcher::Result<Event<K>>>, shared: &Shared<K>) {
    let mut events = Box::pin(events);
    // The list that is being received. The view doesn't change, nor its revision, before the list is whole.
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                shared.begin_list();
                listed.clear();
            }
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

const FIRST_RETRY: Duration = Duration::from_millis(5);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// After so long without a failure, the next one is retried at once again.
const QUIET: Duration = Duration::from_secs(30);

/// How long to wait after a failure: a single one, such as an expired watch, costs milliseconds; a server that keeps
/// failing is asked less and less. A good answer alone proves nothing: its list may work while its watch doesn't.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    failed: Option<Instant>,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.failed.is_none_or(|failed| now.duration_since(failed) > QUIET) {
            self.failures = 0;
        }
        self.failed = Some(now);
        let delay = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        Some(delay)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_keeps_failing_is_asked_less_and_less() {
        let mut retry = Retry::default();
        let mut waits = Vec::new();
        for _ in 0..20 {
            waits.extend(retry.next());
            retry.reset();
        }
        assert!(waits[0] == FIRST_RETRY && waits.is_sorted() && waits[19] == LONGEST_RETRY);
    }
}
