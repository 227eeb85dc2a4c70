//! A store between the server and the real one: it takes turns by a seed, so that a seed decides how requests meet; and it can be
//! wrong, for tests that must notice.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use futures::FutureExt;
use futures::future::BoxFuture;
use store::{
    Change, Commit, CommitError, Entry, Event, Expected, Page, Range, ReadError, Revision, Store, Watch, WatchError, WatchMessage,
};

use super::Dice;

/// What the store does wrong, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// An event is kept from a watch.
    LostEvent,
    /// An event is told twice.
    DoubledEvent,
    /// Two events change places.
    SwappedEvents,
    /// Progress is told that is not yet.
    EarlyProgress,
    /// A commit is acknowledged and forgotten.
    LostWrite,
    /// A commit finds a conflict where none is.
    FalseConflict,
    /// A commit overwrites what it did not expect.
    IgnoredCondition,
    /// What a key held before is read.
    OldRead,
    /// A page is not of the revision it says.
    MixedPage,
    /// What was acknowledged last is not on disk when the server is killed.
    LostAtKill,
}

/// The store.
pub struct Faulty {
    inner: Arc<dyn Store>,
    dice: Mutex<Dice>,
    fault: Fault,
    armed: Arc<AtomicBool>,
    /// What each key held when it was read first.
    old: Mutex<HashMap<String, Option<Entry>>>,
}

impl Faulty {
    /// Over a store. Nothing goes wrong before it is armed.
    pub fn new(inner: Arc<dyn Store>, seed: u64, fault: Fault, armed: Arc<AtomicBool>) -> Self {
        Self { inner, dice: Mutex::new(Dice::new(seed)), fault, armed, old: Mutex::default() }
    }

    fn roll(&self, sides: u64) -> u64 {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).roll(sides)
    }

    /// Whether the fault happens now: in one of so many cases.
    fn errs(&self, fault: Fault, cases: u64) -> bool {
        self.fault == fault && self.armed.load(Ordering::SeqCst) && self.roll(cases) == 0
    }

    /// Lets others go first, or not.
    async fn turn(&self) {
        for _ in 0..self.roll(4) {
            tokio::task::yield_now().await;
        }
    }

    /// What is read instead: what was there before.
    fn aged(&self, key: &str, found: Option<Entry>) -> Option<Entry> {
        let errs = self.errs(Fault::OldRead, 6);
        let mut old = self.old.lock().unwrap_or_else(PoisonError::into_inner);
        let before = old.insert(key.to_owned(), found.clone());
        if errs { before.unwrap_or(found) } else { found }
    }

    fn forgotten(&self, key: &str, change: &Change) -> Arc<Event> {
        let revision = Revision(self.inner.revision().0 + 1);
        let document = match change {
            Change::Put(draft) => Some(draft.at(revision)),
            Change::Delete => None,
        };
        Arc::new(Event { key: key.into(), revision, document, previous: None, frame: OnceLock::new(), binary: OnceLock::new() })
    }

    async fn found(&self, key: &str) -> Option<Entry> {
        self.inner.get(key).await.ok().and_then(|(entry, _)| entry)
    }
}

impl Store for Faulty {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision), ReadError>> {
        async move {
            self.turn().await;
            let (entry, revision) = self.inner.get(key).await?;
            Ok((self.aged(key, entry), revision))
        }
        .boxed()
    }

    fn range<'a>(&'a self, range: Range<'a>) -> BoxFuture<'a, Result<Page, ReadError>> {
        async move {
            self.turn().await;
            let mut page = self.inner.range(range).await?;
            if range.after.is_some() && self.errs(Fault::MixedPage, 2) {
                let newest = self.inner.range(Range { at: None, ..range }).await?;
                page = Page { revision: page.revision, ..newest };
            }
            Ok(page)
        }
        .boxed()
    }

    fn commit_guarded<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Arc<Event>, CommitError>> {
        async move {
            self.turn().await;
            if self.errs(Fault::LostWrite, 30) {
                return Ok(self.forgotten(commit.key, &commit.change));
            }
            let found = self.found(commit.key).await;
            if found.is_some() && self.errs(Fault::FalseConflict, 8) {
                return Err(CommitError::Conflict(found.map(Box::new)));
            }
            let expected = match found {
                Some(found) if self.errs(Fault::IgnoredCondition, 1) => Expected::At(found.revision),
                _ => commit.expected,
            };
            // In one step, for all others here: the order of commits is that of turns.
            at_once(self.inner.commit_guarded(Commit { expected, ..commit })).await
        }
        .boxed()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        let fault = if self.armed.load(Ordering::SeqCst) { self.fault } else { Fault::None };
        let dice = Dice::new(self.roll(u64::MAX));
        Ok(Box::new(FaultyWatch { inner: self.inner.watch(prefix, after)?, dice, fault, next: None }))
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn newest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        self.inner.newest()
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        self.inner.compact(before)
    }
}

/// Waits for a future without giving others a turn. Another thread completes it.
async fn at_once<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(tokio::task::unconstrained(future));
    poll_fn(|_| {
        loop {
            if let Poll::Ready(ready) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(ready);
            }
            std::thread::park();
        }
    })
    .await
}

struct FaultyWatch {
    inner: Box<dyn Watch>,
    dice: Dice,
    fault: Fault,
    /// What comes before all others.
    next: Option<WatchMessage>,
}

impl FaultyWatch {
    fn errs(&mut self, fault: Fault, cases: u64) -> bool {
        self.fault == fault && self.dice.one_in(cases)
    }
}

impl Watch for FaultyWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage, WatchError>> {
        async move {
            if let Some(next) = self.next.take() {
                return Ok(next);
            }
            let message = self.inner.next().await?;
            match message {
                WatchMessage::Event(_) if self.errs(Fault::LostEvent, 12) => self.inner.next().await,
                WatchMessage::Event(event) if self.errs(Fault::DoubledEvent, 12) => {
                    self.next = Some(WatchMessage::Event(Arc::clone(&event)));
                    Ok(WatchMessage::Event(event))
                }
                WatchMessage::Event(event) if self.errs(Fault::SwappedEvents, 12) => {
                    let other = self.inner.next().await?;
                    self.next = Some(WatchMessage::Event(event));
                    Ok(other)
                }
                WatchMessage::Progress(revision) if self.errs(Fault::EarlyProgress, 4) => {
                    Ok(WatchMessage::Progress(Revision(revision.0 + 3)))
                }
                message => Ok(message),
            }
        }
        .boxed()
    }
}
