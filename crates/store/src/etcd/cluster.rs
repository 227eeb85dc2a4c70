//! The cluster as this process uses it: what is asked of it, and the watch that keeps the replica up to date.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::call::{Answers, CallError, OUT_OF_RANGE};
use super::channel::{Channel, PATIENCE};
use super::message::{KeyValue, Number, Operation, RangeRequest, WatchResponse, compaction, transaction, watch};
use super::place::{Numbering, Places};
use super::replica::{Held, Replica};
use super::turnstile::{Answer, Turnstile};
use super::{OpenError, Options};
use crate::{ReadError, Revision};

/// Documents read at a time: even the largest are no more than 300 MB.
const PAGE: Number = 100;
/// How long the watch may take to tell what etcd has done. Where it takes longer, others may write to the same etcd.
const DELAY: Duration = Duration::from_millis(50);
/// A watch that tells nothing for so long, though there is something to tell, goes on with another member.
const STALLED: Duration = Duration::from_secs(2);
/// Between attempts to watch: doubled after each that fails, up to the second.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a store is reached.
pub(super) struct Cluster {
    pub(super) calls: Channel,
    /// The watch has a connection of its own: what it carries is never in the way of an answer.
    watches: Channel,
    pub(super) places: Places,
    pub(super) numbering: Numbering,
    options: Options,
    newest: Turnstile,
    barrier: Turnstile,
    fence: Turnstile,
    stalled: Notify,
}

/// Why the documents could not be read.
#[derive(Debug)]
pub(super) enum LoadError {
    Call(CallError),
    /// This key holds something else.
    Foreign(String),
}

impl From<CallError> for LoadError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// Why following ended.
enum Ended {
    /// What comes next is forgotten.
    Compacted,
    /// The connection is gone, or the member can't go on.
    Lost(CallError),
    /// A key holds something else.
    Foreign(String),
    /// What was told before is not so any more, and the replica has been given up.
    GoneBack,
}

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        Self::Lost(error)
    }
}

impl Cluster {
    pub(super) fn new(calls: Channel, watches: Channel, places: Places, numbering: Numbering, options: Options) -> Self {
        Self {
            calls,
            watches,
            places,
            numbering,
            options,
            newest: Turnstile::default(),
            barrier: Turnstile::default(),
            fence: Turnstile::default(),
            stalled: Notify::new(),
        }
    }

    /// The newest change, and at least all that was answered before: etcd asks a majority of its members.
    pub(super) async fn newest(&self) -> Answer {
        let charter = self.places.charter();
        self.newest.pass(self.calls.newest(&charter).map(|answer| answer.map_err(|error| Arc::from(error.to_string())))).await
    }

    /// Waits until the replica has all that was answered before.
    pub(super) async fn catch_up(&self, replica: &Replica) -> Result<(), ReadError> {
        let late = || ReadError::Unavailable(format!("etcd does not answer within {} s", PATIENCE.as_secs()).into());
        match timeout(PATIENCE, self.try_catch_up(replica)).await {
            Ok(caught_up) => caught_up,
            Err(_) => replica.check().and_then(|()| Err(late())),
        }
    }

    async fn try_catch_up(&self, replica: &Replica) -> Result<(), ReadError> {
        replica.check()?;
        let had = replica.applied();
        let newest = self.numbering.revision(self.newest().await.map_err(ReadError::Unavailable)?);
        if has_gone_back(replica, had, newest) {
            return replica.check();
        }
        if timeout(DELAY, replica.reached(newest)).await.is_ok() {
            return replica.check();
        }
        // Something of ours, after whatever others have written, must be told by the watch.
        let barrier = self.numbering.revision(self.barrier().await.map_err(ReadError::Unavailable)?);
        self.come(replica, barrier).await;
        replica.check()
    }

    /// Waits until the replica has come to a revision that etcd has.
    pub(super) async fn come(&self, replica: &Replica, revision: Revision) {
        loop {
            let before = replica.applied();
            if timeout(STALLED, replica.reached(revision)).await.is_ok() {
                return;
            }
            if replica.applied() == before {
                self.stalled.notify_waiters();
            }
        }
    }

    async fn barrier(&self) -> Answer {
        self.barrier.pass(self.touch(self.places.barrier())).await
    }

    /// Puts up a fence: an attempt that was made when a change before it was the newest is refused from now on.
    pub(super) async fn fence(&self) -> Answer {
        self.fence.pass(self.touch(self.places.fence())).await
    }

    /// Writes a key for the sake of the change that it is.
    async fn touch(&self, key: String) -> Answer {
        let answer = self.calls.transact(&transaction(&[], &[Operation::Put(&key, b"")], &[])).await;
        answer.map(|answer| answer.revision).map_err(|error| Arc::from(error.to_string()))
    }

    /// Reads all documents as of some time ago, as far back as etcd remembers and the history holds.
    pub(super) async fn load(&self) -> Result<Held, LoadError> {
        let newest = self.calls.newest(&self.places.charter()).await?;
        let mut at = self.oldest(newest).await?;
        loop {
            match self.load_at(at).await {
                // Forgotten meanwhile.
                Err(LoadError::Call(CallError::Refused { code: OUT_OF_RANGE, .. })) if at < newest => at = newest,
                loaded => return loaded,
            }
        }
    }

    /// The oldest change, not too long ago, as of which the state can be read.
    async fn oldest(&self, newest: Number) -> Result<Number, LoadError> {
        let history = Number::try_from(self.options.memory.history_events).unwrap_or(Number::MAX);
        let (mut wanted, mut readable) = (newest.saturating_sub(history).max(self.numbering.begin), newest);
        let mut tried = wanted;
        while wanted < readable {
            let request = RangeRequest { key: &self.places.charter(), count_only: true, revision: tried, ..RangeRequest::default() };
            match self.calls.range(request).await {
                Ok(_) => readable = tried,
                Err(CallError::Refused { code: OUT_OF_RANGE, .. }) => wanted = tried + 1,
                Err(error) => return Err(error.into()),
            }
            tried = wanted + (readable - wanted) / 2;
        }
        Ok(readable)
    }

    async fn load_at(&self, at: Number) -> Result<Held, LoadError> {
        let mut loaded = Held::at(self.numbering.revision(at), &self.options.memory);
        self.each_document(at, |found| {
            loaded.restore(&self.places, self.numbering, found).ok_or_else(|| LoadError::Foreign(found.key.clone()))
        })
        .await?;
        Ok(loaded)
    }

    /// Gives each document as of a change, in the order of their keys.
    pub(super) async fn each_document(
        &self,
        at: Number,
        mut take: impl FnMut(&KeyValue) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let (begin, end) = self.places.data();
        let mut begin = begin.to_owned();
        loop {
            let request = RangeRequest { key: &begin, end: &end, limit: PAGE, revision: at, count_only: false };
            let page = self.calls.range(request).await?;
            page.found.iter().try_for_each(&mut take)?;
            match page.found.last() {
                // The least key after the last one.
                Some(last) if page.more => begin = format!("{}\0", last.key),
                _ => return Ok(()),
            }
        }
    }

    /// Keeps the replica up to date, for ever.
    pub(super) async fn follow(&self, replica: &Replica) {
        let mut failures = Failures::default();
        loop {
            match self.watch(replica, &mut failures).await {
                Ended::Lost(error) => {
                    failures.tell(format_args!("the watch of etcd broke; it goes on with the next member: {error}"));
                    self.watches.turn().await;
                }
                Ended::Compacted => {
                    failures.tell(format_args!("etcd has forgotten what came next; all is read again"));
                    match self.load().await {
                        Ok(loaded) => replica.restart(loaded),
                        Err(LoadError::Call(error)) => failures.tell(format_args!("etcd can't be read; trying again: {error}")),
                        Err(LoadError::Foreign(key)) => return replica.give_up(&OpenError::Foreign { key }.to_string()),
                    }
                }
                Ended::Foreign(key) => return replica.give_up(&OpenError::Foreign { key }.to_string()),
                Ended::GoneBack => return,
            }
            failures.pause().await;
        }
    }

    /// Watches for as long as it goes well.
    async fn watch(&self, replica: &Replica, failures: &mut Failures) -> Ended {
        let mut answers = match self.begin_watch(replica).await {
            Ok(answers) => answers,
            Err(ended) => return ended,
        };
        let begun = Instant::now();
        let ended = self.take_all(replica, &mut answers).await;
        if begun.elapsed() > LONGEST_PAUSE {
            *failures = Failures::default();
        }
        ended
    }

    /// Asks for what comes after what the replica has; an etcd that had to start again may not have that any more.
    async fn begin_watch(&self, replica: &Replica) -> Result<Answers, Ended> {
        let had = replica.applied();
        let newest = self.newest().await.map_err(|error| CallError::Lost(error.to_string()))?;
        if has_gone_back(replica, had, self.numbering.revision(newest)) {
            return Err(Ended::GoneBack);
        }
        let (begin, end) = self.places.all();
        let from = self.numbering.known(replica.applied()) + 1;
        Ok(self.watches.stream("Watch/Watch", &watch(begin, &end, from)).await?)
    }

    async fn take_all(&self, replica: &Replica, answers: &mut Answers) -> Ended {
        let mut heard = 0;
        loop {
            let message = tokio::select! {
                message = answers.next() => message,
                () = self.stalled.notified() => {
                    if answers.came() == heard {
                        return CallError::Lost("it tells nothing though there is something".to_owned()).into();
                    }
                    heard = answers.came();
                    continue;
                }
            };
            heard = answers.came();
            let taken = match message {
                Ok(Some(message)) => self.take(replica, &message),
                Ok(None) => Err(CallError::Lost("the watch ended".to_owned()).into()),
                Err(error) => Err(error.into()),
            };
            if let Err(ended) = taken {
                return ended;
            }
        }
    }

    fn take(&self, replica: &Replica, message: &Bytes) -> Result<(), Ended> {
        let told = WatchResponse::read(message).map_err(CallError::from)?;
        if told.compacted > 0 {
            return Err(Ended::Compacted);
        }
        if let Some(reason) = told.cancelled {
            return Err(CallError::Lost(reason).into());
        }
        replica.take(&self.places, self.numbering, &told.events).map_err(Ended::Foreign)
    }

    /// Forgets, every so often, what was longer ago than that.
    pub(super) async fn compact_regularly(&self, replica: &Replica) {
        let mut before = replica.applied();
        loop {
            sleep(self.options.compact_after).await;
            if let Err(error) = self.compact(before).await {
                tracing::warn!("etcd can't be compacted now; it is tried again: {error}");
            }
            before = replica.applied();
        }
    }

    /// Has etcd forget what happened before a revision.
    pub(super) async fn compact(&self, before: Revision) -> Result<(), CallError> {
        let Some(number) = self.numbering.number(before) else { return Ok(()) };
        match self.calls.ask("KV/Compact", &compaction(number)).await {
            // It is forgotten already.
            Err(CallError::Refused { code: OUT_OF_RANGE, .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Tells watchers how far they are, a while after something happened.
    pub(super) async fn tell_progress(&self, replica: &Replica) {
        let mut told = replica.applied();
        loop {
            replica.reached(Revision(told.0 + 1)).await;
            sleep(self.options.memory.progress_after).await;
            told = replica.applied();
            replica.hub.tell_progress();
        }
    }
}

/// Whether etcd has lost what the replica had. Then nothing can be said of it any more, and the replica is given up.
pub(super) fn has_gone_back(replica: &Replica, had: Revision, newest: Revision) -> bool {
    if newest < had {
        replica.give_up(&format!(
            "etcd has gone back from revision {had} to {newest}: was it restored from a backup? Start all servers again"
        ));
    }
    newest < had
}

/// Failures that follow each other closely. The first is told of, and the more there are, the later it is tried again.
struct Failures {
    count: u32,
    pause: Duration,
}

impl Default for Failures {
    fn default() -> Self {
        Self { count: 0, pause: PAUSE }
    }
}

impl Failures {
    fn tell(&self, what: std::fmt::Arguments<'_>) {
        match self.count {
            0 => tracing::warn!("{what}"),
            count => tracing::debug!("{what}; {count} failures came before"),
        }
    }

    async fn pause(&mut self) {
        sleep(self.pause).await;
        self.count = self.count.saturating_add(1);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
