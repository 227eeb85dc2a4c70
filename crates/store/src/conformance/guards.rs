//! Commits under guards.

use std::sync::Arc;

use super::{get, keys, numbered};
use crate::{Change, Commit, CommitError, Event, Expected, Guard, Range, Revision, Store};

async fn put(store: &dyn Store, key: &str, guards: &[Guard]) -> Result<Arc<Event>, CommitError> {
    store.commit_guarded(Commit { key, expected: Expected::Absent, change: Change::Put(numbered(1)), guards }).await
}

pub async fn a_commit_under_a_guard_is_refused_when_another_came_first(store: Arc<dyn Store>) {
    let begin = store.revision();
    let guard = |since| [Guard::new("count", "a", since)];
    let first = put(&*store, "first", &guard(begin)).await.expect("nobody was first").revision;
    for refused in [guard(begin), guard(Revision(first.0 - 1)), [Guard::new("count", "a", Revision(0))]] {
        let outcome = put(&*store, "second", &refused).await;
        assert!(matches!(outcome, Err(CommitError::Overtaken)), "{outcome:?}");
    }
    assert_eq!((get(&*store, "second").await, store.revision()), (None, first));
    // Who has no guard, or another kind of one, is not in the way and not kept away.
    put(&*store, "unguarded", &[]).await.expect("it has no guard");
    put(&*store, "other", &[Guard::new("addresses", "", begin)]).await.expect("its guard is another");
    let there = put(&*store, "first", &guard(begin)).await;
    assert!(matches!(there, Err(CommitError::Conflict(Some(_)))), "what is there comes before the guard: {there:?}");
    let both = [Guard::new("count", "a", first), Guard::new("addresses", "", begin)];
    let outcome = put(&*store, "second", &both).await;
    assert!(matches!(outcome, Err(CommitError::Overtaken)), "one of two was passed: {outcome:?}");
    let now = store.revision();
    let both = [Guard::new("count", "a", now), Guard::new("addresses", "", now)];
    let second = put(&*store, "second", &both).await.expect("both were read since").revision;
    assert_eq!(second.0, now.0 + 1);
}

pub async fn of_many_who_decide_on_the_same_state_one_commits_at_a_time(store: Arc<dyn Store>) {
    const MOST: usize = 5;
    let member = |store: Arc<dyn Store>, number: usize| async move {
        loop {
            let page = store.range(Range { prefix: "counted/", ..Range::default() }).await.expect("the range is readable");
            if page.entries.len() >= MOST {
                return false;
            }
            match put(&*store, &format!("counted/{number}"), &[Guard::new("count", "", page.revision)]).await {
                Ok(_) => return true,
                Err(CommitError::Overtaken) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let tasks: Vec<_> = (0..12).map(|number| tokio::spawn(member(Arc::clone(&store), number))).collect();
    let mut stored = 0;
    for task in tasks {
        stored += usize::from(task.await.expect("the task completes"));
    }
    assert_eq!((stored, keys(&*store, "counted/", None).await.len()), (MOST, MOST));
}
