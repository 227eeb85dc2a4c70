//! Tells users what a component did, as core/v1 Events: the one recorder of the controllers and of the nodes' agents.
//!
//! # Guarantees
//! * Recording never waits and never fails; what waits is bounded.
//! * The same event again raises the count of the first one; many that say almost the same become one.
//! * A storm about one object does not drown the store. What is written is decided in [`plan::events`].

use std::borrow::Cow;
use std::time::Duration;

use informer::Api;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kinds::SetKind;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use plan::events::{Correlator, Decision, Happening};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How many events may wait to be written.
const QUEUE: usize = 1024;
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

/// Who tells: a component, and the node it runs on, empty if that matters to nobody.
#[derive(Clone, Debug)]
pub struct Source {
    pub component: &'static str,
    pub host: String,
}

/// Tells the time.
pub type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

#[derive(Debug)]
struct Note {
    object: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
}

impl Note {
    fn happening(&self) -> Happening {
        let ObjectReference { api_version, kind, namespace, name, uid, field_path, .. } = &self.object;
        let parts = [api_version, kind, namespace, name, uid].map(|part| part.as_deref().unwrap_or_default());
        let field_path = field_path.clone().unwrap_or_default();
        let (severity, reason, message) = (self.severity.name(), self.reason, self.message.clone());
        Happening { object: parts.join("/"), field_path, severity, reason, message }
    }
}

impl Recorder {
    /// A recorder that reports as this component.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(client: Client, source: Source, now: Clock) -> Self {
        let (notes, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { client, source, now, correlator: Correlator::default(), serial: 0 }.run(inbox));
        Self { notes, sets: SetKind::default() }
    }

    /// A recorder for which a `StatefulSet` in memory is a set of this kind.
    pub fn about_sets_of(self, sets: SetKind) -> Self {
        Self { sets, ..self }
    }

    /// Records an event about an object. If too many wait, it is dropped.
    pub fn record<K: Resource<DynamicType = ()>>(&self, about: &K, severity: Severity, reason: &'static str, message: String) {
        let mut object = reference(K::api_version(&()), K::kind(&()), about.meta());
        if object.api_version.as_deref() == Some(SetKind::Apps.api_version()) {
            object.api_version = Some(self.sets.api_version().to_owned());
        }
        self.note(Note { object, severity, reason, message });
    }

    /// Records an event about an object of any kind, or a part of one. If too many wait, it is dropped.
    pub fn record_about(&self, about: &ObjectReference, severity: Severity, reason: &'static str, message: String) {
        self.note(Note { object: about.clone(), severity, reason, message });
    }

    fn note(&self, note: Note) {
        let reason = note.reason;
        if self.notes.try_send(note).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait");
        }
    }
}

fn reference(api_version: Cow<'_, str>, kind: Cow<'_, str>, meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.into_owned()),
        kind: Some(kind.into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Writer {
    client: Client,
    source: Source,
    now: Clock,
    correlator: Correlator,
    serial: u64,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Note>) {
        while let Some(note) = inbox.recv().await {
            let now = (self.now)();
            if timeout(WRITE_DEADLINE, self.write(&note, now)).await.is_err() {
                tracing::debug!(reason = note.reason, "an event was dropped: no answer in time");
            }
        }
    }

    async fn write(&mut self, note: &Note, now: Timestamp) {
        let (identity, decision) = self.correlator.decide(&note.happening(), now);
        let namespace = note.object.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        let message = match decision {
            Decision::Drop => return tracing::debug!(reason = note.reason, "an event was dropped: there are too many about this object"),
            Decision::Create { message } => message,
            Decision::Count { name, count, message } => {
                let again = json!({"count": count, "lastTimestamp": Time(now), "message": message});
                match api.patch(&name, &PatchParams::default(), &Patch::Merge(&again)).await {
                    Ok(_) => return self.correlator.wrote(identity, name, count),
                    Err(kube::Error::Api(status)) if status.code == 404 => self.correlator.lost(&identity),
                    Err(error) => return tracing::debug!(%error, reason = note.reason, "an event was not counted"),
                }
                message
            }
        };
        let event = self.event(note, message, namespace, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => self.correlator.wrote(identity, name, 1),
            Err(error) => tracing::debug!(%error, reason = note.reason, "an event was not written"),
        }
    }

    fn event(&mut self, note: &Note, message: String, namespace: &str, now: Timestamp) -> Event {
        self.serial += 1;
        let Source { component, host } = &self.source;
        let mut event = Event {
            involved_object: note.object.clone(),
            type_: Some(note.severity.name().to_owned()),
            reason: Some(note.reason.to_owned()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some((*component).to_owned()),
                host: Some(host.clone()).filter(|host| !host.is_empty()),
            }),
            reporting_component: Some((*component).to_owned()),
            reporting_instance: Some(host.clone()),
            ..Event::default()
        };
        // Two events of one instant get different names by the serial number.
        let instant = now.as_nanosecond().saturating_add(i128::from(self.serial));
        event.metadata.name = Some(format!("{}.{instant:x}", note.object.name.as_deref().unwrap_or_default()));
        event.metadata.namespace = Some(namespace.to_owned());
        event
    }
}

#[cfg(test)]
mod tests;
