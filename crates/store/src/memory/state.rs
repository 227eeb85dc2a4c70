//! The state at one revision, and the events that led to it. Cloning is cheap: all of it is shared.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use imbl::{OrdMap, Vector};

use crate::{CommitError, Document, Draft, Entry, Event, Expected, Memory, Page, Range, ReadError, Revision};

/// What an event costs beyond its texts, in bytes, roughly.
const EVENT_OVERHEAD: usize = 256;

type Entries = OrdMap<Arc<str>, Arc<Entry>>;

/// Everything at one revision.
#[derive(Clone)]
pub(crate) struct State {
    entries: Entries,
    revision: Revision,
    /// The bytes of all keys and documents.
    live_bytes: u64,
    /// The commits after `oldest`, one event for each. Revisions that did something elsewhere are left out.
    history: Vector<Arc<Event>>,
    history_bytes: usize,
    /// The oldest revision that can be read.
    oldest: Revision,
    most_events: usize,
    most_bytes: usize,
}

impl State {
    /// Nothing, at a revision.
    pub(crate) fn at(revision: Revision) -> Self {
        Self {
            entries: OrdMap::new(),
            revision,
            live_bytes: 0,
            history: Vector::new(),
            history_bytes: 0,
            oldest: revision,
            most_events: usize::MAX,
            most_bytes: usize::MAX,
        }
    }

    /// Bounds the history from now on.
    pub(crate) fn keep(&mut self, memory: &Memory) {
        (self.most_events, self.most_bytes) = (memory.history_events, memory.history_bytes);
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn next_revision(&self) -> Revision {
        Revision(self.revision.0 + 1)
    }

    pub(crate) fn entries(&self) -> &OrdMap<Arc<str>, Arc<Entry>> {
        &self.entries
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key).map(Arc::as_ref)
    }

    /// Whether a commit finds what it expects.
    pub(crate) fn check(&self, key: &str, expected: Expected, draft: Option<&Draft>) -> Result<(), CommitError> {
        let found = self.entry(key);
        let fits = match (expected, found) {
            (Expected::Absent, None) => draft.is_some(),
            (Expected::At(revision), Some(entry)) => entry.revision == revision,
            _ => false,
        };
        if fits { Ok(()) } else { Err(CommitError::Conflict(found.cloned().map(Box::new))) }
    }

    /// Makes a commit: the document, if any, carries its revision. Its frame may be known.
    pub(crate) fn apply(&mut self, key: &str, revision: Revision, document: Option<Document>, frame: Option<Bytes>) -> Arc<Event> {
        self.revision = revision;
        let previous = self.entries.get(key).cloned();
        let key = previous.as_ref().map_or_else(|| Arc::from(key), |entry| Arc::clone(&entry.key));
        if let Some(entry) = &previous {
            self.live_bytes -= size(entry);
        }
        match &document {
            Some(document) => self.insert(Entry { key: key.clone(), document: document.clone(), revision: self.revision }),
            None => drop(self.entries.remove(&key)),
        }
        let previous = previous.map(|entry| entry.document.clone());
        let frame = frame.map_or_else(OnceLock::new, OnceLock::from);
        let event = Arc::new(Event { key, revision: self.revision, document, previous, frame, binary: OnceLock::new() });
        self.remember(Arc::clone(&event));
        event
    }

    /// A revision has come that changed nothing here.
    pub(crate) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// What a commit did, if it is remembered.
    pub(crate) fn event_at(&self, revision: Revision) -> Option<&Arc<Event>> {
        let place = self.history.binary_search_by(|event| event.revision.cmp(&revision)).ok()?;
        self.history.get(place)
    }

    /// Puts an entry where it was at this revision.
    pub(crate) fn restore(&mut self, entry: Entry) {
        self.insert(entry);
    }

    fn insert(&mut self, entry: Entry) {
        self.live_bytes += size(&entry);
        self.entries.insert(Arc::clone(&entry.key), Arc::new(entry));
    }

    fn remember(&mut self, event: Arc<Event>) {
        self.history_bytes += weight(&event);
        self.history.push_back(event);
        while self.history.len() > self.most_events || self.history_bytes > self.most_bytes {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= weight(&event);
            self.oldest = event.revision;
        }
    }

    /// Forgets what happened before a revision.
    pub(crate) fn compact(&mut self, before: Revision) -> Result<(), ReadError> {
        if before > self.revision {
            return Err(ReadError::Future { wanted: before, newest: self.revision });
        }
        while self.history.front().is_some_and(|event| event.revision <= before) {
            self.forget_one();
        }
        self.oldest = self.oldest.max(before);
        Ok(())
    }

    /// The events after a revision; the oldest revision they could be given from when they are forgotten.
    pub(crate) fn events_after(&self, after: Revision) -> Result<Vector<Arc<Event>>, Revision> {
        if after < self.oldest {
            return Err(self.oldest);
        }
        let known = match self.history.binary_search_by(|event| event.revision.cmp(&after)) {
            Ok(place) => place + 1,
            Err(place) => place,
        };
        Ok(self.history.skip(known))
    }

    /// One page of a range.
    pub(crate) fn page(&self, range: Range<'_>) -> Result<Page, ReadError> {
        let revision = range.at.unwrap_or(self.revision);
        if revision > self.revision {
            return Err(ReadError::Future { wanted: revision, newest: self.revision });
        }
        let undo = self.events_after(revision).map_err(|oldest| ReadError::Compacted { wanted: revision, oldest })?;
        let entries = undone(self.entries.clone(), &undo, range.prefix);
        let begin = match range.after {
            Some(after) if after >= range.prefix => Bound::Excluded(after),
            _ => Bound::Included(range.prefix),
        };
        let mut found = entries
            .range::<_, str>((begin, Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take_while(|entry| entry.key.starts_with(range.prefix));
        let entries = found.by_ref().take(range.limit.unwrap_or(usize::MAX)).map(|entry| Entry::clone(entry)).collect();
        Ok(Page { entries, revision, remaining: found.count() })
    }
}

/// The entries as they were before these events, as far as the prefix goes.
fn undone(mut entries: Entries, events: &Vector<Arc<Event>>, prefix: &str) -> Entries {
    for event in events.iter().rev().filter(|event| event.key.starts_with(prefix)) {
        match &event.previous {
            Some(document) => {
                let entry = Entry { key: Arc::clone(&event.key), document: document.clone(), revision: document.revision() };
                entries.insert(Arc::clone(&event.key), Arc::new(entry));
            }
            None => drop(entries.remove(&event.key)),
        }
    }
    entries
}

fn size(entry: &Entry) -> u64 {
    (entry.key.len() + entry.document.json.len()) as u64
}

/// The memory an event may take: its key, its documents, and the encoded form that the server adds later.
fn weight(event: &Event) -> usize {
    let text = |document: &Option<Document>| document.as_ref().map_or(0, |document| document.json.len());
    EVENT_OVERHEAD + event.key.len() + 2 * text(&event.document).max(text(&event.previous))
}
