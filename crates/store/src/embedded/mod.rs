//! The embedded store: all state in memory, every commit in a checksummed log on disk before it is answered.
//!
//! * One `writer` thread owns the log and the newest state. It takes all commits that wait, checks them in order, writes those
//!   that pass as one frame with one `fdatasync`, then publishes the new state, tells the watchers, and answers.
//! * `state` is a persistent map, swapped atomically: readers never wait for the writer, and a page of a list is consistent.
//!   Recent events are kept with it, so watches can resume and ranges can be read as of an older revision.
//! * When the log has outgrown the state, the writer begins another and a background thread writes a `checkpoint`; then the older
//!   files go. `recovery` reads the newest checkpoint and the logs after it.
//!
//! Invariants: a revision is published only after its frame is on disk. At most one frame is being written at any time, so only the
//! very last frame of the very last log can be torn by a crash, and it was never acknowledged; anything else that doesn't read
//! back is corruption and refuses to open.

mod checkpoint;
mod file;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod import;
mod inbox;
mod log;
mod record;
mod recovery;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

pub use self::import::{Import, import};
use self::inbox::{Inbox, Request};
use crate::memory::Hub;
use crate::{Commit, CommitError, Entry, Event, Memory, Page, Range, ReadError, Revision, Store, Watch, WatchError, within_limits};

/// Commits that can wait for the writer at one time; further ones wait for their turn to wait.
const WAITING_COMMITS: usize = 4096;

/// How much an embedded store keeps.
#[derive(Clone, Debug)]
pub struct Options {
    pub memory: Memory,
    /// A log is replaced by a checkpoint when it is longer than this, in bytes, and than twice the state.
    pub checkpoint_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: Memory::default(), checkpoint_bytes: 16 << 20 }
    }
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the store in {} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("the store is damaged: {} at byte {offset}: {what}; restore the directory from a backup", .file.display())]
    Corrupt { file: PathBuf, offset: u64, what: &'static str },
    #[error("the store is damaged: the commits after revision {after} are missing from {}; restore the directory from a backup", .dir.display())]
    Missing { dir: PathBuf, after: Revision },
    #[error("{} holds something already; migrate into a directory that is empty or absent", .0.display())]
    NotEmpty(PathBuf),
    #[error("what was written to {} does not read back as it was", .0.display())]
    Differs(PathBuf),
    #[error("cannot {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

/// The store in a directory of this machine. Dropping it waits for the commit under way and unlocks the directory.
pub struct Embedded {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    permits: Semaphore,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in a directory, which is created if absent (mode 0700), and recovers its state.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let recovered = recovery::recover(dir, &options)?;
        let hub = Arc::new(Hub::new(recovered.state.clone(), options.memory.watch_backlog));
        let inbox = Arc::new(Inbox::default());
        let writer = writer::spawn(dir, recovered, Arc::clone(&hub), Arc::clone(&inbox), options).map_err(|source| OpenError::Io {
            doing: "start the writer of",
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self { hub, inbox, permits: Semaphore::new(WAITING_COMMITS), writer: Some(writer) })
    }

    /// Hands a request to the writer and waits for its answer; `None` when the writer is gone.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let _permit = self.permits.acquire().await.ok()?;
        let (reply, answer) = oneshot::channel();
        self.inbox.send(request(reply));
        answer.await.ok()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.inbox.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

fn stopped() -> Arc<str> {
    Arc::from("its writer has stopped")
}

impl Store for Embedded {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision), ReadError>> {
        async move {
            let state = self.hub.state();
            Ok((state.entry(key).cloned(), state.revision()))
        }
        .boxed()
    }

    fn range<'a>(&'a self, range: Range<'a>) -> BoxFuture<'a, Result<Page, ReadError>> {
        async move { self.hub.state().page(range) }.boxed()
    }

    fn commit_guarded<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Arc<Event>, CommitError>> {
        async move {
            within_limits(&commit)?;
            let Commit { key, expected, change, guards } = commit;
            let (key, guards) = (Arc::from(key), guards.to_vec());
            self.ask(|reply| Request::Commit { key, expected, change, guards, reply })
                .await
                .unwrap_or_else(|| Err(CommitError::Unavailable(stopped())))
        }
        .boxed()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        Ok(Box::new(Arc::clone(&self.hub).subscribe(prefix, after)?))
    }

    fn revision(&self) -> Revision {
        self.hub.state().revision()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn newest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        async move { Ok(self.hub.state().revision()) }.boxed()
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        async move { self.ask(|reply| Request::Compact { before, reply }).await.unwrap_or_else(|| Err(ReadError::Unavailable(stopped()))) }
            .boxed()
    }
}
