//! Checkpoints: the whole state at a revision, in a file that replaces the logs before it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imbl::OrdMap;

use super::OpenError;
use super::file::{self, Incomplete, Kind};
use super::frame::{Draft, Next, Reader};
use super::record::{self, Record, Records};
use crate::memory::State;
use crate::{Entry, Revision};

/// A frame is closed when it has this many bytes.
const FRAME: usize = 1 << 20;

/// Writes the checkpoint of a state, then removes the files that it replaces. Gives up without harm when told to stop.
pub(super) fn write(dir: &Path, entries: &OrdMap<Arc<str>, Arc<Entry>>, at: Revision, stop: &AtomicBool) -> io::Result<()> {
    let incomplete = Incomplete::create(dir, Kind::Checkpoint, at)?;
    let mut out = Out { file: BufWriter::new(&incomplete.file), seed: incomplete.seed, frames: 0, draft: Draft::new() };
    for entry in entries.values() {
        record::encode_entry(out.draft.payload(), entry);
        if out.draft.len() >= FRAME {
            out.close_frame()?;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    record::encode_end(out.draft.payload(), entries.len() as u64);
    out.close_frame()?;
    out.file.flush()?;
    drop(out);
    incomplete.complete()?;
    remove_replaced(dir, at)
}

struct Out<'a> {
    file: BufWriter<&'a File>,
    seed: u64,
    frames: u64,
    draft: Draft,
}

impl Out<'_> {
    fn close_frame(&mut self) -> io::Result<()> {
        self.file.write_all(self.draft.seal(self.frames, self.seed))?;
        self.frames += 1;
        self.draft.clear();
        Ok(())
    }
}

/// Removes all logs and checkpoints before the checkpoint at a revision.
pub(super) fn remove_replaced(dir: &Path, at: Revision) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().and_then(file::parse).is_some_and(|(_, base)| base < at) {
            super::log::remove(entry.path());
        }
    }
    Ok(())
}

/// Reads the state at a checkpoint.
pub(super) fn read(dir: &Path, at: Revision) -> Result<State, OpenError> {
    let path = file::path(dir, Kind::Checkpoint, at);
    let failed = |source| OpenError::Io { doing: "read", path: path.clone(), source };
    let corrupt = |offset, what| OpenError::Corrupt { file: path.clone(), offset, what };
    let mut file = File::open(&path).map_err(failed)?;
    let seed = file::read_header(&mut file, Kind::Checkpoint, at).map_err(failed)?.ok_or_else(|| corrupt(0, "it has no valid header"))?;
    let mut reader = Reader::new(file, seed, file::HEADER as u64);
    let mut state = State::at(at);
    for expected in 0.. {
        let begin = reader.offset();
        let Next::Frame(number, payload) = reader.next().map_err(failed)? else {
            return Err(corrupt(begin, "the rest is missing or damaged"));
        };
        let complete = number == expected && restore(&payload, &mut state).map_err(|what| corrupt(begin, what))?;
        if complete {
            return Ok(state);
        }
        if number != expected {
            return Err(corrupt(begin, "a part is missing"));
        }
    }
    unreachable!("the frames of a file are finite")
}

/// Puts the entries of one frame into the state. True at the end of the checkpoint.
fn restore(payload: &[u8], state: &mut State) -> Result<bool, &'static str> {
    let mut records = Records(payload);
    while let Some(record) = records.next().ok_or("a record is malformed")? {
        match record {
            Record::Entry { key, revision, gap, text } => {
                let document = record::document(text, gap, revision).ok_or("a document lacks its revision")?;
                state.restore(Entry { key: key.into(), document, revision });
            }
            Record::End { entries } if entries == state.len() as u64 => return Ok(true),
            Record::End { .. } => return Err("entries are missing"),
            Record::Put { .. } | Record::Delete { .. } => return Err("a record of a log is in a checkpoint"),
        }
    }
    Ok(false)
}
