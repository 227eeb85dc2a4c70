//! Who did what and when, on record: upstream's audit log, if one is wanted.
//!
//! Requests wait when records come faster than they can be written: nothing that was answered is missing, unless the disk refuses
//! it, which is counted.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::value::RawValue;

use crate::auth::Identity;
use crate::random;
use crate::route::Route;
use crate::service::Caller;

mod event;
mod file;
mod policy;
mod queue;
mod subject;

use event::{Event, ObjectRef, ResponseStatus, User};
pub use file::Place;
use policy::{Asked, Judgement, Level, Stage};
pub use policy::{Policy, PolicyError};
use queue::Queue;

/// Records that may wait to be written, and the bytes that they may have together.
const RECORDS: usize = 10_000;
const BYTES: u32 = 64 << 20;
/// The longest object that is put on record, in bytes.
const LARGEST_OBJECT: usize = 1 << 20;
/// The longest name that a client may give its request.
const LONGEST_NAME: usize = 64;

/// What has been put on record.
#[derive(Debug, Default)]
pub struct Counts {
    events: AtomicU64,
    errors: AtomicU64,
}

impl Counts {
    fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that were made, and failures to write some.
    pub fn told(&self) -> (u64, u64) {
        (self.events.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed))
    }
}

/// Puts requests on record. When the last owner drops it, what waits is written first.
#[derive(Debug)]
pub struct Auditor {
    policy: Policy,
    lines: Option<Queue>,
    pub counts: Arc<Counts>,
    writer: Option<JoinHandle<()>>,
}

impl Auditor {
    /// Puts on record what a policy says.
    pub fn open(place: Place, policy: Policy) -> io::Result<Arc<Self>> {
        let log = file::Log::open(place)?;
        let (lines, waiting) = Queue::new(RECORDS, BYTES);
        let counts = Arc::new(Counts::default());
        let own = Arc::clone(&counts);
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || log.run(waiting, &own))?;
        Ok(Arc::new(Self { policy, lines: Some(lines), counts, writer: Some(writer) }))
    }

    /// Hands a record over as soon as there is room.
    async fn put(&self, line: Bytes) {
        let Some(lines) = &self.lines else { return };
        if !lines.put(line).await {
            self.counts.failed();
        }
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        drop(self.lines.take());
        // The thread ends once it has written what waits.
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            tracing::error!("the writer of the audit log had ended before");
        }
    }
}

/// What a request is called in the log and in its answer: as the client says, or something of ours.
pub fn name(headers: &HeaderMap) -> String {
    let given = headers.get("audit-id").and_then(|name| name.to_str().ok());
    given.filter(|name| (1..=LONGEST_NAME).contains(&name.len())).map_or_else(random::uid, str::to_owned)
}

/// One request, as far as it is known.
pub struct Record {
    auditor: Arc<Auditor>,
    name: String,
    uri: String,
    source_ips: Vec<String>,
    user_agent: String,
    received: Timestamp,
    user: Identity,
    impersonated: Option<Identity>,
    verb: String,
    object: Option<ObjectRef>,
    judgement: Option<Judgement>,
    sent: Option<Box<RawValue>>,
    answered: Option<Box<RawValue>>,
    status: Option<Status>,
    annotations: BTreeMap<&'static str, String>,
}

impl Record {
    /// A request that has just arrived.
    pub fn begin(auditor: &Arc<Auditor>, name: &str, parts: &Parts, caller: &Caller) -> Self {
        Self {
            auditor: Arc::clone(auditor),
            name: name.to_owned(),
            uri: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            source_ips: subject::source_ips(&parts.headers, caller),
            user_agent: parts
                .headers
                .get("user-agent")
                .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned())
                .unwrap_or_default(),
            received: Timestamp::now(),
            user: Identity::default(),
            impersonated: None,
            verb: parts.method.as_str().to_lowercase(),
            object: None,
            judgement: None,
            sent: None,
            answered: None,
            status: None,
            annotations: BTreeMap::new(),
        }
    }

    /// What it asks for, if that is anything.
    pub fn about(&mut self, route: Option<&Route>) {
        if let Some((verb, object)) = route.and_then(subject::of) {
            self.verb = verb.to_owned();
            self.object = Some(object);
        }
    }

    /// Who asks. Rules are about them, whomever they act as.
    pub async fn asks(&mut self, user: &Identity) {
        self.user = user.clone();
        self.judge();
        self.tell(Stage::RequestReceived).await;
    }

    /// As whom the request is treated.
    pub fn acts_as(&mut self, effective: &Identity) {
        self.impersonated = (*effective != self.user).then(|| effective.clone());
    }

    /// Whether and why it was allowed.
    pub fn decided(&mut self, decision: &'static str, reason: &str) {
        self.annotations.insert("authorization.k8s.io/decision", decision.to_owned());
        self.annotations.insert("authorization.k8s.io/reason", reason.to_owned());
    }

    /// What was sent, read as JSON by `json` if it is to be put on record.
    pub fn sent<'b>(&mut self, json: impl FnOnce() -> Option<std::borrow::Cow<'b, [u8]>>) {
        if self.level() >= Level::Request {
            self.sent = json().and_then(|json| self.object_of(&json));
        }
    }

    /// Whether answers' bodies are put on record.
    pub fn wants_answer(&self) -> bool {
        self.level() >= Level::RequestResponse
    }

    /// What was answered.
    pub fn answered(&mut self, json: &[u8]) {
        self.answered = self.object_of(json);
    }

    /// Why it was refused.
    pub fn refused(&mut self, status: Status) {
        self.status = Some(status);
    }

    /// An answer that may go on for as long as the client likes has begun.
    pub async fn started(&mut self, status: StatusCode) {
        self.ended_with(status);
        self.tell(Stage::ResponseStarted).await;
    }

    /// It has been answered.
    pub async fn completed(mut self, status: StatusCode) {
        self.ended_with(status);
        self.tell(Stage::ResponseComplete).await;
    }

    fn ended_with(&mut self, status: StatusCode) {
        self.judge();
        self.status.get_or_insert_with(|| Status { code: Some(status.as_u16().into()), ..Status::default() });
    }

    fn judge(&mut self) {
        if self.judgement.is_some() {
            return;
        }
        let Identity { user, groups, .. } = &self.user;
        let target = self.object.as_ref().map(subject::target);
        let path = self.uri.split('?').next().unwrap_or_default();
        let asked = Asked { user, groups, verb: &self.verb, path, target };
        self.judgement = Some(self.auditor.policy.judge(&asked));
    }

    fn level(&self) -> Level {
        self.judgement.as_ref().map_or(Level::None, |judgement| judgement.level)
    }

    fn object_of(&mut self, json: &[u8]) -> Option<Box<RawValue>> {
        if json.len() > LARGEST_OBJECT {
            self.annotations.insert("audit.k8s.io/truncated", "true".to_owned());
            return None;
        }
        let omits = self.judgement.as_ref().is_some_and(|judgement| judgement.omits_managed_fields);
        event::object(json, omits)
    }

    /// The line to write at a stage, if one is.
    fn line(&self, stage: Stage) -> Option<Bytes> {
        let judgement = self.judgement.as_ref()?;
        if judgement.level == Level::None || judgement.omitted.contains(&stage) {
            return None;
        }
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: judgement.level,
            audit_id: &self.name,
            stage,
            request_uri: &self.uri,
            verb: &self.verb,
            user: User::from(&self.user),
            impersonated_user: self.impersonated.as_ref().map(User::from),
            source_ips: &self.source_ips,
            user_agent: &self.user_agent,
            object_ref: self.object.as_ref(),
            response_status: self.status.as_ref().map(ResponseStatus::from),
            request_object: self.sent.as_deref(),
            response_object: self.answered.as_deref(),
            request_received_timestamp: event::time(self.received),
            stage_timestamp: event::time(Timestamp::now()),
            annotations: &self.annotations,
        };
        let mut line = serde_json::to_vec(&event).ok()?;
        line.push(b'\n');
        self.auditor.counts.events.fetch_add(1, Ordering::Relaxed);
        Some(line.into())
    }

    async fn tell(&self, stage: Stage) {
        if let Some(line) = self.line(stage) {
            self.auditor.put(line).await;
        }
    }
}

/// A request whose answer goes on: that it is over is put on record when this is dropped.
pub struct Open(pub Option<Record>);

impl Drop for Open {
    fn drop(&mut self) {
        let Some(record) = self.0.take() else { return };
        let Some(line) = record.line(Stage::ResponseComplete) else { return };
        let Some(Err(line)) = record.auditor.lines.as_ref().map(|lines| lines.try_put(line)) else { return };
        let auditor = Arc::clone(&record.auditor);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { auditor.put(line).await })),
            Err(_) => auditor.counts.failed(),
        }
    }
}
