//! Watches.

use std::sync::Arc;

use futures::future::join_all;

use super::{create, delete, get, next, next_event, revisions_until, update};
use crate::{Revision, Store, WatchError, WatchMessage};

pub async fn a_watch_tells_the_past_then_the_present(store: Arc<dyn Store>) {
    let begin = store.revision();
    let first = create(&*store, "a", 1).await;
    let second = create(&*store, "b", 2).await;
    let mut watch = store.watch("", begin).expect("nothing is compacted");
    let mut later = store.watch("", first).expect("nothing is compacted");
    assert_eq!(revisions_until(&mut *watch, second).await, [first, second]);
    assert_eq!(revisions_until(&mut *later, second).await, [second]);
    let third = delete(&*store, "a", first).await;
    assert_eq!(next_event(&mut *watch).await.revision, third);
    assert_eq!(next_event(&mut *later).await.revision, third);
}

pub async fn a_watch_keeps_to_its_prefix(store: Arc<dyn Store>) {
    let begin = store.revision();
    create(&*store, "a", 1).await;
    let inside = create(&*store, "a/1", 1).await;
    let mut watch = store.watch("a/", begin).expect("nothing is compacted");
    let mut all = store.watch("", begin).expect("nothing is compacted");
    create(&*store, "a0", 1).await;
    let deleted = delete(&*store, "a/1", inside).await;
    let last = create(&*store, "b/a/", 1).await;
    assert_eq!(revisions_until(&mut *watch, last).await, [inside, deleted]);
    assert_eq!(revisions_until(&mut *all, last).await.len(), 5);
}

pub async fn an_event_tells_what_was_before(store: Arc<dyn Store>) {
    let mut watch = store.watch("a", store.revision()).expect("the present is never compacted");
    let created = create(&*store, "a", 1).await;
    let first = get(&*store, "a").await.map(|entry| entry.document);
    let updated = update(&*store, "a", created, 2).await;
    let second = get(&*store, "a").await.map(|entry| entry.document);
    let deleted = delete(&*store, "a", updated).await;
    for (revision, previous, document) in
        [(created, None, first.clone()), (updated, first, second.clone()), (deleted, second.clone(), None)]
    {
        let event = next_event(&mut *watch).await;
        assert_eq!(&*event.key, "a");
        assert_eq!((event.revision, &event.previous, &event.document), (revision, &previous, &document));
    }
    let restated = second.expect("it was there").restated(deleted);
    assert_eq!(restated.json(), &format!(r#"{{"number":2,"revision":"{deleted}"}}"#));
}

pub async fn a_watch_from_compacted_history_is_refused(store: Arc<dyn Store>) {
    let first = create(&*store, "a", 1).await;
    let second = update(&*store, "a", first, 2).await;
    let third = update(&*store, "a", second, 3).await;
    let mut open = store.watch("", first).expect("nothing is compacted");
    store.compact(second).await.expect("the revision is known");
    match store.watch("", first) {
        Err(WatchError::Compacted { wanted, oldest }) => assert_eq!((wanted, oldest), (first, second)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a watch began in compacted history"),
    }
    let mut watch = store.watch("", second).expect("what was compacted to can be watched from");
    assert_eq!(next_event(&mut *watch).await.revision, third);
    assert_eq!(revisions_until(&mut *open, third).await, [second, third], "a watch that has begun outlives the compaction");
}

pub async fn a_watch_from_a_future_revision_waits_for_it(store: Arc<dyn Store>) {
    let now = store.revision();
    let mut watch = store.watch("", Revision(now.0 + 2)).expect("the future is not compacted");
    let mut last = now;
    for number in 0..4 {
        last = create(&*store, &format!("a/{number}"), number).await;
    }
    assert_eq!(next_event(&mut *watch).await.revision, Revision(now.0 + 3));
    assert_eq!(next_event(&mut *watch).await.revision, last);
}

pub async fn a_watcher_that_nothing_concerns_is_told_of_progress(store: Arc<dyn Store>) {
    let begin = store.revision();
    let mut watch = store.watch("nothing/", begin).expect("nothing is compacted");
    match next(&mut *watch).await {
        Ok(WatchMessage::Progress(revision)) => assert_eq!(revision, begin),
        other => panic!("{other:?}"),
    }
    let mut last = begin;
    for number in 0..3 {
        last = create(&*store, &format!("a/{number}"), number).await;
        assert_eq!(revisions_until(&mut *watch, last).await, []);
    }
    let mut resumed = store.watch("", last).expect("progress can be resumed from");
    let next = create(&*store, "a/3", 3).await;
    assert_eq!(next_event(&mut *resumed).await.revision, next);
}

pub async fn a_slow_watcher_is_let_go_and_can_resume(store: Arc<dyn Store>) {
    let begin = store.revision();
    let mut slow = store.watch("a/", begin).expect("nothing is compacted");
    for batch in 0..10 {
        join_all((0..200).map(|number| create_one(&*store, batch * 200 + number))).await;
    }
    let mut delivered = Vec::new();
    let seen = loop {
        match next(&mut *slow).await {
            Ok(WatchMessage::Event(event)) => delivered.push(event.revision),
            Ok(WatchMessage::Progress(_)) => {}
            Err(WatchError::TooSlow { seen }) => break seen,
            Err(error) => panic!("{error}"),
        }
        assert!(delivered.len() < 2000, "a watcher 2,000 events behind is still served");
    };
    assert!(matches!(slow.next().await, Err(WatchError::TooSlow { .. })), "it stays ended");
    assert!(seen >= delivered.last().copied().unwrap_or(begin));
    let mut resumed = store.watch("a/", seen).expect("nothing is compacted");
    delivered.extend(revisions_until(&mut *resumed, store.revision()).await);
    let wanted: Vec<_> = (begin.0 + 1..=begin.0 + 2000).map(Revision).collect();
    assert_eq!(delivered, wanted);
}

async fn create_one(store: &dyn Store, number: u64) {
    create(store, &format!("a/{number}"), number).await;
}
