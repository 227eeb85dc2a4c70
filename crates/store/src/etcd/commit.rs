//! One commit: a transaction that can be made again, because what it expects holds only once.
//!
//! A transaction whose answer got lost is sent again, to another member if need be. Either it was not done, and may be done now; or
//! it was, then the key no longer holds what is expected, and the write is known by its number, in the value itself or, when others
//! have overwritten it since, by the watch that told of it. A deletion leaves no number: where the key was deleted meanwhile, and the
//! answer to our own deletion was lost, its outcome is unknown.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::call::{CallError, INVALID_ARGUMENT, RESOURCE_EXHAUSTED};
use super::channel::Backoff;
use super::cluster::Cluster;
use super::message::{Condition, KeyValue, Number, Operation, TransactionResponse, transaction};
use super::replica::{Awaited, Replica, entry_of};
use super::value::{self, Value, WriteId};
use crate::{Change, CommitError, Event, Expected, Guard, Revision};

/// Makes numbers for writes that no other process makes.
pub(super) struct Ids {
    process: u64,
    next: AtomicU64,
}

impl Default for Ids {
    fn default() -> Self {
        // Seeded by the system, for each anew.
        Self { process: RandomState::new().hash_one(std::process::id()) | 1, next: AtomicU64::new(0) }
    }
}

impl Ids {
    pub(super) fn next(&self) -> WriteId {
        WriteId::from(self.process) << 64 | WriteId::from(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// What is to be committed.
pub(super) struct Wish<'a> {
    pub(super) key: &'a str,
    pub(super) expected: Expected,
    pub(super) change: &'a Change,
    pub(super) guards: &'a [Guard],
    pub(super) id: WriteId,
}

/// A commit under way.
pub(super) struct Commit<'a> {
    cluster: &'a Cluster,
    replica: &'a Replica,
    wish: Wish<'a>,
    condition: Condition,
    awaited: Awaited<'a>,
    backoff: Backoff,
    /// Why the outcome of an earlier attempt is not known, if there was one.
    unclear: Option<String>,
}

impl<'a> Commit<'a> {
    /// `None` when what is expected can't be.
    pub(super) fn new(cluster: &'a Cluster, replica: &'a Replica, wish: Wish<'a>) -> Option<Self> {
        let condition = match (wish.expected, wish.change) {
            (Expected::Absent, Change::Delete) => return None,
            (Expected::Absent, Change::Put(_)) => Condition::Absent,
            (Expected::At(revision), _) => Condition::ChangedAt(replica.number(cluster.numbering, wish.key, revision)?),
        };
        let awaited = replica.look_out(wish.id);
        Some(Self { cluster, replica, wish, condition, awaited, backoff: Backoff::new(), unclear: None })
    }

    /// Makes the commit; returns once the replica has it.
    pub(super) async fn run(mut self) -> Result<Arc<Event>, CommitError> {
        let message = self.message();
        loop {
            let answer = self.cluster.calls.try_once("KV/Txn", &message).await;
            match answer.and_then(|answer| Ok(TransactionResponse::read(&answer)?)) {
                Ok(done) if done.succeeded => return self.finish(done.revision).await,
                Ok(refused) => return self.refused(refused.revision, refused.found).await,
                Err(CallError::Refused { code, message }) => return Err(self.failed(self.refusal(code, &message), message)),
                Err(CallError::Lost(reason)) => self.unclear = Some(reason),
                Err(CallError::Unsent(reason)) if !self.backoff.goes_on() => {
                    return Err(self.failed(CommitError::Unavailable(reason.as_str().into()), reason));
                }
                Err(CallError::Unsent(_)) => {}
            }
            if let Some(reason) = self.unclear.as_ref().filter(|_| !self.backoff.goes_on()) {
                return Err(CommitError::Uncertain(reason.as_str().into()));
            }
            self.backoff.pause().await;
        }
    }

    fn message(&self) -> Vec<u8> {
        let Self { cluster, wish, .. } = self;
        let place = cluster.places.document(wish.key);
        let guards: Vec<_> = wish.guards.iter().map(|guard| (cluster.places.guard(guard), cluster.numbering.known(guard.since))).collect();
        let unpassed = guards.iter().map(|(place, since)| (place.as_str(), Condition::ChangedBefore(since + 1)));
        let conditions: Vec<_> = std::iter::once((place.as_str(), self.condition)).chain(unpassed).collect();
        let value = match wish.change {
            Change::Put(draft) => Some(value::encode(draft, wish.id)),
            Change::Delete => None,
        };
        let change = value.as_ref().map_or(Operation::Delete(&place), |value| Operation::Put(&place, value));
        let passed = guards.iter().map(|(place, _)| Operation::Put(place, b""));
        let then: Vec<_> = std::iter::once(change).chain(passed).collect();
        transaction(&conditions, &then, &[Operation::Get(&place)])
    }

    /// The commit is done, as this change.
    async fn finish(self, number: Number) -> Result<Arc<Event>, CommitError> {
        let revision = self.cluster.numbering.revision(number);
        self.finish_at(revision).await
    }

    async fn finish_at(self, revision: Revision) -> Result<Arc<Event>, CommitError> {
        let reached = self.backoff.within(self.cluster.come(self.replica, revision)).await;
        let event = reached.and_then(|()| self.replica.hub.state().event_at(revision).cloned());
        let reason = || format!("it is stored as revision {revision}, but the watch of etcd has not told of it in time");
        event.ok_or_else(|| CommitError::Uncertain(reason().into()))
    }

    /// The key holds something else than was expected, or a guard was passed.
    async fn refused(self, number: Number, found: Option<KeyValue>) -> Result<Arc<Event>, CommitError> {
        let own = found.as_ref().filter(|found| Value::read(&found.value).is_some_and(|value| value.id == self.wish.id));
        if let Some(own) = own {
            let number = own.changed;
            return self.finish(number).await;
        }
        if let Some(reason) = self.unclear.clone() {
            // What an earlier attempt did, the watch has told when it has come so far.
            let revision = self.cluster.numbering.revision(number);
            if self.backoff.within(self.cluster.come(self.replica, revision)).await.is_none() {
                return Err(CommitError::Uncertain(reason.into()));
            }
            if let Some(revision) = self.awaited.found() {
                return self.finish_at(revision).await;
            }
            if self.may_have_deleted() {
                return Err(CommitError::Uncertain(reason.into()));
            }
        }
        let holds = match (self.condition, &found) {
            (Condition::ChangedAt(number), Some(found)) => found.changed == number,
            (_, found) => found.is_none() && self.wish.expected == Expected::Absent,
        };
        if holds {
            return Err(CommitError::Overtaken);
        }
        let entry = found.and_then(|found| entry_of(self.wish.key, self.cluster.numbering, &found));
        Err(CommitError::Conflict(entry.map(Box::new)))
    }

    /// Whether what was to be deleted was deleted, by whomever.
    fn may_have_deleted(&self) -> bool {
        let (Change::Delete, Expected::At(expected)) = (self.wish.change, self.wish.expected) else { return false };
        let state = self.replica.hub.state();
        let deleted = |event: &&Arc<Event>| {
            *event.key == *self.wish.key
                && event.document.is_none()
                && event.previous.as_ref().is_some_and(|previous| previous.revision() == expected)
        };
        // What is forgotten may have been it.
        state.events_after(expected).map_or(true, |events| events.iter().any(|event| deleted(&event)))
    }

    fn refusal(&self, code: u32, message: &str) -> CommitError {
        let too_large =
            matches!(code, INVALID_ARGUMENT | RESOURCE_EXHAUSTED) && (message.contains("too large") || message.contains("larger"));
        match self.wish.change {
            Change::Put(draft) if too_large => CommitError::TooLargeForServer { length: draft.json.len(), why: message.into() },
            _ => CommitError::Unavailable(format!("etcd refuses: {message}").into()),
        }
    }

    /// An attempt failed for certain. That says nothing of an earlier one.
    fn failed(&self, error: CommitError, reason: String) -> CommitError {
        if self.unclear.is_some() { CommitError::Uncertain(reason.into()) } else { error }
    }
}
