//! One commit: a transaction that can be made again, because it is done only once.
//!
//! A transaction whose answer got lost is sent again, to another member if need be. Either it was not done, and may be done now; or
//! it was, then the key no longer holds what is expected, and the write is known by its number, in the value itself or, when others
//! have overwritten it since, by the watch that told of it. A deletion leaves no number: where the key was deleted meanwhile, and the
//! answer to our own deletion was lost, its outcome is unknown.
//!
//! That nothing is at a key can hold more than once: others may delete what a lost attempt has created. So before a create is sent again,
//! a fence is put up that keeps out every attempt made before, wherever it still is on its way; and what was done before the fence, the
//! watch tells before it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::call::{CallError, INVALID_ARGUMENT, RESOURCE_EXHAUSTED};
use super::channel::Backoff;
use super::cluster::{self, Cluster};
use super::message::{Condition, KeyValue, Number, Operation, TransactionResponse, transaction};
use super::replica::{Awaited, Replica, entry_of};
use super::value::{self, Value, WriteId};
use crate::{Change, Commit, CommitError, Event, Expected, Revision};

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

/// A commit under way.
pub(super) struct Attempts<'a> {
    cluster: &'a Cluster,
    replica: &'a Replica,
    wish: Commit<'a>,
    id: WriteId,
    condition: Condition,
    awaited: Awaited<'a>,
    /// How far the replica was when it began; etcd was as far at least.
    had: Revision,
    /// The newest change known when the next attempt is made: fences put up later keep it out.
    since: Number,
    backoff: Backoff,
    /// Why the outcome of an earlier attempt is not known, if there was one.
    unclear: Option<String>,
}

impl<'a> Attempts<'a> {
    /// `None` when what is expected can't be.
    pub(super) fn new(cluster: &'a Cluster, replica: &'a Replica, wish: Commit<'a>, id: WriteId) -> Option<Self> {
        let condition = match (wish.expected, &wish.change) {
            (Expected::Absent, Change::Delete) => return None,
            (Expected::Absent, Change::Put(_)) => Condition::Absent,
            (Expected::At(revision), _) => Condition::ChangedAt(replica.number(cluster.numbering, wish.key, revision)?),
        };
        let (awaited, had) = (replica.look_out(id), replica.applied());
        let since = cluster.numbering.known(had);
        Some(Self { cluster, replica, wish, id, condition, awaited, had, since, backoff: Backoff::new(), unclear: None })
    }

    /// Makes the commit; returns once the replica has it.
    pub(super) async fn run(mut self) -> Result<Arc<Event>, CommitError> {
        loop {
            let answer = self.cluster.calls.try_once("KV/Txn", &self.message()).await;
            let reason = match answer.and_then(|answer| Ok(TransactionResponse::read(&answer)?)) {
                Ok(strange) if self.has_gone_back(strange.revision) => {
                    return Err(CommitError::Uncertain("etcd has gone back to an older state".into()));
                }
                Ok(done) if done.succeeded => return self.finish(done.revision).await,
                Ok(refused) if self.is_fenced_off(&refused) => {
                    // By somebody else's attempt. What was read then is newer than the fence.
                    self.since = refused.revision;
                    "others put up fences all the time".to_owned()
                }
                Ok(refused) => return self.refused(refused.revision, refused.found).await,
                Err(CallError::Refused { code, message }) => return Err(self.failed(self.refusal(code, &message), message)),
                Err(CallError::Lost(reason)) if self.wish.expected == Expected::Absent => match self.fence_off(&reason).await? {
                    Some(revision) => return self.finish_at(revision).await,
                    None => reason,
                },
                Err(CallError::Lost(reason)) => {
                    self.unclear = Some(reason.clone());
                    reason
                }
                Err(CallError::Unsent(reason)) => reason,
            };
            if !self.backoff.goes_on() {
                return Err(self.failed(CommitError::Unavailable(reason.as_str().into()), reason));
            }
            self.backoff.pause().await;
        }
    }

    fn message(&self) -> Vec<u8> {
        let Self { cluster, wish, .. } = self;
        let (place, fence) = (cluster.places.document(wish.key), cluster.places.fence());
        let guards: Vec<_> = wish.guards.iter().map(|guard| (cluster.places.guard(guard), cluster.numbering.known(guard.since))).collect();
        let unpassed = guards.iter().map(|(place, since)| (place.as_str(), Condition::ChangedBefore(since + 1)));
        let unfenced = (wish.expected == Expected::Absent).then_some((fence.as_str(), Condition::ChangedBefore(self.since + 1)));
        let conditions: Vec<_> = std::iter::once((place.as_str(), self.condition)).chain(unpassed).chain(unfenced).collect();
        let value = match &wish.change {
            Change::Put(draft) => Some(value::encode(draft, self.id)),
            Change::Delete => None,
        };
        let change = value.as_ref().map_or(Operation::Delete(&place), |value| Operation::Put(&place, value));
        let passed = guards.iter().map(|(place, _)| Operation::Put(place, b""));
        let then: Vec<_> = std::iter::once(change).chain(passed).collect();
        transaction(&conditions, &then, &[Operation::Get(&place)])
    }

    fn has_gone_back(&self, newest: Number) -> bool {
        cluster::has_gone_back(self.replica, self.had, self.cluster.numbering.revision(newest))
    }

    /// Whether nothing but a fence can be why it was refused. Under a guard that can't be told, and whoever is overtaken decides again.
    fn is_fenced_off(&self, refused: &TransactionResponse) -> bool {
        self.wish.expected == Expected::Absent && self.wish.guards.is_empty() && refused.found.is_none()
    }

    /// Sees to it that no attempt made so far can be done any more, and gives what one of them has become, if it was done.
    async fn fence_off(&mut self, reason: &str) -> Result<Option<Revision>, CommitError> {
        let uncertain = || CommitError::Uncertain(reason.into());
        let fence = self.backoff.within(self.cluster.fence()).await.and_then(Result::ok).ok_or_else(uncertain)?;
        if self.has_gone_back(fence) {
            return Err(uncertain());
        }
        // All that was done before the fence is told before it.
        let revision = self.cluster.numbering.revision(fence);
        self.backoff.within(self.cluster.come(self.replica, revision)).await.ok_or_else(uncertain)?;
        let found = self.awaited.found();
        if found.is_none() && self.awaited.may_be_missed() {
            return Err(uncertain());
        }
        self.since = fence;
        Ok(found)
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
        event.filter(|event| self.is_own(event)).ok_or_else(|| CommitError::Uncertain(reason().into()))
    }

    /// A deletion carries no number.
    fn is_own(&self, event: &Event) -> bool {
        *event.key == *self.wish.key && (event.document.is_none() || self.awaited.found() == Some(event.revision))
    }

    /// The key holds something else than was expected, or a guard was passed.
    async fn refused(self, number: Number, found: Option<KeyValue>) -> Result<Arc<Event>, CommitError> {
        let own = found.as_ref().filter(|found| Value::read(&found.value).is_some_and(|value| value.id == self.id));
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
            if self.awaited.may_be_missed() || self.may_have_deleted() {
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
        let (Change::Delete, Expected::At(expected)) = (&self.wish.change, self.wish.expected) else { return false };
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
        match &self.wish.change {
            Change::Put(draft) if too_large => CommitError::TooLargeForServer { length: draft.json.len(), why: message.into() },
            _ => CommitError::Unavailable(format!("etcd refuses: {message}").into()),
        }
    }

    /// An attempt failed for certain. That says nothing of an earlier one.
    fn failed(&self, error: CommitError, reason: String) -> CommitError {
        if self.unclear.is_some() { CommitError::Uncertain(reason.into()) } else { error }
    }
}
