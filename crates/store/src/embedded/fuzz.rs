//! What the crate `fuzz` asks of the embedded store: recovery from whatever bytes are on disk. Nothing else uses this module.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::{self, Incomplete, Kind};
use super::frame::Draft as Frame;
use super::log::apply;
use super::record;
use super::recovery::{Recovered, recover};
use super::{OpenError, Options};
use crate::memory::State;
use crate::{Draft, FIRST_REVISION, Revision};

/// How far an edit can reach.
const REACH: usize = 1024;

/// The content of a frame that reads back as it was written, as far as its sums say: whatever it is, it is a commit or refused.
pub fn frame(payload: &[u8]) {
    let mut state = State::at(FIRST_REVISION);
    if apply(FIRST_REVISION.0 + 1, payload, &mut state).is_ok() {
        let written: u64 = state.entries().values().map(|entry| (entry.key.len() + entry.document.json().len()) as u64).sum();
        assert_eq!(state.live_bytes(), written);
        assert!(written <= payload.len() as u64 + state.len() as u64 * 20, "{written} bytes of {}", payload.len());
    }
}

/// A log of a few commits in which bytes were changed, and whose end was cut or grew. An edit is three bytes for a place, one for
/// a length and so many bytes; the first two bytes of the input move the end. What recovers is a state that was committed, and
/// once more the same; or else it is refused.
pub fn recovery(input: &[u8]) {
    let dir = folder();
    let log = file::path(&dir, Kind::Log, FIRST_REVISION);
    let (mut bytes, states) = written(&dir);
    let (end, mut edits) = input.split_at_checked(2).unwrap_or((&[0, 0], &[]));
    while let Some(([place @ .., length], rest)) = edits.split_first_chunk::<4>() {
        let place = place.iter().fold(0, |place, byte| place << 8 | usize::from(*byte)) % REACH;
        let (content, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let reached = place..place + content.len();
        bytes.resize(bytes.len().max(reached.end), 0);
        bytes[reached].copy_from_slice(content);
        edits = rest;
    }
    bytes.resize(moved(bytes.len(), end), 0);
    fs::write(&log, bytes).expect("a log is written");
    let once = open(&dir);
    if let Some(found) = &once {
        assert!(states.contains(found), "recovered what was never committed: {found:?}");
        assert_eq!(open(&dir).as_ref(), Some(found), "recovered something else the second time");
    }
    fs::remove_dir_all(&dir).expect("the directory is removed");
}

fn moved(length: usize, by: &[u8]) -> usize {
    match by {
        [0, 0] => length,
        [high, low] if high % 2 == 0 => length.saturating_sub(usize::from(*high) << 7 | usize::from(*low)),
        [high, low] => length + (usize::from(*high) << 7 | usize::from(*low)),
        _ => length,
    }
}

fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let dir = base.join(format!("steadfast-fuzz-store-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory for the log");
    dir
}

/// What is there, by key, at a revision.
type Content = (Revision, Vec<(String, Vec<u8>)>);

fn content(state: &State) -> Content {
    let entry = |entry: &std::sync::Arc<crate::Entry>| (entry.key.to_string(), entry.document.json().to_vec());
    (state.revision(), state.entries().values().map(entry).collect())
}

fn open(dir: &Path) -> Option<Content> {
    match recover(dir, &Options::default()) {
        Ok(Recovered { state, .. }) => Some(content(&state)),
        Err(OpenError::Corrupt { .. } | OpenError::Missing { .. }) => None,
        Err(error @ (OpenError::Io { .. } | OpenError::Locked(_) | OpenError::NotEmpty(_) | OpenError::Differs(_))) => panic!("{error}"),
    }
}

/// A log with a commit in each frame, and the states that it has gone through.
fn written(dir: &Path) -> (Vec<u8>, Vec<Content>) {
    const COMMITS: Range<usize> = 0..5;
    let incomplete = Incomplete::create(dir, Kind::Log, FIRST_REVISION).expect("a log is created");
    let seed = incomplete.seed;
    let (_, path) = incomplete.complete().expect("the log gets its name");
    let mut bytes = fs::read(path).expect("the log is read");
    let mut state = State::at(FIRST_REVISION);
    let mut states = vec![content(&state)];
    for number in COMMITS {
        let key = ["/a", "/b"][number % 2];
        let text = format!("{{\"n\":{number},\"v\":\"@\"}}");
        let document = (number != 3).then(|| Draft::new(text.clone(), text.len() - 2).at(state.next_revision()));
        let mut frame = Frame::new();
        record::encode_commit(frame.payload(), key, document.as_ref());
        bytes.extend_from_slice(frame.seal(state.next_revision().0, seed));
        let revision = state.next_revision();
        state.apply(key, revision, document, None);
        states.push(content(&state));
    }
    (bytes, states)
}
