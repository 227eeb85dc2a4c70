//! Where state lives: a map from keys to documents, with one revision counter, durable commits and watches.
//!
//! [`Store`] is the port, [`Embedded`](embedded::Embedded) and [`Etcd`](etcd::Etcd) implement it; both are held to
//! [`conformance`], which every implementation runs as its tests. [`transfer`] brings all state from one to the other.
//!
//! A commit is answered when it is on disk. Revisions grow with each commit, and never go back, whatever happens to the process or the
//! machine. In the embedded store they grow by one; in etcd there are gaps, where others wrote to it, or a store something of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use thiserror::Error;
use twox_hash::XxHash64;

pub mod conformance;
pub mod embedded;
pub mod etcd;
mod memory;
pub mod transfer;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 512;

/// The longest document, in bytes.
pub const MAX_DOCUMENT: usize = 3 << 20;

/// The revision of a store that nothing was ever committed to.
pub const FIRST_REVISION: Revision = Revision(1);

/// The number of a commit: the order of all that happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// JSON text with a gap: a commit writes its revision's decimal digits there. So what is stored is, byte for byte, what is
/// served, although nobody knows the revision beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    json: Bytes,
    gap: usize,
    frame: Option<Frame>,
}

/// What stands before and behind an object's text where watchers are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Before an object that is new.
    pub added: &'static str,
    /// Before one that has changed.
    pub modified: &'static str,
    pub end: &'static str,
}

impl Draft {
    /// A draft whose revision belongs at byte `gap`.
    ///
    /// # Panics
    /// When `gap` is beyond the text's end.
    pub fn new(json: impl Into<Bytes>, gap: usize) -> Self {
        let json = json.into();
        assert!(gap <= json.len(), "the gap {gap} is beyond the text's {} bytes", json.len());
        Self { json, gap, frame: None }
    }

    /// The same draft; a store that can writes its text and [`Event::frame`] at once, so that both take the memory of one.
    pub fn framed(self, frame: Frame) -> Self {
        Self { frame: Some(frame), ..self }
    }

    /// The text with the revision written into the gap.
    pub fn at(&self, revision: Revision) -> Document {
        self.between("", revision, "").0
    }

    /// The text as it is committed, and the frame around it.
    pub(crate) fn committed(&self, revision: Revision, is_new: bool) -> (Document, Option<Bytes>) {
        let Some(frame) = self.frame else { return (self.at(revision), None) };
        let (document, text) = self.between(if is_new { frame.added } else { frame.modified }, revision, frame.end);
        (document, Some(text))
    }

    /// The document, and the whole text that it is a part of.
    fn between(&self, head: &str, revision: Revision, end: &str) -> (Document, Bytes) {
        let digits = revision.to_string();
        let length = self.json.len() + digits.len();
        let mut text = BytesMut::with_capacity(head.len() + length + end.len());
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(&self.json[..self.gap]);
        text.extend_from_slice(digits.as_bytes());
        text.extend_from_slice(&self.json[self.gap..]);
        text.extend_from_slice(end.as_bytes());
        let text = text.freeze();
        let json = text.slice(head.len()..head.len() + length);
        (Document { json, gap: self.gap, digits: digits.len() }, text)
    }
}

/// JSON text that carries the revision of the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    json: Bytes,
    gap: usize,
    digits: usize,
}

impl Document {
    /// The text, exactly as it is served.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The revision written in the text.
    pub fn revision(&self) -> Revision {
        let digits = &self.json[self.gap..self.gap + self.digits];
        Revision(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    /// A document read back from where it was kept; `None` when the text doesn't carry the revision at the gap.
    pub(crate) fn restored(json: Bytes, gap: usize, revision: Revision) -> Option<Self> {
        let digits = revision.to_string();
        json.get(gap..)?.starts_with(digits.as_bytes()).then(|| Self { json, gap, digits: digits.len() })
    }

    /// The same object as of another revision: a deletion is told with the last state at the deletion's revision.
    pub fn restated(&self, revision: Revision) -> Self {
        let mut json = BytesMut::with_capacity(self.json.len());
        json.extend_from_slice(&self.json[..self.gap]);
        json.extend_from_slice(&self.json[self.gap + self.digits..]);
        Draft::new(json, self.gap).at(revision)
    }
}

/// What is at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    pub document: Document,
    /// The commit that wrote the document.
    pub revision: Revision,
}

/// What a commit finds, or else it is refused. Nothing can be deleted where nothing is expected: that is always a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing is at the key.
    Absent,
    /// What is at the key was written by this commit.
    At(Revision),
}

/// What a commit does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Draft),
    Delete,
}

/// Keeps a decision true that rests on more than the key that is written, such as how many objects there are: a commit under a guard
/// is refused when another was made under the same one after what the decision was taken on was read. That holds whoever the
/// writers are, in this process or in others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Guards of one kind share so many slots: a stranger in the slot makes for another try, no more.
    slot: String,
    since: Revision,
}

impl Guard {
    /// Slots of one kind of guards.
    const SLOTS: u64 = 64;

    /// The guard of a kind over something; the decision was taken on the state at this revision, or a later one.
    pub fn new(kind: &'static str, over: &str, since: Revision) -> Self {
        let slot = XxHash64::oneshot(0, over.as_bytes()) % Self::SLOTS;
        Self { slot: format!("{kind}-{slot}"), since }
    }
}

/// What is to be committed.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    pub key: &'a str,
    pub expected: Expected,
    pub change: Change,
    pub guards: &'a [Guard],
}

/// What one commit did. Shared by everyone who watches.
#[derive(Debug)]
pub struct Event {
    pub key: Arc<str>,
    pub revision: Revision,
    /// The document after the commit; `None` when it deleted the key.
    pub document: Option<Document>,
    /// The document before the commit; `None` when it created the key.
    pub previous: Option<Document>,
    /// For the server: the event as watchers receive it, encoded by the first who needs it unless the commit came with it.
    pub frame: OnceLock<Bytes>,
    /// The same for watchers who read another encoding.
    pub binary: OnceLock<Bytes>,
}

/// One message of a watch.
#[derive(Clone, Debug)]
pub enum WatchMessage {
    /// Something changed below the prefix.
    Event(Arc<Event>),
    /// All events up to this revision have been delivered. Told once the past is delivered, and again, about a second after
    /// commits, to watchers that those commits didn't concern.
    Progress(Revision),
}

/// A page of a range.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// The revision the page is consistent at.
    pub revision: Revision,
    /// How many more entries the range holds beyond this page.
    pub remaining: usize,
}

/// A range request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range<'a> {
    /// The keys wanted begin with this.
    pub prefix: &'a str,
    /// Only keys greater than this one.
    pub after: Option<&'a str>,
    /// The state as of this commit; the newest when absent.
    pub at: Option<Revision>,
    /// At most this many entries; all when absent.
    pub limit: Option<usize>,
}

/// Why a read failed.
#[derive(Clone, Debug, Error)]
pub enum ReadError {
    #[error("revision {wanted} is compacted; the oldest kept is {oldest}")]
    Compacted { wanted: Revision, oldest: Revision },
    #[error("revision {wanted} is in the future; the newest is {newest}")]
    Future { wanted: Revision, newest: Revision },
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
}

/// Why a commit failed. Nothing was changed, except after `Uncertain`.
#[derive(Clone, Debug, Error)]
pub enum CommitError {
    /// The key holds something else than was expected: this, or nothing.
    #[error("the key holds another revision than expected")]
    Conflict(Option<Box<Entry>>),
    /// Something was committed under the same guard; what the decision rests on has to be read again.
    #[error("another commit under the same guard came first")]
    Overtaken,
    #[error("the key has {length} bytes; at most {MAX_KEY} are possible")]
    KeyTooLong { length: usize },
    #[error("the document has {length} bytes; at most {MAX_DOCUMENT} are possible")]
    DocumentTooLarge { length: usize },
    #[error("the document has {length} bytes, and the store's own server refuses that: {why}; etcd has the option --max-request-bytes")]
    TooLargeForServer { length: usize, why: Arc<str> },
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The commit may or may not be on disk. The embedded store refuses further commits until it is opened again.
    #[error("the outcome of the commit is unknown: {0}")]
    Uncertain(Arc<str>),
}

/// Why a watch ended, or couldn't begin. The watcher resumes from the last revision it has seen, or lists again.
#[derive(Clone, Debug, Error)]
pub enum WatchError {
    #[error("the watcher fell too far behind; resume after revision {seen}")]
    TooSlow { seen: Revision },
    #[error("revision {wanted} is compacted; the oldest kept is {oldest}")]
    Compacted { wanted: Revision, oldest: Revision },
    #[error("the store is shutting down")]
    Closed,
}

/// A stream of what happens below a prefix: every commit once, in order, none left out.
pub trait Watch: Send {
    /// The next message. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage, WatchError>>;
}

/// The port: durable state behind the API server. All methods can be called from any task at once.
pub trait Store: Send + Sync + 'static {
    /// What is at a key now, and the newest revision.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision), ReadError>>;

    /// Entries below a prefix, in order, consistent at one revision.
    fn range<'a>(&'a self, range: Range<'a>) -> BoxFuture<'a, Result<Page, ReadError>>;

    /// Changes one key if it holds what is expected. Returns the event once it is on disk.
    fn commit<'a>(&'a self, key: &'a str, expected: Expected, change: Change) -> BoxFuture<'a, Result<Arc<Event>, CommitError>> {
        self.commit_guarded(Commit { key, expected, change, guards: &[] })
    }

    /// Changes one key if it holds what is expected and no guard was passed meanwhile.
    fn commit_guarded<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Arc<Event>, CommitError>>;

    /// Everything that happens below a prefix after a revision. A revision in the future is waited for.
    fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, WatchError>;

    /// The newest revision that is on disk, as far as this process knows: what it was answered, at least.
    fn revision(&self) -> Revision;

    /// Whether other processes may write to it as well: then a lock in this process is not enough, and a [`Guard`] is needed.
    fn is_shared(&self) -> bool;

    /// The newest revision that anybody was answered. A watch or range from there on is told everything.
    fn newest(&self) -> BoxFuture<'_, Result<Revision, ReadError>>;

    /// Forgets all history before a revision, which stays readable and can be watched from. Readers and writers go on meanwhile.
    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>>;
}

/// How much a store keeps in memory.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Events kept for watches that resume and for ranges in the past.
    pub history_events: usize,
    /// The memory those events may take, in bytes, roughly.
    pub history_bytes: usize,
    /// Events a watcher may fall behind.
    pub watch_backlog: usize,
    /// How long after a commit the watchers that it didn't concern are told of progress.
    pub progress_after: Duration,
}

impl Default for Memory {
    fn default() -> Self {
        Self { history_events: 65_536, history_bytes: 64 << 20, watch_backlog: 4096, progress_after: Duration::from_secs(1) }
    }
}

/// Refuses what no store could hold.
fn within_limits(commit: &Commit<'_>) -> Result<(), CommitError> {
    if commit.key.len() > MAX_KEY {
        return Err(CommitError::KeyTooLong { length: commit.key.len() });
    }
    match &commit.change {
        Change::Put(draft) if draft.json.len() > MAX_DOCUMENT => Err(CommitError::DocumentTooLarge { length: draft.json.len() }),
        _ => Ok(()),
    }
}
