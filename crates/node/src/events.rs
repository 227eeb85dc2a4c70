//! Tells people what happens to pods. Events never hold up work: when the API is slow, they are dropped.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

/// What waits to be written at most.
const QUEUE: usize = 1024;
/// Series that are remembered, to count instead of writing again.
const SERIES: usize = 4096;

/// Whether all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
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

#[derive(Debug)]
struct Entry {
    regarding: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Writes events. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Entry>,
}

impl Recorder {
    /// Starts the writer, which ends with the last recorder.
    pub fn start(client: Client, host: String) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { client, host, series: HashMap::new() }.run(entries));
        Self { queue }
    }

    /// Tells something about an object.
    pub fn record(&self, regarding: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        let entry = Entry { regarding, severity, reason, message, at: Timestamp::now() };
        if self.queue.try_send(entry).is_err() {
            tracing::warn!(reason, "an event was dropped: too many wait to be written");
        }
    }
}

/// What makes two events the same: uid, part of the object, reason and message.
type Key = (String, String, &'static str, String);

struct Written {
    name: String,
    count: i32,
}

struct Writer {
    client: Client,
    host: String,
    series: HashMap<Key, Written>,
}

impl Writer {
    async fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        while let Some(entry) = entries.recv().await {
            if let Err(error) = self.write(entry).await {
                tracing::debug!(%error, "an event could not be written");
            }
        }
    }

    async fn write(&mut self, entry: Entry) -> Result<(), kube::Error> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let regarding = &entry.regarding;
        let key = (text(&regarding.uid), text(&regarding.field_path), entry.reason, entry.message.clone());
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Some(written) = self.series.get_mut(&key) {
            written.count += 1;
            let patch = json!({ "count": written.count, "lastTimestamp": Time(entry.at) });
            match events.patch(&written.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                // It has expired: write it anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let name = format!("{}.{:x}", text(&regarding.name), entry.at.as_nanosecond());
        events.create(&PostParams::default(), &self.event(&entry, &name, namespace)).await?;
        if self.series.len() >= SERIES {
            self.series.clear();
        }
        self.series.insert(key, Written { name, count: 1 });
        Ok(())
    }

    fn event(&self, entry: &Entry, name: &str, namespace: String) -> Event {
        Event {
            metadata: ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: entry.regarding.clone(),
            type_: Some(entry.severity.name().to_owned()),
            reason: Some(entry.reason.to_owned()),
            message: Some(entry.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(entry.at)),
            last_timestamp: Some(Time(entry.at)),
            source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(self.host.clone()) }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        }
    }
}
