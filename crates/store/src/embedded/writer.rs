//! The writer: the only one who changes anything.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use tokio::sync::oneshot;

use super::inbox::{Inbox, Request, Wake};
use super::log::{AppendError, Log};
use super::recovery::Recovered;
use super::{Options, checkpoint, frame, record};
use crate::memory::{Hub, State};
use crate::{Change, CommitError, Event, Expected, Guard, ReadError, Revision};

/// A frame is written when it has this many bytes, though more commits wait.
const FRAME: usize = 4 << 20;

/// Someone who waits for an answer, and the answer.
type Pending<T, E> = (oneshot::Sender<Result<T, E>>, Result<T, E>);

/// Starts the writer's thread.
pub(super) fn spawn(
    dir: &Path,
    recovered: Recovered,
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    options: Options,
) -> std::io::Result<JoinHandle<()>> {
    let writer = Writer {
        dir: dir.to_owned(),
        log: recovered.log,
        state: recovered.state,
        draft: frame::Draft::new(),
        guarded: HashMap::new(),
        failed: None,
        progress_due: None,
        checkpoint_at: options.checkpoint_bytes,
        checkpointing: None,
        stop: Arc::new(AtomicBool::new(false)),
        hub,
        inbox,
        options,
        _lock: recovered.lock,
    };
    Builder::new().name("store-writer".to_owned()).spawn(move || writer.run())
}

/// Owns the log and the newest state, which is the published one except while a frame goes to disk.
struct Writer {
    dir: PathBuf,
    log: Log,
    state: State,
    /// The frame being filled.
    draft: frame::Draft,
    /// The last commit under each guard. After a frame that failed it may be one that never was, which does no harm.
    guarded: HashMap<String, Revision>,
    /// Why nothing more can be committed.
    failed: Option<Arc<str>>,
    /// When watchers are to be told of progress.
    progress_due: Option<Instant>,
    /// The length of the log at which a checkpoint is due, in bytes.
    checkpoint_at: u64,
    checkpointing: Option<JoinHandle<()>>,
    /// Tells the thread that checkpoints to give up.
    stop: Arc<AtomicBool>,
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    options: Options,
    _lock: File,
}

/// The answers that wait for one frame to be on disk.
#[derive(Default)]
struct Round {
    events: Vec<Arc<Event>>,
    commits: Vec<Pending<Arc<Event>, CommitError>>,
    compactions: Vec<Pending<(), ReadError>>,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.inbox.take(self.progress_due) {
                Wake::Requests(requests) => self.serve(requests),
                Wake::Due => {
                    self.progress_due = None;
                    self.hub.tell_progress();
                }
                Wake::Closed => break,
            }
        }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let mut round = Round::default();
        for request in requests {
            match request {
                Request::Commit { key, expected, change, guards, reply } => {
                    let outcome = self.commit(&key, expected, &change, &guards);
                    round.events.extend(outcome.as_ref().ok().cloned());
                    round.commits.push((reply, outcome));
                }
                Request::Compact { before, reply } => round.compactions.push((reply, self.state.compact(before))),
            }
            if self.draft.len() >= FRAME {
                self.settle(std::mem::take(&mut round));
            }
        }
        self.settle(round);
    }

    /// Checks a commit against the newest state and adds it to the frame.
    fn commit(&mut self, key: &str, expected: Expected, change: &Change, guards: &[Guard]) -> Result<Arc<Event>, CommitError> {
        if let Some(reason) = &self.failed {
            return Err(CommitError::Unavailable(Arc::clone(reason)));
        }
        let draft = match change {
            Change::Put(draft) => Some(draft),
            Change::Delete => None,
        };
        self.state.check(key, expected, draft)?;
        if guards.iter().any(|guard| self.guarded.get(&guard.slot).is_some_and(|last| *last > guard.since)) {
            return Err(CommitError::Overtaken);
        }
        let revision = self.state.next_revision();
        let (document, frame) = draft.map(|draft| draft.committed(revision, expected == Expected::Absent)).unzip();
        record::encode_commit(self.draft.payload(), key, document.as_ref());
        self.guarded.extend(guards.iter().map(|guard| (guard.slot.clone(), revision)));
        Ok(self.state.apply(key, revision, document, frame.flatten()))
    }

    /// Brings a round to disk, publishes it, and answers it. Refusals wait too: what they tell of may be in this very frame.
    fn settle(&mut self, round: Round) {
        match self.write(&round.events) {
            Ok(()) => {
                self.hub.publish(self.state.clone(), &round.events);
                self.schedule_progress(!round.events.is_empty());
                round.answer();
            }
            Err(error) => self.give_up(round, &error),
        }
        self.consider_checkpoint();
    }

    fn write(&mut self, events: &[Arc<Event>]) -> Result<(), AppendError> {
        let Some(first) = events.first() else { return Ok(()) };
        let written = self.log.append(&mut self.draft, first.revision);
        self.draft.clear();
        written
    }

    fn schedule_progress(&mut self, changed: bool) {
        if changed && self.progress_due.is_none() {
            self.progress_due = Some(Instant::now() + self.options.memory.progress_after);
        }
    }

    /// Goes back to the published state, and stops committing unless it is certain that nothing was written.
    fn give_up(&mut self, round: Round, error: &AppendError) {
        let (cause, certain) = match error {
            AppendError::NoSpace(source) => (source, true),
            AppendError::Uncertain(source) => (source, false),
        };
        tracing::error!(%cause, "{error}");
        let reason: Arc<str> = Arc::from(format!("{error}: {cause}"));
        self.state = State::clone(&self.hub.state());
        if !certain {
            self.failed = Some(Arc::clone(&reason));
        }
        round.refuse(&reason, certain);
    }

    /// Begins another log when this one has outgrown the state, and checkpoints the state in the background.
    fn consider_checkpoint(&mut self) {
        let running = self.checkpointing.as_ref().is_some_and(|thread| !thread.is_finished());
        if self.log.len() < self.checkpoint_at.max(2 * self.state.live_bytes()) || running || self.failed.is_some() {
            return;
        }
        // A log without a name does no harm: the next attempt begins again, some way further.
        self.checkpoint_at = self.log.len() + self.options.checkpoint_bytes;
        let prepared = match Log::prepare(&self.dir, self.state.revision()) {
            Ok(prepared) => prepared,
            Err(error) => return tracing::warn!(%error, "cannot begin another log"),
        };
        match Log::begin(prepared) {
            Ok(log) => {
                self.log = log;
                self.checkpoint_at = self.options.checkpoint_bytes;
                self.checkpoint();
            }
            // The name may be on disk or not: commits to either log could be lost.
            Err(error) => {
                tracing::error!(%error, "cannot begin another log");
                self.failed = Some(Arc::from(format!("cannot begin another log: {error}")));
            }
        }
    }

    fn checkpoint(&mut self) {
        let (dir, entries, at, stop) = (self.dir.clone(), self.state.entries().clone(), self.state.revision(), Arc::clone(&self.stop));
        let spawned = Builder::new().name("store-checkpoint".to_owned()).spawn(move || {
            if let Err(error) = checkpoint::write(&dir, &entries, at, &stop) {
                tracing::warn!(%error, "cannot write a checkpoint; the logs are kept instead");
            }
        });
        match spawned {
            Ok(thread) => self.checkpointing = Some(thread),
            Err(error) => tracing::warn!(%error, "cannot start a checkpoint; the logs are kept instead"),
        }
    }
}

impl Drop for Writer {
    /// Also when the writer panics: those who wait must learn that nobody will answer.
    fn drop(&mut self) {
        self.inbox.abandon();
        self.hub.close();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.checkpointing.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint panicked");
        }
    }
}

impl Round {
    // Those who no longer wait for their answer are no loss.
    fn answer(self) {
        for (reply, outcome) in self.commits {
            drop(reply.send(outcome));
        }
        for (reply, outcome) in self.compactions {
            drop(reply.send(outcome));
        }
    }

    fn refuse(self, reason: &Arc<str>, certain: bool) {
        for (reply, outcome) in self.commits {
            let refusal = if certain || outcome.is_err() { CommitError::Unavailable } else { CommitError::Uncertain };
            drop(reply.send(Err(refusal(Arc::clone(reason)))));
        }
        for (reply, _) in self.compactions {
            drop(reply.send(Err(ReadError::Unavailable(Arc::clone(reason)))));
        }
    }
}
