//! Random concurrent use, judged by a model afterwards.
//!
//! What the commits returned is the truth: every revision once, and each event's "before" is what the model holds. Every watcher must
//! have received exactly the truth after its beginning and below its prefix: in order, once each, nothing left out, also across
//! interruptions and with progress that never runs ahead. Every page read must be the model's state at its revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PATIENCE, numbered};
use crate::{Change, CommitError, Document, Event, Expected, Page, Range, ReadError, Revision, Store, WatchError, WatchMessage};

const WRITERS: u64 = 6;
const COMMITS: u64 = 60;
const WATCHERS: u64 = 6;
const READERS: u64 = 3;
const PREFIXES: [&str; 4] = ["", "a/", "b/", "b/1"];

/// A small generator of reproducible numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// What a watcher was told.
struct Told {
    prefix: &'static str,
    after: Revision,
    events: Vec<Arc<Event>>,
    until: Revision,
}

pub async fn random_concurrent_use_is_consistent(store: Arc<dyn Store>) {
    let begin = store.revision();
    let (stop, stopped) = tokio::sync::watch::channel(None);
    let writers: Vec<_> = (0..WRITERS).map(|seed| tokio::spawn(write(Arc::clone(&store), seed))).collect();
    let watchers: Vec<_> = (0..WATCHERS).map(|seed| tokio::spawn(watch(Arc::clone(&store), begin, 100 + seed, stopped.clone()))).collect();
    let readers: Vec<_> = (0..READERS).map(|seed| tokio::spawn(read(Arc::clone(&store), begin, 200 + seed))).collect();

    let mut truth = Vec::new();
    for writer in writers {
        truth.extend(writer.await.expect("the writer completes"));
    }
    truth.sort_by_key(|event| event.revision);
    stop.send(Some(store.revision())).expect("the watchers listen");

    let states = judge_commits(&truth, begin, store.revision());
    for watcher in watchers {
        judge_watcher(&watcher.await.expect("the watcher completes"), &truth);
    }
    for reader in readers {
        for (prefix, page) in reader.await.expect("the reader completes") {
            judge_page(prefix, &page, &states);
        }
    }
}

async fn write(store: Arc<dyn Store>, seed: u64) -> Vec<Arc<Event>> {
    let mut dice = Dice(seed);
    let mut events = Vec::new();
    for number in 0..COMMITS {
        let key = format!("{}/{}", ["a", "b"][dice.roll(2) as usize], dice.roll(3));
        let (found, _) = store.get(&key).await.expect("a get of the newest revision is possible");
        let stale = dice.roll(5) == 0;
        let expected = match found {
            Some(entry) if stale => Expected::At(Revision(entry.revision.0 - 1)),
            Some(entry) => Expected::At(entry.revision),
            None => Expected::Absent,
        };
        let change =
            if expected != Expected::Absent && dice.roll(3) == 0 { Change::Delete } else { Change::Put(numbered(seed * COMMITS + number)) };
        match store.commit(&key, expected, change).await {
            Ok(event) => events.push(event),
            Err(CommitError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    events
}

async fn watch(store: Arc<dyn Store>, begin: Revision, seed: u64, mut stop: tokio::sync::watch::Receiver<Option<Revision>>) -> Told {
    let mut dice = Dice(seed);
    let prefix = PREFIXES[dice.roll(PREFIXES.len() as u64) as usize];
    let after = Revision(begin.0 + dice.roll(store.revision().0 - begin.0 + 1));
    let mut told = Told { prefix, after, events: Vec::new(), until: after };
    loop {
        let mut watch = store.watch(prefix, told.until).expect("nothing is compacted");
        for _ in 0..=dice.roll(30) {
            if stop.borrow_and_update().is_some_and(|last| told.until >= last) {
                return told;
            }
            // The last progress may already have been told when the writers stop.
            let message = tokio::select! {
                message = tokio::time::timeout(PATIENCE, watch.next()) => message.expect("the watch has something to tell"),
                _ = stop.changed(), if stop.borrow().is_none() => continue,
            };
            match message {
                Ok(WatchMessage::Event(event)) => {
                    assert!(event.revision > told.until, "the watch goes back");
                    told.until = event.revision;
                    told.events.push(event);
                }
                Ok(WatchMessage::Progress(revision)) => {
                    assert!(revision >= told.until, "progress goes back");
                    told.until = revision;
                }
                Err(WatchError::TooSlow { seen }) => {
                    assert_eq!(seen, told.until);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn read(store: Arc<dyn Store>, begin: Revision, seed: u64) -> Vec<(&'static str, Page)> {
    let mut dice = Dice(seed);
    let mut pages = Vec::new();
    for _ in 0..100 {
        let prefix = PREFIXES[dice.roll(PREFIXES.len() as u64) as usize];
        let past = Revision(begin.0 + dice.roll(store.revision().0 - begin.0 + 1));
        let at = (dice.roll(2) == 0).then_some(past);
        match store.range(Range { prefix, at, ..Range::default() }).await {
            Ok(page) => pages.push((prefix, page)),
            Err(error @ (ReadError::Compacted { .. } | ReadError::Future { .. } | ReadError::Unavailable(_))) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
    pages
}

type Model = BTreeMap<String, Document>;

/// Judges the commits, and gives the state after each of them.
fn judge_commits(truth: &[Arc<Event>], begin: Revision, end: Revision) -> BTreeMap<Revision, Model> {
    let mut model = Model::new();
    let mut states = BTreeMap::from([(begin, model.clone())]);
    for (event, revision) in truth.iter().zip(begin.0 + 1..) {
        assert_eq!(event.revision, Revision(revision), "a revision was given twice or never");
        let before = match &event.document {
            Some(document) => {
                assert_eq!(document.revision(), event.revision);
                model.insert(event.key.to_string(), document.clone())
            }
            None => model.remove(&*event.key),
        };
        assert_eq!(event.previous, before, "what was before revision {revision}");
        states.insert(event.revision, model.clone());
    }
    assert_eq!(states.last_key_value().map(|(revision, _)| *revision), Some(end));
    states
}

fn judge_watcher(told: &Told, truth: &[Arc<Event>]) {
    let wanted =
        truth.iter().filter(|event| event.revision > told.after && event.revision <= told.until && event.key.starts_with(told.prefix));
    let wanted: Vec<_> = wanted.map(|event| facts(event)).collect();
    let received: Vec<_> = told.events.iter().map(|event| facts(event)).collect();
    assert_eq!(received, wanted, "watcher of {:?} after {}", told.prefix, told.after);
}

fn facts(event: &Event) -> (Revision, &str, Option<&Document>, Option<&Document>) {
    (event.revision, &event.key, event.document.as_ref(), event.previous.as_ref())
}

fn judge_page(prefix: &str, page: &Page, states: &BTreeMap<Revision, Model>) {
    let state = &states[&page.revision];
    let wanted: Vec<_> = state.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, text)| (key.as_str(), text)).collect();
    let found: Vec<_> = page.entries.iter().map(|entry| (&*entry.key, &entry.document)).collect();
    assert_eq!(found, wanted, "range of {prefix:?} at {}", page.revision);
    assert!(page.entries.iter().all(|entry| entry.revision == entry.document.revision()));
}
