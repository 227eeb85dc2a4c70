//! A small API server for these tests: every resource, namespaces, finalizers, deletion policies, bindings; no validation.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
type Refusal = (u16, &'static str);

/// Resource, namespace, name.
type Place = (String, String, String);

#[derive(Clone, Default)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    /// The newest revision.
    revision: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Place, Value>,
    revision: u64,
    log: Vec<(String, &'static str, Value)>,
    watches: Vec<(String, UnboundedSender<Bytes>)>,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let path = Path::parse(head.uri.path());
                let result = server.change(|state| state.answer(&head.method, path, head.uri.query().unwrap_or(""), body));
                Ok::<_, Infallible>(result.unwrap_or_else(failure))
            }
        };
        Client::new(tower::service_fn(serve), "default")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        self.revision.send_replace(state.revision);
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Creates an object; its namespace is `default` unless it says otherwise.
    pub(crate) fn create(&self, resource: &str, object: Value) {
        self.change(|state| state.create(resource, object).map(drop)).unwrap();
    }

    pub(crate) fn merge(&self, resource: &str, namespace: &str, name: &str, patch: &Value) {
        let place = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.change(|state| {
            let mut object = state.objects[&place].clone();
            merge(&mut object, patch);
            state.put(place, object)
        });
    }

    pub(crate) fn delete(&self, resource: &str, namespace: &str, name: &str, options: Value) {
        let place = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.change(|state| state.delete(place, &options).map(drop)).unwrap();
    }

    pub(crate) fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(resource.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a resource.
    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        self.state().objects.iter().filter(|((known, ..), _)| known == resource).map(|(_, object)| object.clone()).collect()
    }

    /// How often an object of this resource was written, by any means.
    pub(crate) fn writes(&self, resource: &str) -> usize {
        self.state().log.iter().filter(|(known, ..)| known == resource).count()
    }

    /// Waits until something is so, looking after every change.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let mut revision = self.revision.subscribe();
        let reached = async {
            while !wanted(self) {
                revision.changed().await.unwrap();
            }
        };
        let timeout = std::time::Duration::from_secs(20);
        if tokio::time::timeout(timeout, reached).await.is_err() {
            let objects: Vec<_> = self.state().objects.iter().map(|(place, object)| format!("{place:?} {object}\n")).collect();
            panic!("not reached: {what}\n{}", objects.concat());
        }
    }
}

struct Path {
    resource: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Path {
    fn parse(path: &str) -> Self {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        parts.drain(..if parts[0] == "apis" { 3 } else { 2 });
        // What lies in a namespace, and not a subresource of the namespace itself.
        let nested = parts.len() > 2 && parts[0] == "namespaces" && !matches!(parts[2], "status" | "finalize");
        let namespace = if nested { parts[1] } else { "" };
        let rest = if nested { &parts[2..] } else { &parts[..] };
        let part = |at: usize| rest.get(at).map(|part| (*part).to_owned());
        Self { resource: rest[0].to_owned(), namespace: namespace.to_owned(), name: part(1), subresource: part(2) }
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: Path, query: &str, body: Value) -> Result<Answer, Refusal> {
        let Path { resource, namespace, name, subresource } = path;
        let Some(name) = name else {
            return match *method {
                Method::GET if query.contains("watch=true") => Ok(self.watch(&resource, query)),
                Method::GET => Ok(self.list(&resource, &namespace)),
                Method::POST => Ok(success(&self.create(&resource, with_namespace(body, &namespace))?)),
                _ => Ok(self.delete_collection(&resource, &namespace, &body)),
            };
        };
        let place = (resource, namespace, name);
        let live = self.objects.get(&place).cloned().ok_or((404, "NotFound"))?;
        let given = if method == Method::DELETE { &body["preconditions"] } else { &body["metadata"] };
        let differs = |field: &str| !given[field].is_null() && given[field] != live["metadata"][field];
        if differs("resourceVersion") || differs("uid") {
            return Err((409, "Conflict"));
        }
        let new = match *method {
            Method::DELETE => return Ok(success(&self.delete(place, &body)?)),
            Method::GET => return Ok(success(&live)),
            Method::POST => bound(live, &body)?,
            Method::PATCH => merged(live, &body),
            _ => replaced(live, body, subresource.as_deref()),
        };
        Ok(success(&self.put(place, new)))
    }

    fn create(&mut self, resource: &str, mut object: Value) -> Result<Value, Refusal> {
        let cluster = matches!(resource, "namespaces" | "nodes" | "persistentvolumes" | "storageclasses");
        if !cluster && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = "default".into();
        }
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let place = (resource.to_owned(), text("namespace"), text("name"));
        if self.objects.contains_key(&place) {
            return Err((409, "AlreadyExists"));
        }
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{}", self.revision + 1).into();
        }
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        object["metadata"]["generation"] = 1.into();
        if resource == "pods" && object["status"]["phase"].is_null() {
            object["status"]["phase"] = "Pending".into();
        }
        if resource == "namespaces" {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
        }
        Ok(self.commit(place, "ADDED", object))
    }

    /// Stores an object, unless it was only waiting for its last finalizer to go.
    fn put(&mut self, place: Place, object: Value) -> Value {
        let none = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
        let held = !none(&object["metadata"]["finalizers"]) || !none(&object["spec"]["finalizers"]);
        let runs = place.0 == "pods" && object["metadata"]["deletionGracePeriodSeconds"] != 0;
        if !object["metadata"]["deletionTimestamp"].is_null() && !held && !runs {
            let object = self.commit(place.clone(), "DELETED", object);
            self.objects.remove(&place);
            return object;
        }
        self.commit(place, "MODIFIED", object)
    }

    fn delete(&mut self, place: Place, options: &Value) -> Result<Value, Refusal> {
        let mut object = self.objects.get(&place).cloned().ok_or((404, "NotFound"))?;
        let finalizer = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        let mut finalizers: Vec<Value> = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        finalizers.extend(finalizer.map(Value::from).filter(|new| !finalizers.contains(new)));
        let bound = object["spec"]["nodeName"].is_string();
        let grace = options["gracePeriodSeconds"].as_i64().unwrap_or(if bound { 30 } else { 0 });
        merge(
            &mut object,
            &json!({"metadata": {"finalizers": finalizers, "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}}),
        );
        Ok(self.put(place, object))
    }

    fn delete_collection(&mut self, resource: &str, namespace: &str, options: &Value) -> Answer {
        let inside = |place: &&Place| place.0 == resource && place.1 == namespace;
        let places: Vec<_> = self.objects.keys().filter(inside).cloned().collect();
        places.into_iter().for_each(|place| drop(self.delete(place, options)));
        success(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}))
    }

    fn commit(&mut self, place: Place, change: &'static str, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let line = event_line(change, &object);
        self.watches.retain(|(resource, watch)| *resource != place.0 || watch.unbounded_send(line.clone()).is_ok());
        self.log.push((place.0.clone(), change, object.clone()));
        self.objects.insert(place, object.clone());
        object
    }

    fn list(&self, resource: &str, namespace: &str) -> Answer {
        let inside = |place: &Place| place.0 == resource && (namespace.is_empty() || place.1 == namespace);
        let items: Vec<_> = self.objects.iter().filter(|(place, _)| inside(place)).map(|(_, object)| object).collect();
        success(&json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": self.revision.to_string()}, "items": items}))
    }

    fn watch(&mut self, resource: &str, query: &str) -> Answer {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok()).unwrap_or(0_u64);
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse().unwrap_or(0_u64);
        let (sender, receiver) = unbounded();
        for (_, change, object) in self.log.iter().filter(|(known, _, object)| known == resource && version(object) > since) {
            sender.unbounded_send(event_line(change, object)).unwrap();
        }
        self.watches.push((resource.to_owned(), sender));
        Response::new(StreamBody::new(receiver.map(|line| Ok(Frame::data(line)))).boxed_unsync())
    }
}

fn with_namespace(mut object: Value, namespace: &str) -> Value {
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn bound(mut pod: Value, binding: &Value) -> Result<Value, Refusal> {
    if pod["spec"]["nodeName"].is_string() {
        return Err((409, "Conflict"));
    }
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    Ok(pod)
}

fn replaced(live: Value, mut given: Value, subresource: Option<&str>) -> Value {
    if subresource == Some("status") {
        let mut live = live;
        live["status"] = given["status"].take();
        return live;
    }
    given["status"] = live["status"].clone();
    given
}

/// Merges; conditions are merged by their type, as the strategic patch does.
fn merged(mut live: Value, patch: &Value) -> Value {
    let mut patch = patch.clone();
    if let Some(new) = patch["status"]["conditions"].as_array().cloned() {
        let mut conditions = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|known| !new.iter().any(|new| new["type"] == known["type"]));
        conditions.extend(new);
        patch["status"]["conditions"] = conditions.into();
    }
    merge(&mut live, &patch);
    live
}

fn merge(target: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().into_iter().flatten() {
        if !value.is_object() {
            target[key] = value.clone();
            continue;
        }
        if !target[key].is_object() {
            target[key] = json!({});
        }
        merge(&mut target[key], value);
    }
}

fn event_line(change: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": change, "object": object})).into()
}

fn success(object: &Value) -> Answer {
    Response::new(Full::from(object.to_string()).boxed_unsync())
}

fn failure((code, reason): Refusal) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code});
    let mut answer = success(&status);
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}
