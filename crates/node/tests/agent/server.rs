//! The little of an API server that an agent needs: objects, watches, status patches, graceful deletion.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
/// Resource and name; all is in one namespace.
type Place = (String, String);

#[derive(Default)]
struct State {
    objects: BTreeMap<Place, Value>,
    revision: u64,
    watches: Vec<(String, mpsc::UnboundedSender<Bytes>)>,
}

#[derive(Clone, Default)]
pub struct Server {
    state: Arc<Mutex<State>>,
    revision: Arc<watch::Sender<u64>>,
}

impl Server {
    pub fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                Ok::<_, Infallible>(server.answer(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), &body))
            }
        };
        Client::new(tower::service_fn(serve), "shop")
    }

    pub fn put(&self, resource: &str, name: &str, mut object: Value) -> Value {
        let mut state = self.state.lock().expect("no panic");
        state.revision += 1;
        let place = (resource.to_owned(), name.to_owned());
        let known = state.objects.contains_key(&place);
        object["metadata"]["name"] = name.into();
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{}", state.revision).into();
        }
        state.tell(resource, if known { "MODIFIED" } else { "ADDED" }, &object);
        state.objects.insert(place, object.clone());
        self.revision.send_replace(state.revision);
        object
    }

    pub fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.state.lock().expect("no panic").objects.get(&(resource.to_owned(), name.to_owned())).cloned()
    }

    pub fn all(&self, resource: &str) -> Vec<Value> {
        let state = self.state.lock().expect("no panic");
        state.objects.iter().filter(|((known, _), _)| known == resource).map(|(_, object)| object.clone()).collect()
    }

    /// Asks for a pod's end.
    pub fn delete(&self, name: &str, grace: i64) {
        let mut pod = self.get("pods", name).expect("a pod");
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        pod["metadata"]["deletionTimestamp"] = until.to_string().into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.put("pods", name, pod);
    }

    /// Waits until an object is as wanted, looking after every change.
    pub async fn until(&self, resource: &str, name: &str, wanted: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let mut revision = self.revision.subscribe();
        let reached = async {
            loop {
                let object = self.get(resource, name);
                if wanted(object.as_ref()) {
                    return object;
                }
                revision.changed().await.expect("the server lives");
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(30), reached).await {
            Ok(object) => object,
            Err(_) => panic!("not reached: {:#}\n{:#?}", self.get(resource, name).unwrap_or_default(), self.told()),
        }
    }

    /// What events say.
    pub fn told(&self) -> Vec<String> {
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        self.all("events").iter().map(|event| format!("{} {}", text(event, "reason"), text(event, "message"))).collect()
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &Value) -> Answer {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        parts.drain(..if parts[0] == "apis" { 3 } else { 2 });
        if parts.len() > 2 && parts[0] == "namespaces" {
            parts.drain(..2);
        }
        let (resource, name, subresource) = (parts[0], parts.get(1).copied(), parts.get(2).copied());
        match (method, name) {
            (&Method::GET, None) if query.contains("watch=true") => self.watch(resource),
            (&Method::GET, None) => {
                let version = self.state.lock().expect("no panic").revision.to_string();
                ok(&json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": self.all(resource) }))
            }
            (&Method::POST, Some(_)) if subresource == Some("token") => {
                let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
                ok(
                    &json!({ "metadata": {}, "spec": { "audiences": [] }, "status": { "token": "token", "expirationTimestamp": until.to_string() } }),
                )
            }
            (&Method::POST, None) => {
                let name = body["metadata"]["name"].as_str().expect("a name");
                if self.get(resource, name).is_some() { refuse(409, "AlreadyExists") } else { ok(&self.put(resource, name, body.clone())) }
            }
            (_, Some(name)) => match self.get(resource, name) {
                None => refuse(404, "NotFound"),
                Some(object) => self.change(method, resource, name, object, body),
            },
            _ => refuse(405, "MethodNotAllowed"),
        }
    }

    fn change(&self, method: &Method, resource: &str, name: &str, mut object: Value, body: &Value) -> Answer {
        match *method {
            Method::PATCH => {
                merge(&mut object, body);
                ok(&self.put(resource, name, object))
            }
            Method::DELETE => {
                let mut state = self.state.lock().expect("no panic");
                state.revision += 1;
                object["metadata"]["resourceVersion"] = state.revision.to_string().into();
                state.tell(resource, "DELETED", &object);
                state.objects.remove(&(resource.to_owned(), name.to_owned()));
                self.revision.send_replace(state.revision);
                ok(&object)
            }
            _ => ok(&object),
        }
    }

    fn watch(&self, resource: &str) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state.lock().expect("no panic");
        // Everything again: nothing is missed between list and watch, and the informer takes it.
        for ((known, _), object) in &state.objects {
            if known == resource {
                sender.send(line("MODIFIED", object)).expect("the receiver lives");
            }
        }
        state.watches.push((resource.to_owned(), sender));
        let lines = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        Response::new(StreamBody::new(lines.map(|line| Ok(Frame::data(line)))).boxed_unsync())
    }
}

impl State {
    fn tell(&mut self, resource: &str, change: &str, object: &Value) {
        let line = line(change, object);
        self.watches.retain(|(known, sender)| known != resource || sender.send(line.clone()).is_ok());
    }
}

fn line(change: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": change, "object": object })))
}

fn ok(object: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(object.to_string())).boxed_unsync())
}

fn refuse(code: u16, reason: &str) -> Answer {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": reason, "code": code });
    let mut answer = ok(&status);
    *answer.status_mut() = StatusCode::from_u16(code).expect("a code");
    answer
}

/// A merge patch; lists of conditions are merged by type.
fn merge(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        match (name.as_str(), value) {
            (_, Value::Null) => drop(into.as_object_mut().expect("an object").remove(name)),
            ("conditions", Value::Array(conditions)) => {
                let list = into[name].as_array().cloned().unwrap_or_default();
                let kept = list.into_iter().filter(|old| !conditions.iter().any(|new| new["type"] == old["type"]));
                into[name] = kept.chain(conditions.iter().cloned()).collect();
            }
            _ => merge(&mut into[name], value),
        }
    }
}
