//! What is counted about requests, under the names it has in Kubernetes. Counting takes a look into a table that is rarely written
//! and a few atomic additions; everything else happens when somebody asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use kinds::registry::{RESOURCES, Subresource};
use kinds::reviews;
use store::Range;

use crate::context::Shared;
use crate::error::ApiError;
use crate::keys;
use crate::respond::{self, Response};
use crate::route::{Call, Route, Verb};

mod flow;
mod process;
mod text;

use text::Page;

/// Upper bounds of the classes of durations, in seconds: upstream's.
const BOUNDS: [f64; 23] =
    [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];

/// What requests are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    dry_run: bool,
    long: bool,
}

impl Subject {
    /// What a request is about; `long` if it may go on for as long as the client likes.
    pub fn of(route: &Route, long: bool) -> Self {
        if let Route::Review { review, namespace } = route {
            let scope = if namespace.is_empty() { "cluster" } else { "namespace" };
            let (group, version, resource) = (review.group, reviews::VERSION, review.plural);
            return Self { verb: "POST", group, version, resource, subresource: "", scope, dry_run: false, long };
        }
        let Route::Object(call) = route else {
            let path = match route {
                Route::Health { question, .. } => question.name(),
                Route::Version => "version",
                Route::Metrics => "metrics",
                Route::OpenApiIndex | Route::OpenApi { .. } | Route::OpenApiWhole => "openapi",
                _ => "",
            };
            let nothing = Self { verb: "GET", group: "", version: "", resource: "", subresource: path, scope: "", dry_run: false, long };
            return nothing;
        };
        let Call { resource, namespace, name, subresource, verb, .. } = call;
        let (verb, dry_run) = named(verb);
        let connects = subresource.is_some_and(Subresource::connects);
        let scope = match (name.is_empty(), namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        Self {
            verb: if connects { "CONNECT" } else { verb },
            group: resource.group,
            version: resource.version,
            resource: resource.plural,
            subresource: subresource.map_or("", Subresource::name),
            scope,
            dry_run,
            long,
        }
    }

    fn mutates(&self) -> bool {
        !matches!(self.verb, "GET" | "LIST" | "WATCH")
    }

    fn labels(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("component", "apiserver"),
            ("group", self.group),
            ("resource", self.resource),
            ("scope", self.scope),
            ("subresource", self.subresource),
            ("verb", self.verb),
            ("version", self.version),
        ]
    }

    fn labels_with_dry_run(&self) -> Vec<(&'static str, &'static str)> {
        let dry_run = ("dry_run", if self.dry_run { "All" } else { "" });
        self.labels().into_iter().chain([dry_run]).collect()
    }
}

/// A verb as metrics call it, and whether nothing is to be done.
fn named(verb: &Verb) -> (&'static str, bool) {
    match verb {
        Verb::Get => ("GET", false),
        Verb::List(_) => ("LIST", false),
        Verb::Watch(_) => ("WATCH", false),
        Verb::Create(options) => ("POST", options.dry_run),
        Verb::Update(options) => ("PUT", options.dry_run),
        Verb::Patch(_, options) => ("PATCH", options.dry_run),
        Verb::Apply(options) => ("APPLY", options.write.dry_run),
        Verb::Delete(options) => ("DELETE", options.dry_run),
        Verb::DeleteCollection(_, options) => ("DELETECOLLECTION", options.dry_run),
    }
}

/// What is counted of requests with one subject and one outcome.
#[derive(Debug, Default)]
struct Series {
    /// How many there were in each class of durations; the last one has no bound.
    classes: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Series {
    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let class = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.classes.iter().map(|class| class.load(Ordering::Relaxed)).sum()
    }
}

/// Counters of one kind by what they are about. There are as many as verbs, resources and status codes allow.
type Table<K, V> = RwLock<HashMap<K, Arc<V>>>;

/// What has been counted since the server began.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Table<(Subject, u16), Series>,
    /// Long ones under way.
    long: Table<Subject, AtomicI64>,
    /// Others under way.
    mutating: AtomicI64,
    reading: AtomicI64,
}

/// The entry of a key, made when it is first asked for.
fn entry<K: std::hash::Hash + Eq, V: Default>(table: &Table<K, V>, key: K) -> Arc<V> {
    if let Some(found) = table.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Arc::clone(found);
    }
    Arc::clone(table.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
}

/// All entries in order.
fn sorted<K: Copy + Ord, V>(table: &Table<K, V>) -> Vec<(K, Arc<V>)> {
    let table = table.read().unwrap_or_else(PoisonError::into_inner);
    let mut entries: Vec<_> = table.iter().map(|(key, value)| (*key, Arc::clone(value))).collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

/// A request under way, until it is dropped.
pub struct Measured {
    shared: Arc<Shared>,
    subject: Subject,
    since: Instant,
    code: u16,
}

impl Measured {
    /// A request that has just arrived.
    pub fn begin(shared: &Arc<Shared>, subject: Subject) -> Self {
        let measured = Self { shared: Arc::clone(shared), subject, since: Instant::now(), code: 0 };
        measured.add(1);
        measured
    }

    /// How it was answered.
    pub fn answered(&mut self, status: StatusCode) {
        self.code = status.as_u16();
    }

    fn add(&self, one: i64) {
        let metrics = &self.shared.metrics;
        match (self.subject.long, self.subject.mutates()) {
            (true, _) => entry(&metrics.long, self.subject).fetch_add(one, Ordering::Relaxed),
            (false, true) => metrics.mutating.fetch_add(one, Ordering::Relaxed),
            (false, false) => metrics.reading.fetch_add(one, Ordering::Relaxed),
        };
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.add(-1);
        entry(&self.shared.metrics.requests, (self.subject, self.code)).add(self.since.elapsed());
    }
}

/// `/metrics`.
pub async fn answer(shared: &Shared) -> Result<Response, ApiError> {
    let mut page = Page::default();
    requests(&shared.metrics, &mut page);
    flow::tell(&shared.gate, &mut page);
    let refused = shared.peers.refused() as f64;
    page.single("apiserver_refused_connections_total", "counter", "Connections closed because their peer had all it may have.", refused);
    if let Some(auditor) = &shared.config.audit {
        let (events, errors) = auditor.counts.told();
        page.single("apiserver_audit_event_total", "counter", "Records made for the audit log.", events as f64);
        page.family("apiserver_audit_error_total", "counter", "Records that could not be written.");
        page.sample("", &[("plugin", "log")], errors as f64);
    }
    page.family("apiserver_storage_objects", "gauge", "Number of stored objects.");
    for row in RESOURCES.iter().filter(|row| std::ptr::eq(row.stored(), *row)) {
        let prefix = keys::collection(row, "");
        let counted = shared.store.range(Range { prefix: &prefix, limit: Some(1), ..Range::default() }).await?;
        page.sample("", &[("resource", &row.qualified())], (counted.entries.len() + counted.remaining) as f64);
    }
    process::tell(&mut page);
    Ok(respond::typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.text()))
}

fn requests(metrics: &Metrics, page: &mut Page) {
    let requests = sorted(&metrics.requests);
    page.family("apiserver_request_total", "counter", "Requests by what they asked for and how they were answered.");
    for ((subject, code), series) in &requests {
        let code = code.to_string();
        let labels = subject.labels_with_dry_run();
        page.sample("", &[&labels[..], &[("code", &code)]].concat(), series.count() as f64);
    }
    page.family("apiserver_request_duration_seconds", "histogram", "How long requests took.");
    for of_subject in requests.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
        let labels = of_subject[0].0.0.labels_with_dry_run();
        let mut sum = 0;
        for (class, bound) in BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]).enumerate() {
            sum += of_subject.iter().map(|(_, series)| series.classes[class].load(Ordering::Relaxed)).sum::<u64>();
            page.sample("_bucket", &[&labels[..], &[("le", &bound)]].concat(), sum as f64);
        }
        let microseconds: u64 = of_subject.iter().map(|(_, series)| series.microseconds.load(Ordering::Relaxed)).sum();
        page.sample("_sum", &labels, microseconds as f64 / 1e6);
        page.sample("_count", &labels, sum as f64);
    }
    page.family("apiserver_current_inflight_requests", "gauge", "Requests under way, long ones excepted.");
    for (kind, count) in [("mutating", &metrics.mutating), ("readOnly", &metrics.reading)] {
        page.sample("", &[("request_kind", kind)], count.load(Ordering::Relaxed) as f64);
    }
    page.family("apiserver_longrunning_requests", "gauge", "Watches and streams that are open.");
    for (subject, count) in sorted(&metrics.long) {
        page.sample("", &subject.labels(), count.load(Ordering::Relaxed) as f64);
    }
}
