//! Reads and commits.

use std::sync::Arc;

use super::{create, delete, get, keys, numbered, put, update};
use crate::{Change, CommitError, Draft, Expected, FIRST_REVISION, MAX_DOCUMENT, MAX_KEY, Range, ReadError, Revision, Store};

pub async fn an_empty_store_has_a_revision_and_no_entries(store: Arc<dyn Store>) {
    assert!(store.revision() >= FIRST_REVISION);
    let page = store.range(Range::default()).await.expect("a range of nothing is possible");
    assert!(page.entries.is_empty());
    assert_eq!((page.remaining, page.revision), (0, store.revision()));
    let (entry, revision) = store.get("a").await.expect("a get of nothing is possible");
    assert_eq!((entry, revision), (None, store.revision()));
}

pub async fn a_created_entry_reads_back_with_its_revision_in_the_text(store: Arc<dyn Store>) {
    let event = put(&*store, "a", Expected::Absent, 7).await.expect("nothing is at the key");
    let (entry, newest) = store.get("a").await.expect("a get of the newest revision is possible");
    let entry = entry.expect("the entry is there");
    assert_eq!((entry.revision, newest, store.revision()), (event.revision, event.revision, event.revision));
    assert_eq!(&*entry.key, "a");
    assert_eq!(entry.document.json(), &format!(r#"{{"number":7,"revision":"{newest}"}}"#));
    assert_eq!(entry.document.revision(), newest);
    assert_eq!(event.document, Some(entry.document));
}

pub async fn a_refused_commit_tells_what_is_there_and_changes_nothing(store: Arc<dyn Store>) {
    let first = create(&*store, "a", 1).await;
    let second = update(&*store, "a", first, 2).await;
    let there = get(&*store, "a").await;
    let refused = [
        ("a", Expected::Absent, Change::Put(numbered(3))),
        ("a", Expected::At(first), Change::Put(numbered(3))),
        ("a", Expected::At(first), Change::Delete),
        ("a", Expected::Absent, Change::Delete),
        ("a", Expected::At(Revision(second.0 + 1)), Change::Delete),
        ("absent", Expected::At(second), Change::Put(numbered(3))),
        ("absent", Expected::At(second), Change::Delete),
        ("absent", Expected::Absent, Change::Delete),
    ];
    for (key, expected, change) in refused {
        let wanted = if key == "a" { there.clone() } else { None };
        match store.commit(key, expected, change.clone()).await {
            Err(CommitError::Conflict(found)) => assert_eq!(found.map(|entry| *entry), wanted),
            other => panic!("{change:?} of {key} expecting {expected:?}: {other:?}"),
        }
    }
    assert_eq!(get(&*store, "a").await, there);
    assert_eq!(store.revision(), second);
}

pub async fn revisions_grow_by_one_with_each_commit(store: Arc<dyn Store>) {
    let begin = store.revision().0;
    let created = create(&*store, "a", 1).await;
    let updated = update(&*store, "a", created, 1).await;
    let other = create(&*store, "b", 2).await;
    let deleted = delete(&*store, "a", updated).await;
    assert_eq!([created, updated, other, deleted].map(|revision| revision.0 - begin), [1, 2, 3, 4]);
    assert_eq!(store.revision(), deleted);
}

pub async fn a_deleted_key_can_be_created_again(store: Arc<dyn Store>) {
    let created = create(&*store, "a", 1).await;
    let deleted = delete(&*store, "a", created).await;
    assert_eq!(get(&*store, "a").await, None);
    let again = create(&*store, "a", 2).await;
    assert!(again > deleted);
    assert_eq!(get(&*store, "a").await.map(|entry| entry.revision), Some(again));
}

pub async fn keys_and_documents_have_a_largest_size(store: Arc<dyn Store>) {
    let longest = "k".repeat(MAX_KEY);
    create(&*store, &longest, 1).await;
    let longer = "k".repeat(MAX_KEY + 1);
    let refused = put(&*store, &longer, Expected::Absent, 1).await;
    assert!(matches!(refused, Err(CommitError::KeyTooLong { length }) if length == MAX_KEY + 1), "{refused:?}");

    let draft = |length| Change::Put(Draft::new(vec![b' '; length], 0));
    let largest = store.commit("large", Expected::Absent, draft(MAX_DOCUMENT)).await;
    assert!(largest.is_ok(), "{:?}", largest.err());
    let refused = store.commit("larger", Expected::Absent, draft(MAX_DOCUMENT + 1)).await;
    assert!(matches!(refused, Err(CommitError::DocumentTooLarge { length }) if length == MAX_DOCUMENT + 1));
    assert_eq!(keys(&*store, "large", None).await, ["large"]);
}

pub async fn a_range_is_in_order_and_keeps_to_its_prefix(store: Arc<dyn Store>) {
    for key in ["b/2", "a/1", "b/10", "b", "c/1", "b/1", "b0"] {
        create(&*store, key, 1).await;
    }
    assert_eq!(keys(&*store, "b/", None).await, ["b/1", "b/10", "b/2"]);
    assert_eq!(keys(&*store, "", None).await, ["a/1", "b", "b/1", "b/10", "b/2", "b0", "c/1"]);
    assert!(keys(&*store, "d", None).await.is_empty());
    let after = |after, limit| Range { prefix: "b/", after: Some(after), limit, ..Range::default() };
    for (after, limit, wanted, remaining) in [
        (after("b/1", None), None, vec!["b/10", "b/2"], 0),
        (after("b/1", Some(1)), Some(1), vec!["b/10"], 1),
        (after("a", Some(0)), Some(0), vec![], 3),
        (after("b/15", None), None, vec!["b/2"], 0),
        (after("c", None), None, vec![], 0),
    ] {
        let page = store.range(after).await.expect("the range is readable");
        let found: Vec<&str> = page.entries.iter().map(|entry| &*entry.key).collect();
        assert_eq!((found, page.remaining), (wanted, remaining), "limit {limit:?}");
    }
}

pub async fn pages_of_a_range_agree_on_one_revision_whatever_happens_between(store: Arc<dyn Store>) {
    let mut revisions = Vec::new();
    for number in 0..10 {
        revisions.push(create(&*store, &format!("a/{number}"), number).await);
    }
    let first = store.range(Range { prefix: "a/", limit: Some(4), ..Range::default() }).await.expect("the range is readable");
    assert_eq!((first.entries.len(), first.remaining), (4, 6));

    delete(&*store, "a/0", revisions[0]).await;
    delete(&*store, "a/5", revisions[5]).await;
    let changed = update(&*store, "a/7", revisions[7], 77).await;
    update(&*store, "a/7", changed, 777).await;
    create(&*store, "a/55", 55).await;
    let revived = create(&*store, "a/5", 5).await;

    let after = first.entries.last().map(|entry| entry.key.to_string());
    let rest = Range { prefix: "a/", after: after.as_deref(), at: Some(first.revision), limit: None };
    let rest = store.range(rest).await.expect("the range is readable");
    assert_eq!(rest.revision, first.revision);
    let all: Vec<_> = first.entries.iter().chain(&rest.entries).map(|entry| (entry.key.to_string(), entry.revision)).collect();
    let wanted: Vec<_> = revisions.iter().enumerate().map(|(number, revision)| (format!("a/{number}"), *revision)).collect();
    assert_eq!(all, wanted);
    assert!(rest.entries.iter().all(|entry| entry.document.revision() == entry.revision));
    assert_eq!(get(&*store, "a/5").await.map(|entry| entry.revision), Some(revived));
}

pub async fn the_past_and_the_future_are_refused_by_name(store: Arc<dyn Store>) {
    let first = create(&*store, "a", 1).await;
    let second = update(&*store, "a", first, 2).await;
    let third = update(&*store, "a", second, 3).await;
    store.compact(second).await.expect("the revision is known");

    let at = |at| Range { at: Some(at), ..Range::default() };
    let refused = store.range(at(first)).await;
    assert!(matches!(refused, Err(ReadError::Compacted { wanted, oldest }) if wanted == first && oldest == second), "{refused:?}");
    let kept = store.range(at(second)).await.expect("what was compacted to is readable");
    assert_eq!(kept.entries[0].revision, second);
    store.compact(first).await.expect("to compact what is compacted is possible");

    let beyond = Revision(third.0 + 1);
    let refused = store.range(at(beyond)).await;
    assert!(matches!(refused, Err(ReadError::Future { wanted, newest }) if wanted == beyond && newest == third), "{refused:?}");
    let refused = store.compact(beyond).await;
    assert!(matches!(refused, Err(ReadError::Future { .. })), "{refused:?}");
    assert_eq!(store.revision(), third);
}

pub async fn concurrent_commits_to_one_key_succeed_one_at_a_time(store: Arc<dyn Store>) {
    let begin = create(&*store, "counter", 0).await;
    let increments = |store: Arc<dyn Store>| async move {
        let mut done = 0;
        while done < 25 {
            let at = get(&*store, "counter").await.expect("the counter stays").revision;
            match put(&*store, "counter", Expected::At(at), 0).await {
                Ok(_) => done += 1,
                Err(CommitError::Conflict(Some(found))) => assert!(found.revision > at),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(increments(Arc::clone(&store)))).collect();
    for task in tasks {
        task.await.expect("the task completes");
    }
    assert_eq!(store.revision().0, begin.0 + 8 * 25);
}
