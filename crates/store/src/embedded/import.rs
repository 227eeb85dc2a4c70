//! Makes a store of the content of another.
//!
//! All of it is written as a checkpoint, in a directory beside the one that is meant; that gets its name last, after all has
//! been read back. What an import that broke off has left is not a store, and is replaced by the next one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::log::Log;
use super::{OpenError, Options, checkpoint, file, recovery};
use crate::Entry;
use crate::memory::State;
use crate::transfer::Snapshot;

/// A snapshot that is all there, and is no store yet.
#[must_use]
#[derive(Debug)]
pub struct Import {
    incomplete: PathBuf,
    dir: PathBuf,
}

/// Writes a snapshot beside a directory where nothing is, and reads it back.
pub fn import(dir: &Path, snapshot: &Snapshot) -> Result<Import, OpenError> {
    if dir.exists() && fs::read_dir(dir).map_err(failed("list", dir))?.next().is_some() {
        return Err(OpenError::NotEmpty(dir.to_owned()));
    }
    let incomplete = dir.with_extension("incomplete");
    match fs::remove_dir_all(&incomplete) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &incomplete)(error)),
        _ => {}
    }
    recovery::create(&incomplete)?;
    let mut state = State::at(snapshot.revision);
    snapshot.entries.iter().for_each(|entry| state.restore(entry.clone()));
    let begun = Log::prepare(&incomplete, snapshot.revision).and_then(Log::begin);
    begun.map_err(failed("create the log in", &incomplete))?;
    let written = checkpoint::write(&incomplete, state.entries(), snapshot.revision, &AtomicBool::new(false));
    written.map_err(failed("write", &incomplete))?;
    verify(&incomplete, snapshot)?;
    Ok(Import { incomplete, dir: dir.to_owned() })
}

impl Import {
    /// Makes it a store. What somebody has put into the directory meanwhile is never replaced.
    pub fn complete(self) -> Result<(), OpenError> {
        let Self { incomplete, dir } = self;
        fs::rename(&incomplete, &dir).and_then(|()| file::sync_parent(&dir)).map_err(failed("name", &dir))
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { doing, path, source }
}

/// Reads all that was written.
fn verify(dir: &Path, snapshot: &Snapshot) -> Result<(), OpenError> {
    let there = recovery::recover(dir, &Options::default())?.state;
    let entries = there.entries().values().map(|entry| Entry::clone(entry)).collect();
    let read = Snapshot { revision: there.revision(), entries };
    if read.is_same(snapshot) { Ok(()) } else { Err(OpenError::Differs(dir.to_owned())) }
}
