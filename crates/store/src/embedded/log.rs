//! The log: frames of commits, appended and synced one at a time.
//!
//! The space ahead is written with zeros beforehand: overwriting costs the disk one write, where growing a file costs it a write and
//! a journal entry of the file system. And a full disk is noticed before a commit is begun, not amid.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::OpenError;
use super::file::{self, Incomplete, Kind};
use super::frame::{self, Next, Reader};
use super::record::{self, Record, Records};
use crate::Revision;
use crate::memory::State;

/// How much space is prepared at a time, in bytes.
const AHEAD: usize = 1 << 20;

static ZEROS: [u8; AHEAD] = [0; AHEAD];

/// Why a frame could not be appended.
#[derive(Debug, Error)]
pub(super) enum AppendError {
    /// There is no space; nothing of the frame was written.
    #[error("no space for the log")]
    NoSpace(#[source] io::Error),
    /// The frame may or may not be on disk.
    #[error("cannot write the log")]
    Uncertain(#[source] io::Error),
}

/// The log that commits go to.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    seed: u64,
    /// Where the next frame goes.
    end: u64,
    /// Up to where the file is filled with zeros.
    prepared: u64,
}

impl Log {
    /// Makes the log of the commits after `base`, without its name yet.
    pub(super) fn prepare(dir: &Path, base: Revision) -> io::Result<Incomplete> {
        Incomplete::create(dir, Kind::Log, base)
    }

    /// Gives a prepared log its name: from now on it is where commits must go.
    pub(super) fn begin(prepared: Incomplete) -> io::Result<Self> {
        let seed = prepared.seed;
        let (file, _) = prepared.complete()?;
        Ok(Self { file, seed, end: file::HEADER as u64, prepared: file::HEADER as u64 })
    }

    /// The bytes in use.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Appends a frame whose first commit has this revision; it is on disk afterwards.
    pub(super) fn append(&mut self, draft: &mut frame::Draft, first: Revision) -> Result<(), AppendError> {
        let frame = draft.seal(first.0, self.seed);
        let end = self.end + frame.len() as u64;
        self.reserve(end).map_err(AppendError::NoSpace)?;
        self.file.write_all_at(frame, self.end).and_then(|()| self.file.sync_data()).map_err(AppendError::Uncertain)?;
        self.end = end;
        Ok(())
    }

    /// Fills the file with zeros to beyond `end`.
    fn reserve(&mut self, end: u64) -> io::Result<()> {
        while self.prepared < end {
            self.file.write_all_at(&ZEROS, self.prepared)?;
            self.prepared += AHEAD as u64;
        }
        Ok(())
    }

    /// Applies the commits of a log to the state. In the last log, a torn last frame is cut off.
    pub(super) fn replay(dir: &Path, base: Revision, last: bool, state: &mut State) -> Result<Self, OpenError> {
        let path = file::path(dir, Kind::Log, base);
        let failed = |doing| {
            let path = path.clone();
            move |source| OpenError::Io { doing, path, source }
        };
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed("open"))?;
        let corrupt = |offset, what| OpenError::Corrupt { file: path.clone(), offset, what };
        let seed =
            file::read_header(&mut file, Kind::Log, base).map_err(failed("read"))?.ok_or_else(|| corrupt(0, "it has no valid header"))?;
        let reading = file.try_clone().map_err(failed("open"))?;
        let mut reader = Reader::new(reading, seed, file::HEADER as u64);
        loop {
            let begin = reader.offset();
            match reader.next().map_err(failed("read"))? {
                Next::Frame(number, payload) => apply(number, &payload, state).map_err(|what| corrupt(begin, what))?,
                Next::Nothing => break,
            }
        }
        let mut log = Self { file, seed, end: reader.offset(), prepared: 0 };
        log.settle_end(&path, last)?;
        Ok(log)
    }

    /// Looks at what follows the last whole frame: nothing but zeros, the torn frame of a crash, or damage.
    fn settle_end(&mut self, path: &Path, last: bool) -> Result<(), OpenError> {
        let failed = |doing, source| OpenError::Io { doing, path: path.to_owned(), source };
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(self.end)).map_err(|source| failed("read", source))?;
        self.file.read_to_end(&mut rest).map_err(|source| failed("read", source))?;
        self.prepared = self.end + rest.len() as u64;
        if rest.chunks(AHEAD).all(|chunk| chunk == &ZEROS[..chunk.len()]) {
            return Ok(());
        }
        if !last || frame::contains_frame(&rest, self.seed) {
            let what = "a commit does not read back as written, though later ones do";
            return Err(OpenError::Corrupt { file: path.to_owned(), offset: self.end, what });
        }
        tracing::warn!(path = %path.display(), offset = self.end, "cut off an incomplete write that was never acknowledged");
        self.cut().map_err(|source| failed("cut", source))
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_all()?;
        self.prepared = self.end;
        Ok(())
    }
}

/// Applies the commits of one frame.
pub(super) fn apply(number: u64, payload: &[u8], state: &mut State) -> Result<(), &'static str> {
    if number != state.revision().0 + 1 {
        return Err("a commit is missing before this one");
    }
    let mut records = Records(payload);
    while let Some(record) = records.next().ok_or("a record is malformed")? {
        match record {
            Record::Put { key, gap, text } => {
                let document = record::document(text, gap, state.next_revision()).ok_or("a document lacks its revision")?;
                state.apply(key, state.next_revision(), Some(document), None);
            }
            Record::Delete { key } => {
                state.apply(key, state.next_revision(), None, None);
            }
            Record::Entry { .. } | Record::End { .. } => return Err("a record of a checkpoint is in a log"),
        }
    }
    Ok(())
}

/// Removes a log or checkpoint that a newer checkpoint stands for.
pub(super) fn remove(path: PathBuf) {
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove a file that is no longer needed");
    }
}
