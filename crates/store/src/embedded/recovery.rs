//! Recovery: from what is in the directory to the state, or to a clear refusal.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::file::{self, Kind};
use super::log::Log;
use super::{OpenError, Options, checkpoint};
use crate::memory::State;
use crate::{FIRST_REVISION, Revision};

/// An open directory: nobody else has it as long as the lock lives.
pub(super) struct Recovered {
    pub(super) lock: File,
    pub(super) log: Log,
    pub(super) state: State,
}

/// The revisions at which files begin, ascending.
#[derive(Debug, Default)]
struct Inventory {
    logs: Vec<Revision>,
    checkpoints: Vec<Revision>,
}

pub(super) fn recover(dir: &Path, options: &Options) -> Result<Recovered, OpenError> {
    create(dir)?;
    let lock = lock(dir)?;
    let mut inventory = take_inventory(dir)?;
    let mut state = match inventory.checkpoints.last() {
        Some(newest) => checkpoint::read(dir, *newest)?,
        None => State::at(FIRST_REVISION),
    };
    state.keep(&options.memory);
    inventory.logs.retain(|base| *base >= state.revision());
    let log = match inventory.logs.split_last() {
        None if inventory.checkpoints.is_empty() => first_log(dir)?,
        None => return Err(OpenError::Missing { dir: dir.to_owned(), after: state.revision() }),
        Some((last, earlier)) => {
            for base in earlier {
                replay(dir, *base, false, &mut state)?;
            }
            replay(dir, *last, true, &mut state)?
        }
    };
    if let Some(newest) = inventory.checkpoints.last() {
        checkpoint::remove_replaced(dir, *newest).map_err(|source| failed("clean up", dir, source))?;
    }
    Ok(Recovered { lock, log, state })
}

fn failed(doing: &'static str, path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io { doing, path: path.to_owned(), source }
}

/// Makes the directory, private to its owner.
pub(super) fn create(dir: &Path) -> Result<(), OpenError> {
    if dir.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| file::sync_parent(dir)).map_err(|source| failed("create", dir, source))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|source| failed("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path, source)),
    }
}

/// Lists the files and removes those that were never completed.
fn take_inventory(dir: &Path) -> Result<Inventory, OpenError> {
    let mut inventory = Inventory::default();
    let unreadable = |source| failed("list", dir, source);
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        match file::parse(name) {
            Some((Kind::Log, base)) => inventory.logs.push(base),
            Some((Kind::Checkpoint, base)) => inventory.checkpoints.push(base),
            None if name.ends_with(file::INCOMPLETE) => super::log::remove(entry.path()),
            None => {}
        }
    }
    inventory.logs.sort_unstable();
    inventory.checkpoints.sort_unstable();
    Ok(inventory)
}

fn first_log(dir: &Path) -> Result<Log, OpenError> {
    Log::prepare(dir, FIRST_REVISION).and_then(Log::begin).map_err(|source| failed("create the log in", dir, source))
}

/// Replays the log that follows the state.
fn replay(dir: &Path, base: Revision, last: bool, state: &mut State) -> Result<Log, OpenError> {
    if base != state.revision() {
        return Err(OpenError::Missing { dir: dir.to_owned(), after: state.revision() });
    }
    Log::replay(dir, base, last, state)
}
