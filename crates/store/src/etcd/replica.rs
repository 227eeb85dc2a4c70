//! What this process knows of the cluster's state: all of it, as far as the watch has told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::watch;

use super::message::{KeyValue, Number, WatchEvent};
use super::place::{Numbering, Places};
use super::value::{Value, WriteId};
use crate::memory::{Hub, State, lock};
use crate::{Entry, Event, Memory, ReadError, Revision};

/// The state, those who watch it, and those who wait for it to come further.
pub(super) struct Replica {
    pub(super) hub: Arc<Hub>,
    /// The newest state, which is the published one except while events are taken in.
    held: Mutex<Held>,
    applied: watch::Sender<Revision>,
    /// The writes of this process that are under way, and where they turned up.
    writes: Mutex<HashMap<WriteId, Option<Revision>>>,
    /// How often it was read anew, and what happened in between not told.
    restarts: AtomicU64,
    /// Why it can't go on, if it can't.
    broken: OnceLock<Arc<str>>,
}

/// A state as it was read from the cluster, and what the watch has told since.
pub(super) struct Held {
    state: State,
    /// The changes that wrote those documents that keep the revision of where they came from.
    fixed: HashMap<Arc<str>, Number>,
}

impl Held {
    pub(super) fn at(revision: Revision, memory: &Memory) -> Self {
        let mut state = State::at(revision);
        state.keep(memory);
        Self { state, fixed: HashMap::new() }
    }

    /// Takes in one document. `None` when it is not one of ours.
    pub(super) fn restore(&mut self, places: &Places, numbering: Numbering, found: &KeyValue) -> Option<()> {
        let entry = entry(places.key(&found.key)?, numbering, found)?;
        if entry.is_fixed {
            self.fixed.insert(Arc::clone(&entry.entry.key), found.changed);
        }
        self.state.restore(entry.entry);
        Some(())
    }
}

struct Read {
    entry: Entry,
    is_fixed: bool,
}

fn entry(key: &str, numbering: Numbering, found: &KeyValue) -> Option<Read> {
    let value = Value::read(&found.value)?;
    let document = value.document(numbering.revision(found.changed));
    let revision = document.revision();
    Some(Read { entry: Entry { key: Arc::from(key), document, revision }, is_fixed: value.fixed.is_some() })
}

/// What is at a key, from what etcd tells of it.
pub(super) fn entry_of(key: &str, numbering: Numbering, found: &KeyValue) -> Option<Entry> {
    Some(entry(key, numbering, found)?.entry)
}

/// A write that is under way. Forgotten when dropped.
pub(super) struct Awaited<'a> {
    replica: &'a Replica,
    id: WriteId,
    /// How often the replica had been read anew when the write began.
    restarts: u64,
}

impl Awaited<'_> {
    /// The commit that the write became, if it has turned up.
    pub(super) fn found(&self) -> Option<Revision> {
        lock(&self.replica.writes).get(&self.id).copied().flatten()
    }

    /// Whether it may have turned up without being told of.
    pub(super) fn may_be_missed(&self) -> bool {
        self.replica.restarts.load(Ordering::SeqCst) != self.restarts
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        lock(&self.replica.writes).remove(&self.id);
    }
}

impl Replica {
    pub(super) fn new(loaded: Held, watch_backlog: usize) -> Self {
        Self {
            hub: Arc::new(Hub::new(loaded.state.clone(), watch_backlog)),
            applied: watch::Sender::new(loaded.state.revision()),
            held: Mutex::new(loaded),
            writes: Mutex::default(),
            restarts: AtomicU64::new(0),
            broken: OnceLock::new(),
        }
    }

    /// Goes on from another state, because what led to it is forgotten.
    pub(super) fn restart(&self, loaded: Held) {
        let mut held = lock(&self.held);
        *held = loaded;
        self.restarts.fetch_add(1, Ordering::SeqCst);
        self.hub.restart(held.state.clone());
        self.applied.send_replace(held.state.revision());
    }

    /// How far it has come.
    pub(super) fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until it has come so far.
    pub(super) async fn reached(&self, revision: Revision) {
        // The sender lives as long as this.
        let _ = self.applied.subscribe().wait_for(|applied| *applied >= revision).await;
    }

    /// Nothing can be read or written from now on.
    pub(super) fn give_up(&self, reason: &str) {
        tracing::error!("the store is unavailable: {reason}");
        let _ = self.broken.set(reason.into());
        self.hub.close();
    }

    /// An error if it can't go on.
    pub(super) fn check(&self) -> Result<(), ReadError> {
        self.broken.get().map_or(Ok(()), |reason| Err(ReadError::Unavailable(Arc::clone(reason))))
    }

    /// Looks out for a write.
    pub(super) fn look_out(&self, id: WriteId) -> Awaited<'_> {
        lock(&self.writes).insert(id, None);
        Awaited { replica: self, id, restarts: self.restarts.load(Ordering::SeqCst) }
    }

    /// The change that wrote what is at a key, if it is of this revision.
    pub(super) fn number(&self, numbering: Numbering, key: &str, revision: Revision) -> Option<Number> {
        let held = lock(&self.held);
        let fixed = held.fixed.get(key).filter(|_| held.state.entry(key).is_some_and(|entry| entry.revision == revision));
        fixed.copied().or_else(|| numbering.number(revision))
    }

    /// Forgets what happened before a revision.
    pub(super) fn compact(&self, before: Revision) -> Result<(), ReadError> {
        let mut held = lock(&self.held);
        held.state.compact(before)?;
        self.hub.publish(held.state.clone(), &[]);
        Ok(())
    }

    /// Takes in what the watch tells. An error is the key of a value that is not one of ours.
    pub(super) fn take(&self, places: &Places, numbering: Numbering, told: &[WatchEvent]) -> Result<(), String> {
        let mut held = lock(&self.held);
        let mut events = Vec::new();
        for event in told {
            let taken = held.take(places, numbering, event);
            let (taken, id) = taken.ok_or_else(|| event.at.key.clone())?;
            if let Some(found) = lock(&self.writes).get_mut(&id) {
                *found = Some(numbering.revision(event.at.changed));
            }
            events.extend(taken);
        }
        self.hub.publish(held.state.clone(), &events);
        self.applied.send_replace(held.state.revision());
        Ok(())
    }
}

impl Held {
    /// Takes in one change, and tells which write it was. Nothing happens if it is no document's, or known.
    fn take(&mut self, places: &Places, numbering: Numbering, event: &WatchEvent) -> Option<(Option<Arc<Event>>, WriteId)> {
        let revision = numbering.revision(event.at.changed);
        let Some(key) = places.key(&event.at.key) else {
            self.state.advance(revision);
            return Some((None, 0));
        };
        if revision < self.state.revision() || self.state.event_at(revision).is_some() {
            return Some((None, 0));
        }
        let (document, id) = if event.is_deletion {
            (None, 0)
        } else {
            // One that keeps an older revision is of a migration, which has no place in a store in use.
            let value = Value::read(&event.at.value).filter(|value| value.fixed.is_none())?;
            (Some(value.document(revision)), value.id)
        };
        self.fixed.remove(key);
        Some((Some(self.state.apply(key, revision, document, None)), id))
    }
}
