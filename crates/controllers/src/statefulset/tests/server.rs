//! A server that keeps what it is given, in namespace `default`: no validation, no defaults, no garbage collection.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<(String, String), Value>,
    revision: u64,
    /// Every change: plural, type, object.
    log: Vec<(String, &'static str, Value)>,
    watches: Vec<(String, UnboundedSender<Bytes>)>,
    refusals: HashMap<String, usize>,
}

/// What a path names.
struct Target {
    plural: String,
    name: Option<String>,
    status: bool,
}

impl Server {
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                Ok::<_, Infallible>(server.state().answer(&head.method, head.uri.path(), head.uri.query().unwrap_or(""), body))
            }
        };
        Client::new(tower::service_fn(serve), "default")
    }

    pub(super) fn create(&self, plural: &str, object: Value) {
        self.state().create(plural, object);
    }

    pub(super) fn merge(&self, plural: &str, name: &str, patch: &Value) {
        let mut state = self.state();
        if state.objects.contains_key(&key(plural, name)) {
            state.merge(plural, name, patch);
        }
    }

    pub(super) fn remove(&self, plural: &str, name: &str) {
        self.state().remove(plural, name);
    }

    /// Refuses the next creations of this resource.
    pub(super) fn refuse(&self, plural: &str, times: usize) {
        self.state().refusals.insert(plural.to_owned(), times);
    }

    pub(super) fn get(&self, plural: &str, name: &str) -> Value {
        self.state().objects[&key(plural, name)].clone()
    }

    pub(super) fn names(&self, plural: &str) -> Vec<String> {
        let state = self.state();
        state.objects.keys().filter(|(resource, _)| resource == plural).map(|(_, name)| name.clone()).collect()
    }

    /// The names of all that was ever added, or deleted, in order.
    pub(super) fn log(&self, plural: &str, kind: &str) -> Vec<String> {
        let state = self.state();
        let entries = state.log.iter().filter(|(resource, change, _)| resource == plural && *change == kind);
        entries.map(|(_, _, object)| text(&object["metadata"]["name"])).collect()
    }

    /// `type reason message` of each event, in the order of their creation.
    pub(super) fn events(&self) -> Vec<String> {
        let state = self.state();
        let added = state.log.iter().filter(|(resource, change, _)| resource == "events" && *change == "ADDED");
        added.map(|(_, _, event)| ["type", "reason", "message"].map(|field| text(&event[field])).join(" ")).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: Value) -> Answer {
        let Target { plural, name, status } = parse(path);
        match (method, name) {
            (&Method::GET, None) if query.contains("watch=true") => self.watch(&plural, query),
            (&Method::GET, None) => self.list(&plural),
            (&Method::POST, _) => self.post(&plural, body),
            (_, None) => failure(405, "MethodNotAllowed"),
            (method, Some(name)) => self.on_one(method, &plural, &name, status, body),
        }
    }

    fn on_one(&mut self, method: &Method, plural: &str, name: &str, status: bool, body: Value) -> Answer {
        let Some(live) = self.objects.get(&key(plural, name)).cloned() else { return failure(404, "NotFound") };
        let given = if method == Method::DELETE { &body["preconditions"] } else { &body["metadata"] };
        let differs = |field: &str| !given[field].is_null() && given[field] != live["metadata"][field];
        if differs("resourceVersion") || differs("uid") {
            return failure(409, "Conflict");
        }
        match *method {
            Method::DELETE if plural == "pods" && live["metadata"]["deletionTimestamp"].is_null() => {
                success(&self.merge(plural, name, &json!({"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})))
            }
            Method::DELETE if plural == "pods" => success(&live),
            Method::DELETE => success(&self.remove(plural, name)),
            Method::PATCH => success(&self.merge(plural, name, &body)),
            Method::PUT if status => success(&self.put(plural, name, with(live, "status", body["status"].clone()))),
            Method::PUT => success(&self.put(plural, name, body)),
            _ => success(&live),
        }
    }

    fn post(&mut self, plural: &str, body: Value) -> Answer {
        if let Some(left) = self.refusals.get_mut(plural).filter(|left| **left > 0) {
            *left -= 1;
            return failure(403, "Forbidden");
        }
        match self.objects.contains_key(&key(plural, &text(&body["metadata"]["name"]))) {
            true => failure(409, "AlreadyExists"),
            false => success(&self.create(plural, body)),
        }
    }

    fn create(&mut self, plural: &str, mut object: Value) -> Value {
        object["metadata"]["uid"] = format!("uid-{}", self.revision + 1).into();
        object["metadata"]["generation"] = 1.into();
        if plural == "pods" {
            object["status"]["phase"] = "Pending".into();
        }
        let name = text(&object["metadata"]["name"]);
        self.commit(plural, &name, "ADDED", object)
    }

    fn merge(&mut self, plural: &str, name: &str, patch: &Value) -> Value {
        let mut object = self.objects[&key(plural, name)].clone();
        merge(&mut object, patch);
        if !patch["spec"].is_null() {
            object["metadata"]["generation"] = (object["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        self.put(plural, name, object)
    }

    fn put(&mut self, plural: &str, name: &str, object: Value) -> Value {
        self.commit(plural, name, "MODIFIED", object)
    }

    fn remove(&mut self, plural: &str, name: &str) -> Value {
        let Some(object) = self.objects.get(&key(plural, name)).cloned() else { return Value::Null };
        let object = self.commit(plural, name, "DELETED", object);
        self.objects.remove(&key(plural, name));
        object
    }

    fn commit(&mut self, plural: &str, name: &str, change: &'static str, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.objects.insert(key(plural, name), object.clone());
        self.log.push((plural.to_owned(), change, object.clone()));
        let line = event_line(change, &object);
        self.watches.retain(|(resource, watch)| resource != plural || watch.unbounded_send(line.clone()).is_ok());
        object
    }

    fn list(&self, plural: &str) -> Answer {
        let items: Vec<_> = self.objects.iter().filter(|((resource, _), _)| resource == plural).map(|(_, object)| object).collect();
        success(&json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": self.revision.to_string()}, "items": items}))
    }

    /// What happened since the asked version, and then what happens.
    fn watch(&mut self, plural: &str, query: &str) -> Answer {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok()).unwrap_or(0_u64);
        let (sender, receiver) = unbounded();
        let version = |object: &Value| text(&object["metadata"]["resourceVersion"]).parse().unwrap_or(0_u64);
        for (_, change, object) in self.log.iter().filter(|(resource, _, object)| resource == plural && version(object) > since) {
            sender.unbounded_send(event_line(change, object)).unwrap();
        }
        self.watches.push((plural.to_owned(), sender));
        Response::new(StreamBody::new(receiver.map(|line| Ok(Frame::data(line)))).boxed_unsync())
    }
}

/// `/api/v1/pods`, `/apis/apps/v1/namespaces/default/statefulsets/web/status`.
fn parse(path: &str) -> Target {
    let mut parts = path.trim_start_matches('/').split('/').skip(if path.starts_with("/apis/") { 3 } else { 2 }).peekable();
    let first = parts.next().unwrap_or_default();
    let plural = match (first, parts.peek().is_some()) {
        ("namespaces", true) => parts.nth(1).unwrap_or_default(),
        (plural, _) => plural,
    };
    Target { plural: plural.to_owned(), name: parts.next().map(str::to_owned), status: parts.next() == Some("status") }
}

fn key(plural: &str, name: &str) -> (String, String) {
    (plural.to_owned(), name.to_owned())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else { return };
    for (key, value) in fields {
        match value {
            Value::Object(_) => {
                if !target[key].is_object() {
                    target[key] = json!({});
                }
                merge(&mut target[key], value);
            }
            other => target[key] = other.clone(),
        }
    }
}

fn event_line(change: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": change, "object": object})).into()
}

fn success(object: &Value) -> Answer {
    Response::new(Full::from(object.to_string()).boxed_unsync())
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code});
    let mut answer = success(&status);
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
    answer
}
