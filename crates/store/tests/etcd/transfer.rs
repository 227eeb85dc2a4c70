//! A store's content goes to etcd and back.

use etcd_fixture::Cluster;
use store::embedded::{self, Embedded};
use store::etcd::{Address, Etcd, OpenError, import};
use store::transfer::Snapshot;
use store::{Change, Draft, Expected, Revision, Store};

use super::options;

const ENTRIES: usize = 350;

async fn fill(store: &dyn Store) {
    for number in 0..ENTRIES {
        let text = format!("{number} {} @", "x".repeat(number * 37 % 5000));
        let gap = text.len();
        let draft = Change::Put(Draft::new(text, gap));
        let key = format!("/{}/{}", ["pods", "configmaps"][number % 2], number * 7 % 300);
        let expected = store.get(&key).await.expect("readable").0.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        store.commit(&key, expected, draft).await.expect("it is as expected");
    }
}

fn embedded(dir: &std::path::Path) -> Embedded {
    Embedded::open(dir, embedded::Options::default()).expect("the store opens")
}

fn address(cluster: &Cluster, prefix: &str) -> Address {
    cluster.address(prefix).parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_goes_to_etcd_and_back_with_its_revisions() {
    let (folder, cluster) = (tempfile::tempdir().expect("a folder"), Cluster::start(1));
    let source = embedded(&folder.path().join("source"));
    fill(&source).await;
    let there = Snapshot::of(&source).await.expect("readable");
    let address = address(&cluster, "there");
    let mut told = Vec::new();
    let imported = import(&address, &there, &mut |written| told.push(written)).await.expect("the place is empty");
    let early = Etcd::open(&address, options()).await.err();
    assert!(matches!(early, Some(OpenError::Incomplete { .. })), "{early:?}");
    imported.complete().await.expect("nobody else is there");
    assert!(told.is_sorted() && told.last() == Some(&there.entries.len()), "{told:?}");

    let etcd = Etcd::open(&address, options()).await.expect("the store opens");
    let read = Snapshot::of(&etcd).await.expect("readable");
    assert_eq!((read.revision, &read.entries, read.digest()), (there.revision, &there.entries, there.digest()));
    // What came keeps its revision until it is written; the counter goes on.
    let first = &there.entries[0];
    let next = etcd.commit(&first.key, Expected::At(first.revision), Change::Delete).await.expect("nobody changed it");
    assert!(next.revision > there.revision);
    let again = etcd.commit(&first.key, Expected::At(first.revision), Change::Delete).await;
    assert!(again.is_err());
    fill(&etcd).await;

    let back = Snapshot::of(&etcd).await.expect("readable");
    let dir = folder.path().join("back");
    let imported = embedded::import(&dir, &back).expect("the place is empty");
    assert!(!dir.exists(), "it is a store already");
    imported.complete().expect("nobody else is there");
    let target = embedded(&dir);
    let read = Snapshot::of(&target).await.expect("readable");
    assert_eq!((read.revision, &read.entries), (back.revision, &back.entries));
    let first = &back.entries[0];
    let next = target.commit(&first.key, Expected::At(first.revision), Change::Delete).await.expect("nobody changed it");
    assert_eq!(next.revision, Revision(back.revision.0 + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_holds_something_is_refused_and_a_broken_off_migration_can_be_run_again() {
    let (folder, cluster) = (tempfile::tempdir().expect("a folder"), Cluster::start(1));
    let source = embedded(&folder.path().join("source"));
    fill(&source).await;
    let snapshot = Snapshot::of(&source).await.expect("readable");

    let broken = address(&cluster, "broken");
    let task = tokio::spawn(async move {
        // The migration is dropped in the middle.
        let address: Address = broken.clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let mut stop = Some(stop);
        let mut tell = |_| drop(stop.take());
        tokio::select! {
            biased;
            _ = stopped => {}
            outcome = import(&address, &snapshot, &mut tell) => panic!("it ended first: {:?}", outcome.err()),
        }
        let refused = Etcd::open(&address, options()).await.err();
        assert!(matches!(refused, Some(OpenError::Incomplete { .. })), "{refused:?}");
        import(&address, &snapshot, &mut |_| {}).await.expect("it can be run again").complete().await.expect("nobody else is there");
        let again = import(&address, &snapshot, &mut |_| {}).await.err();
        assert!(matches!(again, Some(OpenError::NotEmpty { .. })), "{again:?}");
        (address, snapshot)
    });
    let (address, snapshot) = task.await.expect("the task completes");
    let etcd = Etcd::open(&address, options()).await.expect("the store opens");
    assert_eq!(Snapshot::of(&etcd).await.expect("readable").digest(), snapshot.digest());

    let refused = embedded::import(&folder.path().join("source"), &snapshot);
    assert!(matches!(refused, Err(embedded::OpenError::NotEmpty(_))), "{refused:?}");
}
