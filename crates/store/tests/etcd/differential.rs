//! Random operations give the same answers here as in the embedded store.

use std::sync::Arc;

use etcd_fixture::Cluster;
use store::embedded::{self, Embedded};
use store::etcd::{Etcd, import};
use store::transfer::Snapshot;
use store::{Change, Commit, CommitError, Draft, Event, Expected, Guard, Range, ReadError, Revision, Store, WatchError, WatchMessage};

use super::options;

const OPERATIONS: u64 = 1500;

/// A small generator of reproducible numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn key(&mut self) -> String {
        format!("{}/{}", ["a", "b", "b/c"][self.roll(3) as usize], self.roll(6))
    }

    /// A revision, mostly one that there is.
    fn revision(&mut self, newest: Revision) -> Revision {
        Revision((newest.0 + 2).saturating_sub(self.roll(60)))
    }
}

#[derive(Debug)]
enum Operation {
    Get(String),
    Commit(String, Expected, Option<u64>, Vec<Guard>),
    Range { prefix: &'static str, after: Option<String>, at: Option<Revision>, limit: Option<usize> },
    Watch(&'static str, Revision),
    Compact(Revision),
}

async fn choose(dice: &mut Dice, model: &dyn Store) -> Operation {
    const PREFIXES: [&str; 4] = ["", "a/", "b/", "b/c"];
    let newest = model.revision();
    match dice.roll(20) {
        0..10 => {
            let key = dice.key();
            let there = model.get(&key).await.expect("readable").0.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
            let expected = match dice.roll(6) {
                0 => Expected::Absent,
                1 => Expected::At(dice.revision(newest)),
                _ => there,
            };
            let number = (dice.roll(3) > 0).then(|| dice.roll(1000));
            let guards = if dice.roll(4) == 0 { vec![Guard::new("g", "", dice.revision(newest))] } else { Vec::new() };
            Operation::Commit(key, expected, number, guards)
        }
        10..13 => Operation::Get(dice.key()),
        13..17 => Operation::Range {
            prefix: PREFIXES[dice.roll(4) as usize],
            after: (dice.roll(3) == 0).then(|| dice.key()),
            at: (dice.roll(2) == 0).then(|| dice.revision(newest)),
            limit: (dice.roll(2) == 0).then(|| dice.roll(8) as usize),
        },
        17..19 => Operation::Watch(PREFIXES[dice.roll(4) as usize], dice.revision(newest)),
        _ => Operation::Compact(Revision(dice.revision(newest).0.saturating_sub(30))),
    }
}

fn told(event: &Event) -> String {
    format!("{} {} {:?} {:?}", event.revision, event.key, event.document, event.previous)
}

fn told_of_read<T: std::fmt::Debug>(outcome: Result<T, ReadError>) -> String {
    format!("{outcome:?}")
}

/// What a store answers, all of it.
async fn answer(store: &dyn Store, operation: &Operation) -> String {
    match operation {
        Operation::Get(key) => told_of_read(store.get(key).await),
        Operation::Commit(key, expected, number, guards) => {
            let change = number.map_or(Change::Delete, |number| Change::Put(Draft::new(format!("{number} at "), number.to_string().len())));
            match store.commit_guarded(Commit { key, expected: *expected, change, guards }).await {
                Ok(event) => told(&event),
                Err(error @ (CommitError::Conflict(_) | CommitError::Overtaken)) => format!("{error:?}"),
                Err(error) => panic!("{operation:?}: {error}"),
            }
        }
        Operation::Range { prefix, after, at, limit } => {
            told_of_read(store.range(Range { prefix, after: after.as_deref(), at: *at, limit: *limit }).await)
        }
        Operation::Watch(prefix, after) => watched(store, prefix, *after).await,
        Operation::Compact(before) => told_of_read(store.compact(*before).await),
    }
}

/// What a watch tells up to now; nothing of one that waits for the future.
async fn watched(store: &dyn Store, prefix: &str, after: Revision) -> String {
    let mut watch = match store.watch(prefix, after) {
        Ok(watch) => watch,
        Err(error @ WatchError::Compacted { .. }) => return format!("{error:?}"),
        Err(error) => panic!("{error}"),
    };
    let mut all = String::new();
    while after <= store.revision() {
        match watch.next().await.expect("the watch goes on") {
            WatchMessage::Event(event) => all += &told(&event),
            WatchMessage::Progress(revision) => return format!("{all} until {revision}"),
        }
    }
    all
}

/// Both stores with the same content, which neither has from its own beginning.
async fn pair(folder: &std::path::Path, cluster: &Cluster) -> (Arc<dyn Store>, Arc<dyn Store>) {
    let model = Embedded::open(folder, embedded::Options::default()).expect("the store opens");
    let mut dice = Dice(7);
    for number in 0..60 {
        let operation = Operation::Commit(dice.key(), Expected::Absent, Some(number), Vec::new());
        answer(&model, &operation).await;
    }
    let address = cluster.address("same").parse().expect("an address");
    let snapshot = Snapshot::of(&model).await.expect("readable");
    model.compact(snapshot.revision).await.expect("the newest is known");
    import(&address, &snapshot, &mut |_| {}).await.expect("the place is empty").complete().await.expect("nobody else is there");
    (Arc::new(model), Arc::new(Etcd::open(&address, options()).await.expect("the store opens")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_give_the_same_answers_as_the_embedded_store() {
    let (folder, cluster) = (tempfile::tempdir().expect("a folder"), Cluster::start(1));
    let (model, store) = pair(folder.path(), &cluster).await;
    let mut dice = Dice(0x5EED);
    for number in 0..OPERATIONS {
        let operation = choose(&mut dice, &*model).await;
        let (wanted, found) = (answer(&*model, &operation).await, answer(&*store, &operation).await);
        assert_eq!(found, wanted, "operation {number}: {operation:?}");
        assert_eq!(store.revision(), model.revision(), "operation {number}: {operation:?}");
    }
}
