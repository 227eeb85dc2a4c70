//! Tells users what a controller did, as core/v1 Events.
//!
//! # Guarantees
//! * Recording never waits and never fails; what waits is bounded.
//! * The same event again raises the count of the first one.
//! * One object gets at most [`BURST`] event writes at once and then one in [`REFILL`], so that a storm can't drown the store.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::SetKind;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Clock;

/// How many events may wait to be written.
const QUEUE: usize = 1024;
/// How many events, and how many objects, are remembered.
const REMEMBERED: usize = 4096;
/// How many event writes one object may cause at once, as upstream.
pub const BURST: u32 = 25;
/// After how long an object may cause one more, as upstream.
pub const REFILL: Duration = Duration::from_secs(300);
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Whether an event is what one expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Takes events and writes them in the background. Cheap to clone; the writing ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    sets: SetKind,
}

#[derive(Debug)]
struct Note {
    object: Subject,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// The object an event is about.
#[derive(Debug)]
struct Subject {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    resource_version: Option<String>,
}

impl Recorder {
    /// A recorder that reports as this component.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(client: Client, component: &'static str, clock: Clock) -> Self {
        let (notes, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(Writer::new(client, component, clock).run(inbox));
        Self { notes, sets: SetKind::default() }
    }

    /// A recorder for which a `StatefulSet` in memory is a set of this kind.
    pub fn about_sets_of(self, sets: SetKind) -> Self {
        Self { sets, ..self }
    }

    /// Records an event about an object. If too many wait, it is dropped.
    pub fn record<K: Resource<DynamicType = ()>>(&self, about: &K, severity: Severity, reason: &'static str, message: String) {
        let mut object = Subject::of(about);
        if object.api_version == SetKind::Apps.api_version() {
            object.api_version = self.sets.api_version().to_owned();
        }
        self.note(Note { object, severity, reason, message });
    }

    /// Records an event about an object of any kind. If too many wait, it is dropped.
    pub fn record_about(&self, about: &ObjectReference, severity: Severity, reason: &'static str, message: String) {
        self.note(Note { object: Subject::referred(about), severity, reason, message });
    }

    fn note(&self, note: Note) {
        let reason = note.reason;
        if self.notes.try_send(note).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait");
        }
    }
}

impl Subject {
    fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: meta.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone(),
        }
    }

    fn referred(reference: &ObjectReference) -> Self {
        Self {
            api_version: reference.api_version.clone().unwrap_or_default(),
            kind: reference.kind.clone().unwrap_or_default(),
            namespace: reference.namespace.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned()),
            name: reference.name.clone().unwrap_or_default(),
            uid: reference.uid.clone().unwrap_or_default(),
            resource_version: reference.resource_version.clone(),
        }
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.api_version.clone()),
            kind: Some(self.kind.clone()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            resource_version: self.resource_version.clone(),
            field_path: None,
        }
    }
}

/// What makes two notes the same event: all but the version of the object.
type Identity = (String, Severity, &'static str, String);

struct Writer {
    client: Client,
    component: &'static str,
    clock: Clock,
    /// Name and count of the events written lately.
    written: Bounded<Identity, (String, i32)>,
    /// What each object, by uid, may still cause.
    budgets: Bounded<String, Budget>,
    serial: u64,
}

impl Writer {
    fn new(client: Client, component: &'static str, clock: Clock) -> Self {
        Self { client, component, clock, written: Bounded::default(), budgets: Bounded::default(), serial: 0 }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Note>) {
        while let Some(note) = inbox.recv().await {
            let now = self.clock.now();
            let budget = self.budgets.entry(note.object.uid.clone(), || Budget { left: BURST, since: now });
            if budget.take(now) && timeout(WRITE_DEADLINE, self.write(&note, now)).await.is_err() {
                tracing::debug!(reason = note.reason, "an event was dropped: no answer in time");
            }
        }
    }

    async fn write(&mut self, note: &Note, now: Timestamp) {
        let identity = (note.object.uid.clone(), note.severity, note.reason, note.message.clone());
        let api = Api::<Event>::namespaced(self.client.clone(), &note.object.namespace);
        if let Some((name, count)) = self.written.get(&identity) {
            let again = json!({"count": *count + 1, "lastTimestamp": Time(now)});
            if api.patch(name, &PatchParams::default(), &Patch::Merge(&again)).await.is_ok() {
                *count += 1;
                return;
            }
        }
        let event = self.event(note, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => *self.written.entry(identity, Default::default) = (name, 1),
            Err(error) => tracing::debug!(%error, reason = note.reason, "an event was not written"),
        }
    }

    fn event(&mut self, note: &Note, now: Timestamp) -> Event {
        self.serial += 1;
        let mut event = Event {
            involved_object: note.object.reference(),
            type_: Some(note.severity.name().to_owned()),
            reason: Some(note.reason.to_owned()),
            message: Some(note.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        // Two events of one instant get different names by the serial number.
        let instant = now.as_nanosecond().saturating_add(i128::from(self.serial));
        event.metadata.name = Some(format!("{}.{instant:x}", note.object.name));
        event.metadata.namespace = Some(note.object.namespace.clone());
        event
    }
}

/// How many event writes an object may still cause.
#[derive(Debug)]
struct Budget {
    left: u32,
    /// When the last one was added back.
    since: Timestamp,
}

impl Budget {
    /// Whether there was one left.
    fn take(&mut self, now: Timestamp) -> bool {
        let refill = i64::try_from(REFILL.as_secs()).unwrap_or(i64::MAX);
        let earned = now.duration_since(self.since).as_secs().max(0) / refill;
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
            self.since = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

/// A map that forgets the oldest entries beyond [`REMEMBERED`].
struct Bounded<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V> Bounded<K, V> {
    fn get(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key)
    }

    fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if !self.map.contains_key(&key) {
            self.order.push_back(key.clone());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
        }
        self.map.entry(key).or_insert_with(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_cut_and_earns_one_more_write_after_the_refill() {
        let start = Timestamp::UNIX_EPOCH;
        let mut budget = Budget { left: BURST, since: start };
        let taken = (0..100).filter(|_| budget.take(start)).count();
        assert_eq!(taken, BURST as usize);
        let later = start + REFILL;
        assert_eq!([budget.take(later), budget.take(later)], [true, false]);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut bounded = Bounded::default();
        for key in 0..=REMEMBERED {
            bounded.entry(key, || key);
        }
        assert!(bounded.get(&0).is_none() && bounded.get(&REMEMBERED).is_some());
        assert_eq!((bounded.map.len(), bounded.order.len()), (REMEMBERED, REMEMBERED));
    }
}
