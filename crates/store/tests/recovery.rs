//! What the embedded store does with the files it finds.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use store::embedded::{Embedded, OpenError, Options};
use store::{Change, Draft, Expected, FIRST_REVISION, Memory, Range, Revision, Store, WatchError};
use tempfile::TempDir;

/// Held while a program is started: until it runs, it has copies of this process's files, and so of the locks on them.
static STARTING: RwLock<()> = RwLock::new(());

fn open(dir: &Path) -> Result<Embedded, OpenError> {
    let _nobody_starts = STARTING.read().unwrap();
    Embedded::open(dir, Options::default())
}

fn draft(text: &str) -> Change {
    Change::Put(Draft::new(format!("{text}@"), text.len() + 1))
}

async fn create(store: &Embedded, key: &str, text: &str) -> Revision {
    store.commit(key, Expected::Absent, draft(text)).await.expect("the key is absent").revision
}

async fn delete(store: &Embedded, key: &str, at: Revision) -> Revision {
    store.commit(key, Expected::At(at), Change::Delete).await.expect("the key is at the revision").revision
}

/// Everything, as text.
async fn contents(store: &Embedded) -> (Revision, Vec<String>) {
    let page = store.range(Range::default()).await.expect("the newest state is readable");
    let entries = page.entries.iter().map(|entry| format!("{}={}", entry.key, String::from_utf8_lossy(entry.document.json())));
    (page.revision, entries.collect())
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name != "lock").collect();
    names.sort();
    names
}

/// A directory whose log holds some commits, one frame each, and what the store held before the last and after it.
struct Written {
    dir: TempDir,
    log: PathBuf,
    before: (Revision, Vec<String>),
    after: (Revision, Vec<String>),
    /// Where each frame begins, and the end of the last.
    frames: Vec<usize>,
}

async fn written() -> Written {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join(format!("log-{:020}", FIRST_REVISION.0));
    let store = open(dir.path()).unwrap();
    let used = || fs::read(&log).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut frames = vec![used()];
    let first = create(&store, "a", "first").await;
    frames.push(used());
    create(&store, "b", "second").await;
    frames.push(used());
    delete(&store, "a", first).await;
    frames.push(used());
    let before = contents(&store).await;
    create(&store, "c", &"third ".repeat(10)).await;
    frames.push(used());
    let after = contents(&store).await;
    drop(store);
    // Little of the zeros ahead is kept: the tests open hundreds of copies.
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(frames[4] as u64 + 64).unwrap();
    Written { dir, log, before, after, frames }
}

impl Written {
    /// Opens a copy of the directory whose log is this.
    fn reopen(&self, log: &[u8]) -> (TempDir, Result<Embedded, OpenError>) {
        let copy = tempfile::tempdir_in(self.dir.path()).unwrap();
        fs::write(copy.path().join(self.log.file_name().unwrap()), log).unwrap();
        let store = open(copy.path());
        (copy, store)
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_the_revision_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let first = create(&store, "a", "one").await;
    create(&store, "b", "two").await;
    let last = delete(&store, "a", first).await;
    let held = contents(&store).await;
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(contents(&store).await, held);
    assert_eq!(create(&store, "c", "three").await, Revision(last.0 + 1));
}

#[tokio::test]
async fn a_watch_resumes_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let first = create(&store, "a", "one").await;
    let second = create(&store, "b", "two").await;
    let mut ended = store.watch("", second).unwrap();
    drop(store);
    assert!(matches!(ended.next().await, Ok(store::WatchMessage::Progress(_))));
    assert!(matches!(ended.next().await, Err(WatchError::Closed)));
    let store = open(dir.path()).unwrap();
    let mut watch = store.watch("", first).unwrap();
    match watch.next().await {
        Ok(store::WatchMessage::Event(event)) => assert_eq!((event.revision, &*event.key), (second, "b")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_directory_is_private_and_belongs_to_one_store() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("made/here");
    let store = open(&dir).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let refused = open(&dir).err().expect("the store is in use");
    assert!(matches!(refused, OpenError::Locked(_)), "{refused}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    drop(store);
    open(&dir).unwrap();
}

#[tokio::test]
async fn a_last_write_torn_at_any_byte_is_cut_off_and_nothing_else_is_lost() {
    let written = written().await;
    let log = fs::read(&written.log).unwrap();
    let (begin, end) = (written.frames[written.frames.len() - 2], written.frames[written.frames.len() - 1]);
    for torn in begin..=end {
        let mut zeroed = log.clone();
        zeroed[torn..].fill(0);
        for log in [&log[..torn], &zeroed] {
            let (copy, store) = written.reopen(log);
            let store = store.unwrap_or_else(|error| panic!("torn at {torn}: {error}"));
            let wanted = if torn == end { &written.after } else { &written.before };
            assert_eq!(&contents(&store).await, wanted, "torn at {torn}");
            let next = create(&store, "d", "after the crash").await;
            assert_eq!(next.0, wanted.0.0 + 1);
            let held = contents(&store).await;
            drop(store);
            assert_eq!(contents(&open(copy.path()).unwrap()).await, held, "torn at {torn}, opened again");
        }
    }
}

#[tokio::test]
async fn a_last_write_that_reached_the_disk_in_part_is_cut_off() {
    let written = written().await;
    let log = fs::read(&written.log).unwrap();
    let (begin, end) = (written.frames[written.frames.len() - 2], written.frames[written.frames.len() - 1]);
    for hole in (begin..end - 16).step_by(7) {
        let mut log = log.clone();
        log[hole..hole + 16].fill(0);
        let (_copy, store) = written.reopen(&log);
        assert_eq!(contents(&store.unwrap()).await, written.before, "16 bytes at {hole} are missing");
    }
}

#[tokio::test]
async fn damage_before_the_last_write_is_never_taken_for_a_crash() {
    let written = written().await;
    let log = fs::read(&written.log).unwrap();
    for damaged in 0..written.frames[written.frames.len() - 2] {
        let mut log = log.clone();
        log[damaged] ^= 0x10;
        let (_copy, store) = written.reopen(&log);
        match store {
            Err(OpenError::Corrupt { .. }) => {}
            Err(error) => panic!("byte {damaged}: {error}"),
            Ok(_) => panic!("byte {damaged}: a damaged store was opened"),
        }
    }
}

#[tokio::test]
async fn documents_that_look_like_frames_do_not_confuse_recovery() {
    let written = written().await;
    let log = fs::read(&written.log).unwrap();
    let frame = log[written.frames[0]..written.frames[1]].to_vec();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let held = contents(&store).await;
    store.commit("evil", Expected::Absent, Change::Put(Draft::new(frame.repeat(5), 0))).await.unwrap();
    drop(store);
    let path = dir.path().join(written.log.file_name().unwrap());
    let mut log = fs::read(&path).unwrap();
    log[written.frames[0]] ^= 1;
    fs::write(&path, log).unwrap();
    assert_eq!(contents(&open(dir.path()).unwrap()).await, held);
}

#[tokio::test]
async fn a_store_killed_while_it_was_created_opens() {
    for leftovers in [&[][..], &["lock"], &["lock", "log-00000000000000000001.new"]] {
        let dir = tempfile::tempdir().unwrap();
        for name in leftovers {
            fs::write(dir.path().join(name), b"Sfst").unwrap();
        }
        let store = open(dir.path()).unwrap();
        create(&store, "a", "one").await;
        drop(store);
        assert_eq!(files(dir.path()), ["log-00000000000000000001"]);
    }
}

/// A store whose log is replaced by checkpoints all the time.
fn open_small(dir: &Path) -> Embedded {
    let options = Options { checkpoint_bytes: 4096, memory: Memory { history_events: 50, ..Memory::default() } };
    Embedded::open(dir, options).expect("the store opens")
}

async fn checkpointed(dir: &Path) -> Embedded {
    let store = open_small(dir);
    for number in 0..400 {
        let key = format!("key-{}", number % 10);
        let (found, _) = store.get(&key).await.unwrap();
        let expected = found.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        store.commit(&key, expected, draft(&format!("{number} {}", "x".repeat(100)))).await.unwrap();
    }
    let (found, _) = store.get("key-3").await.unwrap();
    delete(&store, "key-3", found.unwrap().revision).await;
    store
}

fn newest(dir: &Path, prefix: &str) -> PathBuf {
    dir.join(files(dir).into_iter().rfind(|name| name.starts_with(prefix)).expect("there is such a file"))
}

#[tokio::test]
async fn checkpoints_bound_the_disk_use_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = checkpointed(dir.path()).await;
    let held = contents(&store).await;
    drop(store);
    assert!(files(dir.path()).len() <= 4, "{:?}", files(dir.path()));
    let store = open_small(dir.path());
    assert_eq!(contents(&store).await, held);
    assert_eq!(held.0, Revision(FIRST_REVISION.0 + 401));
    drop(store);
    assert!(files(dir.path()).iter().any(|name| name.starts_with("checkpoint-")), "{:?}", files(dir.path()));
}

#[tokio::test]
async fn the_revision_survives_when_the_last_commits_were_deletes_and_all_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_small(dir.path());
    let mut last = FIRST_REVISION;
    for _ in 0..100 {
        let created = create(&store, "only", &"x".repeat(100)).await;
        last = delete(&store, "only", created).await;
    }
    store.compact(last).await.unwrap();
    drop(store);
    let store = open_small(dir.path());
    assert_eq!(contents(&store).await, (last, vec![]));
    assert_eq!(create(&store, "only", "again").await, Revision(last.0 + 1));
}

#[tokio::test]
async fn a_missing_or_damaged_file_is_refused_and_never_skipped() {
    let dir = tempfile::tempdir().unwrap();
    drop(checkpointed(dir.path()).await);
    let checkpoint = newest(dir.path(), "checkpoint-");
    let log = newest(dir.path(), "log-");

    let whole = fs::read(&checkpoint).unwrap();
    for damaged in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 1;
        fs::write(&checkpoint, bytes).unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::Corrupt { .. })), "byte {damaged} of the checkpoint");
    }
    fs::write(&checkpoint, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Corrupt { .. })));
    fs::write(&checkpoint, &whole).unwrap();

    let away = dir.path().join("away");
    fs::rename(&log, &away).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Missing { .. })));
    fs::rename(&away, &log).unwrap();
    fs::remove_file(&checkpoint).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Missing { .. })));
}

#[tokio::test]
async fn history_is_bounded_by_count_and_by_memory() {
    for memory in
        [Memory { history_events: 10, ..Memory::default() }, Memory { history_bytes: 10 * (256 + 5 + 2 * 108), ..Memory::default() }]
    {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path(), Options { memory, ..Options::default() }).unwrap();
        for number in 0..40 {
            create(&store, &format!("{number:05}"), &"x".repeat(100)).await;
        }
        let newest = store.revision();
        assert!(store.watch("", Revision(newest.0 - 9)).is_ok());
        assert!(matches!(store.watch("", Revision(newest.0 - 20)), Err(WatchError::Compacted { .. })));
    }
}

#[tokio::test]
async fn a_full_disk_refuses_commits_and_harms_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path().join("store");
    let store = open(&dir).unwrap();
    let big = "x".repeat(600_000);
    let mut held = contents(&store).await;
    let refusal = loop {
        match store.commit(&format!("key-{}", held.0), Expected::Absent, draft(&big)).await {
            Ok(_) => held = contents(&store).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, store::CommitError::Unavailable(_)), "{refusal}");
    assert_eq!(contents(&store).await, held);
    disk.remount(64);
    let next = create(&store, "fits", "now").await;
    assert_eq!(next.0, held.0.0 + 1);
    let held = contents(&store).await;
    drop(store);
    assert_eq!(contents(&open(&dir).unwrap()).await, held);
}

/// Processes belong to who runs them.
fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

/// A file system of a few MiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let _starting = STARTING.write().unwrap();
        let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "store-test"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            failed => {
                assert!(!is_root(), "root can mount a small file system: {failed:?}");
                eprintln!("skipped: mounting a small file system needs root");
                None
            }
        }
    }

    fn remount(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let _starting = STARTING.write().unwrap();
        let done = std::process::Command::new("mount").args(["-o", &size]).arg(self.0.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _starting = STARTING.write().unwrap();
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}
