//! Killed at random instants, the store loses nothing that was acknowledged.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use store::embedded::{Embedded, Options};
use store::{Change, Draft, Expected, Revision, Store};

const ROUNDS: u64 = 25;
const WRITERS: u64 = 8;
const DIRECTORY: &str = "STORE_CRASH_TEST_DIRECTORY";

/// What the last acknowledgement for a key said: the commit and, unless it was a deletion, the number written.
type Acknowledged = HashMap<String, (Revision, Option<u64>)>;

fn open(dir: &Path) -> Embedded {
    // Checkpoints happen all the time, so that kills hit them too.
    Embedded::open(dir, Options { checkpoint_bytes: 64 << 10, ..Options::default() }).expect("the store opens after a kill")
}

/// The process that is killed: not a test of its own, it does nothing unless it is told where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let store = Arc::new(open(Path::new(&dir)));
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write_forever(Arc::clone(&store), writer))).collect();
    for writer in writers {
        writer.await.expect("the writer goes on until the kill");
    }
}

/// Creates, updates and deletes its own keys, and prints a line for each acknowledgement.
async fn write_forever(store: Arc<Embedded>, writer: u64) {
    for number in 0_u64.. {
        let key = format!("{writer}/{}", number % 5);
        let (found, _) = store.get(&key).await.expect("the newest state is readable");
        let expected = found.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        let deletes = number % 3 == 2 && expected != Expected::Absent;
        let text = format!("{number} {} @", "x".repeat((number % 7 * 100) as usize));
        let gap = text.len();
        let change = if deletes { Change::Delete } else { Change::Put(Draft::new(text, gap)) };
        let revision = store.commit(&key, expected, change).await.expect("nobody else writes this key").revision;
        let what = if deletes { "deleted".to_owned() } else { number.to_string() };
        let line = format!("ack {key} {revision} {what}\n");
        std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
    }
}

/// Runs the writers for some time, kills them, and gives what they acknowledged.
fn run_and_kill(dir: &Path, after: Duration, acknowledged: &mut Acknowledged) -> usize {
    let test = std::env::current_exe().expect("this test");
    let mut child = Command::new(test)
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test runs once more");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let reader = std::thread::spawn(move || {
        let (mut lines, mut line) = (Vec::new(), String::new());
        while output.read_line(&mut line).is_ok_and(|length| length > 0) {
            // A line without an end was cut by the kill: whether it was an acknowledgement nobody knows.
            lines.extend(line.ends_with('\n').then(|| line.clone()));
            line.clear();
        }
        lines
    });
    std::thread::sleep(after);
    child.kill().expect("the child runs until it is killed");
    child.wait().expect("the child ends");
    let lines = reader.join().expect("the reader ends with the pipe");
    lines.iter().filter_map(|line| acknowledgement(line)).map(|(key, what)| acknowledged.insert(key, what)).count()
}

fn acknowledgement(line: &str) -> Option<(String, (Revision, Option<u64>))> {
    let mut words = line.trim().strip_prefix("ack ")?.split(' ');
    let (key, revision, what) = (words.next()?, words.next()?, words.next()?);
    Some((key.to_owned(), (Revision(revision.parse().ok()?), what.parse().ok())))
}

#[tokio::test]
async fn a_killed_store_keeps_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut acknowledged = Acknowledged::new();
    let (mut newest, mut total) = (Revision(0), 0);
    for round in 0..ROUNDS {
        let after = Duration::from_micros(12_000 + round * 7_919 % 60_000);
        total += run_and_kill(dir.path(), after, &mut acknowledged);
        let store = open(dir.path());
        assert!(store.revision() >= newest, "round {round}: the revision went back");
        for (key, (revision, written)) in &acknowledged {
            assert!(store.revision() >= *revision, "round {round}: revision {revision} was acknowledged");
            judge(&store, key, *revision, *written).await;
        }
        newest = store.revision();
    }
    assert!(total > 100, "only {total} commits were acknowledged: the test proves nothing");
}

/// A key holds what was acknowledged last, or what one later commit, whose answer the kill prevented, made of it.
async fn judge(store: &Embedded, key: &str, acknowledged: Revision, written: Option<u64>) {
    let (entry, newest) = store.get(key).await.expect("the newest state is readable");
    let number = |text: &[u8]| String::from_utf8_lossy(text).split(' ').next().and_then(|word| word.parse::<u64>().ok());
    match (entry, written) {
        (Some(entry), Some(written)) if entry.revision == acknowledged => assert_eq!(number(entry.document.json()), Some(written)),
        (Some(entry), _) => assert!(entry.revision > acknowledged, "{key} is at {}, acknowledged {acknowledged}", entry.revision),
        (None, None) => {}
        (None, Some(_)) => assert!(newest > acknowledged, "{key} is gone and nothing happened after revision {acknowledged}"),
    }
}
