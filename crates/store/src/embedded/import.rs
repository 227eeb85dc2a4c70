//! Makes a store of the content of another.
//!
//! All of it is written as a checkpoint, in a directory beside the one that is meant; that gets its name last. What an import that broke
//! off has left is not a store, and is replaced by the next one.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::log::Log;
use super::{Embedded, OpenError, Options, checkpoint, file, recovery};
use crate::memory::State;
use crate::transfer::Snapshot;

/// Puts a snapshot where nothing is.
pub fn import(dir: &Path, snapshot: &Snapshot) -> Result<(), OpenError> {
    let failed = |doing: &'static str| move |source: io::Error| OpenError::Io { doing, path: dir.to_owned(), source };
    if dir.exists() && fs::read_dir(dir).map_err(failed("list"))?.next().is_some() {
        return Err(OpenError::NotEmpty(dir.to_owned()));
    }
    let incomplete = dir.with_extension("incomplete");
    match fs::remove_dir_all(&incomplete) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove what is left beside")(error)),
        _ => {}
    }
    recovery::create(&incomplete)?;
    let mut state = State::at(snapshot.revision);
    snapshot.entries.iter().for_each(|entry| state.restore(entry.clone()));
    let begun = Log::prepare(&incomplete, snapshot.revision).and_then(Log::begin);
    begun.map_err(failed("create the log in"))?;
    checkpoint::write(&incomplete, state.entries(), snapshot.revision, &AtomicBool::new(false)).map_err(failed("write"))?;
    drop(Embedded::open(&incomplete, Options::default())?);
    fs::rename(&incomplete, dir).and_then(|()| file::sync_parent(dir)).map_err(failed("name"))
}
