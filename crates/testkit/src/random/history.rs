//! What was asked and answered, in a time of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::model::{Kind, Object, Op, State};

/// A call of a writer.
#[derive(Clone, Debug)]
pub struct Call {
    pub writer: u64,
    /// For a whole collection, the name is empty.
    pub object: Object,
    pub op: Op,
    pub begin: u64,
    /// For ever, if nothing was answered.
    pub end: u64,
    pub answer: Answer,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The object, as it now is.
    Object(State),
    /// It is gone; which, if that was said.
    Gone(Option<String>),
    Refused {
        code: u16,
        message: String,
    },
    Unknown,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    pub begin: u64,
    pub end: u64,
    pub revision: u64,
    pub items: Vec<(String, State)>,
}

/// A list, page by page.
#[derive(Clone, Debug)]
pub struct Listing {
    pub kind: &'static Kind,
    pub selector: Option<(String, String)>,
    pub pages: Vec<Page>,
    /// When the rest was refused, as its revision is compacted.
    pub expired: Option<u64>,
    /// Whether the last page was read.
    pub whole: bool,
}

/// What a watch says about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Added,
    Modified,
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Event { form: Form, name: String, state: State },
    Bookmark(u64),
}

impl Told {
    pub fn revision(&self) -> u64 {
        match self {
            Self::Event { state, .. } => state.revision,
            Self::Bookmark(revision) => *revision,
        }
    }
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By the watcher, the server, or the loss of either.
    Cut,
    /// By the server, as the past is compacted.
    Expired,
    /// By the watcher, who waited too long for what must come.
    Stalled,
}

/// One watch.
#[derive(Clone, Debug)]
pub struct Watching {
    pub kind: &'static Kind,
    pub selector: Option<(String, String)>,
    /// Where it began.
    pub after: u64,
    pub told: Vec<Told>,
    pub end: End,
    pub at: u64,
}

impl Watching {
    /// How far it came.
    pub fn until(&self) -> u64 {
        self.told.iter().map(Told::revision).fold(self.after, u64::max)
    }
}

/// A commit to an object of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub revision: u64,
    pub object: Object,
    /// `None` for its end.
    pub state: Option<State>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub calls: Vec<Call>,
    pub listings: Vec<Listing>,
    pub watchings: Vec<Watching>,
    /// By revision.
    pub commits: Vec<Commit>,
    /// The revisions of all commits, also to other objects, if they are known.
    pub revisions: Vec<u64>,
    /// When history was forgotten, and before which revision.
    pub compactions: Vec<(u64, u64)>,
    /// The store's revisions before and after it was opened again.
    pub restarts: Vec<(u64, u64)>,
    /// Whether others than the workload finish what is deleted.
    pub others: bool,
}

/// A history in the making.
#[derive(Debug, Default)]
pub struct Record {
    clock: AtomicU64,
    calls: tokio::sync::watch::Sender<usize>,
    lists: tokio::sync::watch::Sender<usize>,
    history: Mutex<History>,
}

impl Record {
    /// A moment that no other has.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes something.
    pub fn note<T>(&self, what: impl FnOnce(&mut History) -> T) -> T {
        let mut history = self.history();
        let noted = what(&mut history);
        self.calls.send_replace(history.calls.len());
        self.lists.send_replace(history.listings.len());
        noted
    }

    /// Waits for so many calls.
    pub async fn reached(&self, calls: usize) {
        let _ = self.calls.subscribe().wait_for(|done| *done >= calls).await;
    }

    /// Waits for so many lists.
    pub async fn began(&self, lists: usize) {
        let _ = self.lists.subscribe().wait_for(|done| *done >= lists).await;
    }

    /// All that was noted.
    pub fn taken(&self) -> History {
        std::mem::take(&mut *self.history())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
