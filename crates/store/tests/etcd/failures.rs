//! Members that die, lines that break, and others who write to the same etcd.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use etcd_fixture::Cluster;
use store::etcd::Etcd;
use store::{Change, CommitError, Draft, Event, Expected, MAX_DOCUMENT, Range, Revision, Store, Watch, WatchError, WatchMessage};

use super::line::{Line, Mode};
use super::{open, options};

fn put(number: u64) -> Change {
    let text = format!("{number} at ");
    let gap = text.len();
    Change::Put(Draft::new(text, gap))
}

/// What the text of an event says.
fn number(event: &Event) -> u64 {
    let json = event.document.as_ref().expect("nothing is deleted").json();
    let text = std::str::from_utf8(json).expect("text");
    text.split_once(' ').and_then(|(number, _)| number.parse().ok()).expect("a number")
}

/// An etcd that has lost what a store has of it, the store, and a watch that began before.
async fn gone_back() -> (Cluster, Etcd, Box<dyn Watch>) {
    let mut cluster = Cluster::start(1);
    let store = open(&cluster).await;
    for number in 0..5 {
        store.commit(&format!("k/{number}"), Expected::Absent, put(number)).await.expect("it is as expected");
    }
    let watch = store.watch("", store.revision()).expect("the present is not compacted");
    tokio::task::block_in_place(|| {
        cluster.kill(0);
        cluster.lose_data(0);
        cluster.restart(0);
    });
    (cluster, store, watch)
}

/// Counts upwards in a key of its own until told to stop; gives what was acknowledged, in order. What it is not sure of it looks up.
async fn count(store: Arc<Etcd>, key: String, stop: Arc<AtomicBool>, progress: Arc<AtomicU64>) -> Vec<(Revision, u64)> {
    let (mut acknowledged, mut expected, mut next) = (Vec::new(), Expected::Absent, 1);
    while !stop.load(Ordering::Relaxed) {
        match store.commit(&key, expected, put(next)).await {
            Ok(event) => {
                acknowledged.push((event.revision, next));
                progress.fetch_add(1, Ordering::Relaxed);
                (expected, next) = (Expected::At(event.revision), next + 1);
            }
            Err(CommitError::Uncertain(_) | CommitError::Unavailable(_)) => {
                let Ok((entry, _)) = store.get(&key).await else { continue };
                if let Some(entry) = entry {
                    expected = Expected::At(entry.revision);
                    next += 1;
                }
            }
            Err(error) => panic!("nobody else writes {key}: {error}"),
        }
    }
    acknowledged
}

/// All events from a revision until another, across interruptions.
async fn follow(store: &Etcd, after: Revision, until: Revision) -> Vec<Arc<Event>> {
    let (mut events, mut seen) = (Vec::new(), after);
    while seen < until {
        let mut watch = store.watch("", seen).expect("nothing is compacted");
        while seen < until {
            match watch.next().await {
                Ok(WatchMessage::Event(event)) => {
                    seen = event.revision;
                    events.push(event);
                }
                Ok(WatchMessage::Progress(revision)) => seen = revision,
                Err(WatchError::TooSlow { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    events
}

/// Every acknowledged commit is among the events, and each key counts up without a step that is told twice or left out.
fn judge(events: &[Arc<Event>], acknowledged: &HashMap<String, Vec<(Revision, u64)>>) {
    assert!(events.windows(2).all(|pair| pair[0].revision < pair[1].revision), "a revision is told twice");
    for (key, acknowledged) in acknowledged {
        assert!(!acknowledged.is_empty(), "{key} was never written");
        let told: Vec<_> = events.iter().filter(|event| *event.key == **key).map(|event| (event.revision, number(event))).collect();
        assert!(told.windows(2).all(|pair| pair[0].1 < pair[1].1), "{key} was written twice by one commit: {told:?}");
        let missing: Vec<_> = acknowledged.iter().filter(|commit| !told.contains(commit)).collect();
        assert!(missing.is_empty(), "{key} lost {missing:?}");
    }
}

/// How many commits of each writer were acknowledged.
struct Progress(Vec<Arc<AtomicU64>>);

impl Progress {
    /// Waits until each writer has had so many more commits acknowledged.
    async fn goes_on(&self, more: u64) {
        let wanted: Vec<_> = self.0.iter().map(|count| count.load(Ordering::Relaxed) + more).collect();
        until("another commit of each writer", || {
            self.0.iter().zip(&wanted).all(|(count, wanted)| count.load(Ordering::Relaxed) >= *wanted)
        })
        .await;
    }
}

/// What writers had acknowledged while something was done to them.
async fn count_while(stores: &[Arc<Etcd>], what: impl AsyncFnOnce(&Progress)) -> HashMap<String, Vec<(Revision, u64)>> {
    let stop = Arc::new(AtomicBool::new(false));
    let progress = Progress((0..6).map(|_| Arc::default()).collect());
    let tasks: Vec<_> = std::iter::zip(&progress.0, stores.iter().cycle())
        .enumerate()
        .map(|(number, (count_of, store))| {
            let key = format!("count/{number}");
            (key.clone(), tokio::spawn(count(Arc::clone(store), key, Arc::clone(&stop), Arc::clone(count_of))))
        })
        .collect();
    what(&progress).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = HashMap::new();
    for (key, task) in tasks {
        all.insert(key, task.await.expect("the task completes"));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_killed_take_nothing_with_them() {
    let mut cluster = Cluster::start(3);
    let stores = [Arc::new(open(&cluster).await), Arc::new(open(&cluster).await)];
    let begin = stores[0].revision();
    let acknowledged = count_while(&stores, async |progress| {
        for member in 0..3 {
            progress.goes_on(10).await;
            tokio::task::block_in_place(|| cluster.kill(member));
            progress.goes_on(10).await;
            tokio::task::block_in_place(|| cluster.restart(member));
        }
    })
    .await;
    let end = stores[0].newest().await.expect("a majority is there");
    for store in &stores {
        let events = follow(store, begin, end).await;
        judge(&events, &acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_stands_still_is_left_for_another() {
    let cluster = Cluster::start(3);
    // It uses the first member, until that says nothing any more.
    let store = open(&cluster).await;
    let first = store.commit("a", Expected::Absent, put(1)).await.expect("nothing is there").revision;
    cluster.freeze(0);
    let mut last = first;
    for number in 2..5 {
        last = store.commit("a", Expected::At(last), put(number)).await.expect("the others are a majority").revision;
        let (found, _) = store.get("a").await.expect("readable");
        assert_eq!(found.map(|entry| entry.revision), Some(last));
    }
    assert_eq!(follow(&store, first, last).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_over_a_line_that_breaks_happen_once() {
    let cluster = Cluster::start(1);
    let line = Line::to(&cluster).await;
    let store = Arc::new(line.open_store().await);
    let begin = store.revision();
    let acknowledged = count_while(&[Arc::clone(&store)], async |progress| {
        for pause in 0..40 {
            progress.goes_on(1).await;
            tokio::time::sleep(Duration::from_millis(20 + pause * 7 % 60)).await;
            line.cut();
        }
    })
    .await;
    let end = store.newest().await.expect("etcd is there");
    judge(&follow(&store, begin, end).await, &acknowledged);
    let other = open(&cluster).await;
    judge(&follow(&other, begin, end).await, &acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_server_reads_at_once_what_another_has_acknowledged() {
    let cluster = Cluster::start(1);
    let stores = [open(&cluster).await, open(&cluster).await];
    let mut expected = Expected::Absent;
    for number in 0..200 {
        let (writer, reader) = (&stores[number % 2], &stores[1 - number % 2]);
        let event = writer.commit("key", expected, put(number as u64)).await.expect("it is as expected");
        let (found, newest) = reader.get("key").await.expect("readable");
        assert_eq!(found.map(|entry| entry.revision), Some(event.revision));
        assert!(newest >= event.revision);
        expected = Expected::At(event.revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_in_the_same_etcd_leave_gaps_and_nothing_else() {
    let cluster = Cluster::start(1);
    let elsewhere = Etcd::open(&cluster.address("elsewhere").parse().expect("an address"), options()).await.expect("the store opens");
    let store = open(&cluster).await;
    let begin = store.revision();
    let mut commits = Vec::new();
    for number in 0..20 {
        elsewhere.commit(&format!("other/{number}"), Expected::Absent, put(number)).await.expect("it is as expected");
        let (found, newest) = store.get("other/0").await.expect("readable");
        assert_eq!(found, None);
        let event = store.commit(&format!("own/{number}"), Expected::Absent, put(number)).await.expect("it is as expected");
        assert!(event.revision > newest);
        commits.push(event.revision);
    }
    let events = follow(&store, begin, *commits.last().expect("there are some")).await;
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), commits);
    let past = store.range(Range { at: Some(commits[9]), ..Range::default() }).await.expect("it is remembered");
    assert_eq!(past.entries.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_again_remembers_as_far_back_as_etcd() {
    let cluster = Cluster::start(1);
    let store = open(&cluster).await;
    let begin = store.revision();
    let mut commits = Vec::new();
    for number in 0..30 {
        commits.push(store.commit(&format!("k/{number}"), Expected::Absent, put(number)).await.expect("it is as expected").revision);
    }
    drop(store);
    let store = open(&cluster).await;
    let told = follow(&store, begin, commits[29]).await;
    assert_eq!(told.iter().map(|event| event.revision).collect::<Vec<_>>(), commits);
    store.compact(commits[19]).await.expect("the revision is known");
    drop(store);
    let store = open(&cluster).await;
    let refused = store.watch("", commits[18]).err();
    assert!(matches!(refused, Some(WatchError::Compacted { oldest, .. }) if oldest == commits[19]), "{refused:?}");
    assert_eq!(follow(&store, commits[19], commits[29]).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_missed_what_etcd_has_forgotten_reads_all_again() {
    let cluster = Cluster::start(1);
    let (line, other) = (Line::to(&cluster).await, open(&cluster).await);
    let cut_off = line.open_store().await;
    let first = cut_off.commit("a", Expected::Absent, put(1)).await.expect("nothing is there").revision;
    let mut watch = cut_off.watch("", first).expect("nothing is compacted");
    line.close();
    let mut last = first;
    for number in 2..10 {
        last = other.commit("a", Expected::At(last), put(number)).await.expect("it is as expected").revision;
    }
    other.compact(last).await.expect("the revision is known");
    line.be(Mode::Open);
    let (found, _) = cut_off.get("a").await.expect("the line is there again");
    assert_eq!(found.map(|entry| entry.revision), Some(last));
    let ended = loop {
        match watch.next().await {
            Ok(WatchMessage::Progress(revision)) => assert_eq!(revision, first),
            Ok(WatchMessage::Event(event)) => panic!("revision {} is told though others before it are lost", event.revision),
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, WatchError::TooSlow { seen } if seen == first), "{ended}");
    assert!(matches!(cut_off.watch("", first).err(), Some(WatchError::Compacted { .. })));
    assert!(cut_off.commit("a", Expected::At(last), Change::Delete).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_has_gone_back_is_noticed_and_not_served_from() {
    let (cluster, store, mut watch) = gone_back().await;
    let refused = store.get("k/0").await.expect_err("refused").to_string();
    assert!(refused.contains("gone back") && refused.contains("Start all servers again"), "{refused}");
    let refused = store.commit("k/9", Expected::Absent, put(9)).await.expect_err("refused");
    assert!(matches!(refused, CommitError::Unavailable(_)), "{refused}");
    while let Ok(told) = watch.next().await {
        assert!(matches!(told, WatchMessage::Progress(_)), "{told:?}");
    }
    // One that is opened again finds a store that begins.
    let again = open(&cluster).await;
    assert_eq!(again.get("k/0").await.expect("readable").0, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_created_and_deleted_while_the_answer_got_lost_is_not_created_again() {
    let cluster = Cluster::start(1);
    let (line, other) = (Line::to(&cluster).await, open(&cluster).await);
    let store = Arc::new(line.open_store().await);
    let mut watch = other.watch("", other.revision()).expect("the present is not compacted");
    line.be(Mode::Mute);
    let creator = Arc::clone(&store);
    let creating = tokio::spawn(async move { creator.commit("a", Expected::Absent, put(1)).await });
    let created = loop {
        if let WatchMessage::Event(event) = watch.next().await.expect("the watch goes on") {
            break event.revision;
        }
    };
    let deleted = other.commit("a", Expected::At(created), Change::Delete).await.expect("nobody else is there").revision;
    line.renew();
    let done = creating.await.expect("the task completes").expect("it was done");
    assert_eq!(done.revision, created);
    let (found, _) = store.get("a").await.expect("readable");
    assert_eq!(found, None);
    assert_eq!(follow(&other, created, other.newest().await.expect("readable")).await.last().map(|event| event.revision), Some(deleted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_arrives_after_it_was_sent_again_does_nothing() {
    let cluster = Cluster::start(1);
    let (line, other) = (Line::to(&cluster).await, open(&cluster).await);
    let store = Arc::new(line.open_store().await);
    line.be(Mode::Late);
    let text = "x".repeat(1000);
    let (creator, change) = (Arc::clone(&store), Change::Put(Draft::new(text, 0)));
    let creating = tokio::spawn(async move { creator.commit("a", Expected::Absent, change).await });
    until("the first attempt", || line.late.kept.load(Ordering::SeqCst) > 1000).await;
    line.renew();
    let created = creating.await.expect("the task completes").expect("the second attempt gets through").revision;
    let deleted = other.commit("a", Expected::At(created), Change::Delete).await.expect("nobody else is there").revision;
    line.late.let_go.add_permits(10);
    until("the first attempt", || line.late.delivered.load(Ordering::SeqCst) > 1000).await;
    let (found, newest) = other.get("a").await.expect("readable");
    assert_eq!((found, newest), (None, deleted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_may_have_been_missed_is_not_told_as_a_conflict() {
    let cluster = Cluster::start(1);
    let (line, other) = (Line::to(&cluster).await, open(&cluster).await);
    let store = Arc::new(line.open_store().await);
    let first = store.commit("a", Expected::Absent, put(1)).await.expect("nothing is there").revision;
    other.newest().await.expect("readable");
    let mut watch = other.watch("", first).expect("the present is not compacted");
    line.be(Mode::Mute);
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move { writer.commit("a", Expected::At(first), put(2)).await });
    let mut last = loop {
        if let WatchMessage::Event(event) = watch.next().await.expect("the watch goes on") {
            break event.revision;
        }
    };
    for number in 3..6 {
        last = other.commit("a", Expected::At(last), put(number)).await.expect("it is as expected").revision;
    }
    other.compact(last).await.expect("the revision is known");
    line.renew();
    let outcome = writing.await.expect("the task completes");
    assert!(matches!(outcome, Err(CommitError::Uncertain(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_documents_may_take_their_time_over_a_slow_line() {
    let cluster = Cluster::start(1);
    let (line, other) = (Line::to(&cluster).await, open(&cluster).await);
    let large = || Change::Put(Draft::new("x".repeat(MAX_DOCUMENT - 100), 0));
    other.commit("a", Expected::Absent, large()).await.expect("nothing is there");
    let second = other.commit("b", Expected::Absent, large()).await.expect("nothing is there");
    // So that both are read at once, and not told one after the other.
    other.compact(second.revision).await.expect("the revision is known");
    line.be(Mode::Slow);
    let store = line.open_store().await;
    assert_eq!(store.range(Range::default()).await.expect("readable").entries.len(), 2);
    // And so that a watch does not seem to stand still while it tells of one.
    let third = other.commit("c", Expected::Absent, large()).await.expect("nothing is there");
    assert_eq!(store.get("c").await.expect("readable").0.map(|entry| entry.revision), Some(third.revision));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_are_let_go_when_etcd_has_gone_back_though_nobody_asks_anything() {
    let (_cluster, _store, mut watch) = gone_back().await;
    let ended = async {
        loop {
            match watch.next().await {
                Ok(WatchMessage::Progress(_)) => {}
                Ok(WatchMessage::Event(event)) => panic!("{event:?} did not happen"),
                Err(error) => break error,
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("no hang");
    assert!(matches!(ended, WatchError::Closed), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_notices_that_etcd_has_gone_back() {
    let (cluster, store, _watch) = gone_back().await;
    // Founds a store: the next commit has the number that one of the others had.
    let _other = open(&cluster).await;
    let outcome = store.commit("k/9", Expected::Absent, put(9)).await;
    // Whichever is first to notice: the commit, or the watch.
    assert!(matches!(outcome, Err(CommitError::Uncertain(_) | CommitError::Unavailable(_))), "{outcome:?}");
    let refused = store.get("k/0").await.expect_err("refused").to_string();
    assert!(refused.contains("gone back"), "{refused}");
}

/// Waits for something that comes, a hang excepted.
async fn until(what: &str, comes: impl Fn() -> bool) {
    let waited = async {
        while !comes() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap_or_else(|_| panic!("{what} does not come"));
}
