//! What every store must do, as checks that each implementation runs as its tests.
//!
//! [`store_conformance!`](crate::store_conformance) declares one test per check. Each check gets an empty store of its own. Checks
//! panic when the store is wrong.

mod basics;
mod chaos;
mod guards;
mod watches;

use std::sync::Arc;
use std::time::Duration;

pub use basics::*;
pub use chaos::*;
pub use guards::*;
pub use watches::*;

use crate::{Change, CommitError, Draft, Entry, Event, Expected, Range, Revision, Store, Watch, WatchError, WatchMessage};

/// How long a watch may take to deliver what it must, before the check fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Declares the tests of a store: `store_conformance!(make)`, where `make` is an async function that returns an empty store as
/// `Arc<dyn Store>` and something to keep alive meanwhile. The store must allow a watcher less than 1,000 events behind, and tell
/// progress within seconds.
#[macro_export]
macro_rules! store_conformance {
    ($make:path) => {
        $crate::store_conformance! { $make =>
            an_empty_store_has_a_revision_and_no_entries,
            a_created_entry_reads_back_with_its_revision_in_the_text,
            a_refused_commit_tells_what_is_there_and_changes_nothing,
            revisions_grow_by_one_with_each_commit,
            a_deleted_key_can_be_created_again,
            keys_and_documents_have_a_largest_size,
            a_range_is_in_order_and_keeps_to_its_prefix,
            pages_of_a_range_agree_on_one_revision_whatever_happens_between,
            the_past_and_the_future_are_refused_by_name,
            concurrent_commits_to_one_key_succeed_one_at_a_time,
            a_commit_under_a_guard_is_refused_when_another_came_first,
            of_many_who_decide_on_the_same_state_one_commits_at_a_time,
            a_watch_tells_the_past_then_the_present,
            a_watch_keeps_to_its_prefix,
            an_event_tells_what_was_before,
            a_watch_from_compacted_history_is_refused,
            a_watch_from_a_future_revision_waits_for_it,
            a_watcher_that_nothing_concerns_is_told_of_progress,
            a_slow_watcher_is_let_go_and_can_resume,
            random_concurrent_use_is_consistent,
        }
    };
    ($make:path => $($check:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let (store, _kept) = $make().await;
                $crate::conformance::$check(store).await;
            }
        )*
    };
}

/// A draft that carries a number.
fn numbered(number: u64) -> Draft {
    let head = format!(r#"{{"number":{number},"revision":""#);
    let gap = head.len();
    Draft::new(head + "\"}", gap)
}

async fn put(store: &dyn Store, key: &str, expected: Expected, number: u64) -> Result<Arc<Event>, CommitError> {
    store.commit(key, expected, Change::Put(numbered(number))).await
}

async fn create(store: &dyn Store, key: &str, number: u64) -> Revision {
    put(store, key, Expected::Absent, number).await.expect("the key was absent").revision
}

async fn update(store: &dyn Store, key: &str, at: Revision, number: u64) -> Revision {
    put(store, key, Expected::At(at), number).await.expect("the key was at the revision").revision
}

async fn delete(store: &dyn Store, key: &str, at: Revision) -> Revision {
    store.commit(key, Expected::At(at), Change::Delete).await.expect("the key was at the revision").revision
}

async fn get(store: &dyn Store, key: &str) -> Option<Entry> {
    store.get(key).await.expect("a get of the newest revision is possible").0
}

/// The keys below a prefix, as of a revision or now.
async fn keys(store: &dyn Store, prefix: &str, at: Option<Revision>) -> Vec<String> {
    let page = store.range(Range { prefix, at, ..Range::default() }).await.expect("the range is readable");
    page.entries.iter().map(|entry| entry.key.to_string()).collect()
}

/// The next message, within reason.
async fn next(watch: &mut dyn Watch) -> Result<WatchMessage, WatchError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch has something to tell")
}

/// The next event, whatever progress is told before.
async fn next_event(watch: &mut dyn Watch) -> Arc<Event> {
    loop {
        if let WatchMessage::Event(event) = next(watch).await.expect("the watch goes on") {
            return event;
        }
    }
}

/// The revisions of the events up to the first progress that reaches a revision.
async fn revisions_until(watch: &mut dyn Watch, until: Revision) -> Vec<Revision> {
    let mut revisions = Vec::new();
    loop {
        match next(watch).await.expect("the watch goes on") {
            WatchMessage::Event(event) => revisions.push(event.revision),
            WatchMessage::Progress(revision) if revision >= until => return revisions,
            WatchMessage::Progress(_) => {}
        }
    }
}
