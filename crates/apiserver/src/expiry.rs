//! Events are news: they are removed some time after they were written last, or when there are too many.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kinds::registry;
use serde::Deserialize;
use store::{Change, CommitError, Event, Expected, Range, Revision, Store, WatchMessage};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::keys;

/// How long to wait before beginning again after the store failed.
const PAUSE: Duration = Duration::from_secs(5);

/// How long an event is kept, and how many are.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub time: Duration,
    pub count: usize,
}

/// Removes events as they expire, until the server closes.
pub async fn run(store: Arc<dyn Store>, kept: Kept, closing: CancellationToken) {
    tokio::select! {
        () = remove(&*store, kept, PAUSE) => {}
        () = closing.cancelled() => {}
    }
}

/// Removes events for ever.
async fn remove(store: &dyn Store, kept: Kept, pause: Duration) {
    loop {
        // It ends only when the store refuses something or the watch fell behind: then everything is read anew.
        if follow(store, kept).await.is_none() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// When each event expires, and which commit wrote it last.
#[derive(Default)]
struct Schedule {
    events: HashMap<Arc<str>, (Instant, Revision)>,
    order: BTreeSet<(Instant, Arc<str>)>,
}

impl Schedule {
    fn set(&mut self, key: Arc<str>, at: Option<(Instant, Revision)>) {
        if let Some((before, _)) = self.events.remove(&key) {
            self.order.remove(&(before, Arc::clone(&key)));
        }
        if let Some((instant, revision)) = at {
            self.order.insert((instant, Arc::clone(&key)));
            self.events.insert(key, (instant, revision));
        }
    }

    /// When the next one goes: the oldest goes at once if there are more than `count`.
    fn next(&self, count: usize) -> Option<Instant> {
        let (instant, _) = self.order.first()?;
        Some(if self.events.len() > count { Instant::now().min(*instant) } else { *instant })
    }

    fn pop(&mut self) -> Option<(Arc<str>, Revision)> {
        let (_, key) = self.order.pop_first()?;
        let (_, revision) = self.events.remove(&key)?;
        Some((key, revision))
    }
}

async fn follow(store: &dyn Store, kept: Kept) -> Option<()> {
    let resource = registry::find("", "v1", "events")?;
    let prefix = keys::collection(resource, "");
    let page = store.range(Range { prefix: &prefix, ..Range::default() }).await.ok()?;
    let mut watch = store.watch(&prefix, page.revision).ok()?;
    let mut schedule = Schedule::default();
    for entry in page.entries {
        schedule.set(entry.key, Some((Instant::now() + left(entry.document.json(), kept.time), entry.revision)));
    }
    loop {
        let next = schedule.next(kept.count);
        let expired = async {
            match next {
                Some(instant) => tokio::time::sleep_until(instant).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = watch.next() => match message.ok()? {
                WatchMessage::Event(event) => {
                    let at = event.document.is_some().then(|| (Instant::now() + kept.time, event.revision));
                    schedule.set(Arc::clone(&event.key), at);
                }
                WatchMessage::Progress(_) => {}
            },
            () = expired => {
                let (key, revision) = schedule.pop()?;
                if !is_done(&store.commit(&key, Expected::At(revision), Change::Delete).await) {
                    return None;
                }
            }
        }
    }
}

/// Whether an event needs no further try: it is gone, or whoever wrote it meanwhile has rescheduled it, which the watch tells.
fn is_done(deletion: &Result<Arc<Event>, CommitError>) -> bool {
    matches!(deletion, Ok(_) | Err(CommitError::Conflict(_)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    last_timestamp: Option<jiff::Timestamp>,
    event_time: Option<jiff::Timestamp>,
    metadata: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    creation_timestamp: Option<jiff::Timestamp>,
}

/// How long an event that was there before still has.
fn left(json: &[u8], kept: Duration) -> Duration {
    let Ok(times) = serde_json::from_slice::<Times>(json) else { return kept };
    let written = times.last_timestamp.max(times.event_time).max(times.metadata.creation_timestamp);
    let age = written.map(|at| jiff::Timestamp::now().duration_since(at).unsigned_abs());
    kept.saturating_sub(age.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use futures::future::BoxFuture;
    use serde_json::json;
    use store::embedded::{Embedded, Options};
    use store::{Commit, Entry, Page, ReadError, Watch, WatchError};

    use super::*;
    use crate::document::Text;

    #[test]
    fn an_event_that_is_written_again_expires_later() {
        let mut schedule = Schedule::default();
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        schedule.set("a".into(), Some((now + hour, Revision(1))));
        schedule.set("b".into(), Some((now + 2 * hour, Revision(2))));
        schedule.set("a".into(), Some((now + 3 * hour, Revision(3))));
        assert_eq!(schedule.next(2), Some(now + 2 * hour));
        assert!(schedule.next(1).unwrap() < now + hour);
        assert_eq!(schedule.pop(), Some(("b".into(), Revision(2))));
        assert_eq!(schedule.pop(), Some(("a".into(), Revision(3))));
        schedule.set("c".into(), Some((now, Revision(4))));
        schedule.set("c".into(), None);
        assert_eq!((schedule.next(0), schedule.pop()), (None, None));
    }

    /// A store that can't write, so many times.
    struct Refusing {
        inner: Embedded,
        times: AtomicUsize,
    }

    impl Store for Refusing {
        fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision), ReadError>> {
            self.inner.get(key)
        }

        fn range<'a>(&'a self, range: Range<'a>) -> BoxFuture<'a, Result<Page, ReadError>> {
            self.inner.range(range)
        }

        fn commit_guarded<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Arc<Event>, CommitError>> {
            let refuses = self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |times| times.checked_sub(1)).is_ok();
            if refuses {
                return std::future::ready(Err(CommitError::Unavailable("it is not there".into()))).boxed();
            }
            self.inner.commit_guarded(commit)
        }

        fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
            self.inner.watch(prefix, after)
        }

        fn revision(&self) -> Revision {
            self.inner.revision()
        }

        fn is_shared(&self) -> bool {
            self.inner.is_shared()
        }

        fn newest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
            self.inner.newest()
        }

        fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
            self.inner.compact(before)
        }
    }

    #[tokio::test]
    async fn an_event_that_could_not_be_removed_is_removed_later() {
        let dir = tempfile::tempdir().unwrap();
        let inner = Embedded::open(dir.path(), Options::default()).unwrap();
        let row = registry::find("", "v1", "events").unwrap();
        let old = json!({"metadata": {"name": "e", "namespace": "a", "creationTimestamp": "2020-01-01T00:00:00Z"}, "involvedObject": {}});
        let key = keys::object(row, "a", "e");
        let draft = Text::of(row, &mut *row.codec.from_value(&old).unwrap()).draft("");
        inner.commit(&key, Expected::Absent, Change::Put(draft)).await.unwrap();
        let store = Refusing { inner, times: AtomicUsize::new(2) };
        let mut watch = store.watch(&key, store.revision()).unwrap();
        let gone = async { while !matches!(watch.next().await.unwrap(), WatchMessage::Event(event) if event.document.is_none()) {} };
        let kept = Kept { time: Duration::from_secs(3600), count: 10 };
        tokio::select! {
            () = remove(&store, kept, Duration::from_millis(1)) => unreachable!("it goes on for ever"),
            gone = tokio::time::timeout(Duration::from_secs(60), gone) => gone.expect("it stays for ever"),
        }
        assert_eq!(store.times.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn an_old_event_has_no_time_left() {
        let old = r#"{"metadata":{"creationTimestamp":"2020-01-01T00:00:00Z"},"lastTimestamp":"2020-01-01T01:00:00Z"}"#;
        const KEPT: Duration = Duration::from_secs(3600);
        assert_eq!(left(old.as_bytes(), KEPT), Duration::ZERO);
        let new = format!(r#"{{"metadata":{{}},"eventTime":"{}"}}"#, jiff::Timestamp::now());
        assert!(left(new.as_bytes(), KEPT) > KEPT / 2);
        assert_eq!(left(b"nonsense", KEPT), KEPT);
    }
}
