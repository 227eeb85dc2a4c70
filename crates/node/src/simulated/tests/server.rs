//! A server of which only the transport and the rules of the kinds are made up: it keeps objects, and tells watches of changes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

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

type Answer = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    revision: u64,
    watches: Vec<(String, UnboundedSender<Bytes>)>,
    under_way: usize,
    writes: u32,
    /// Every so many writes fail.
    pub failing: Option<u32>,
    /// The most writes to pods that were under way at a time; the nodes' leases are renewed beside them.
    pub most_under_way: usize,
    /// Methods and paths of the writes that changed something.
    pub written: Vec<String>,
}

impl Server {
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        };
        Client::new(tower::service_fn(serve), "default")
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Writes an object as someone else; null deletes it.
    pub(super) fn put(&self, path: &str, change: Value) {
        self.state().put(path, change);
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if parts.method == Method::GET {
            return self.state().read(&path, parts.uri.query().unwrap_or_default());
        }
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let counted = usize::from(path.contains("/pods/"));
        self.state().begin(counted);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut state = self.state();
        state.under_way -= counted;
        state.write(&parts.method, path.trim_end_matches("/status"), body)
    }
}

impl State {
    fn begin(&mut self, counted: usize) {
        self.under_way += counted;
        self.most_under_way = self.most_under_way.max(self.under_way);
    }

    fn read(&mut self, path: &str, query: &str) -> Response<Answer> {
        let kind = path.rsplit('/').next().unwrap().to_owned();
        if query.contains("watch=true") {
            let (sender, receiver) = unbounded();
            self.watches.push((kind, sender));
            return Response::new(StreamBody::new(receiver.map(|line| Ok(Frame::data(line)))).boxed_unsync());
        }
        if let Some(object) = self.objects.get(path) {
            return whole(200, object);
        }
        if query.is_empty() {
            return failure(404);
        }
        let items: Vec<_> = self.objects.iter().filter(|(path, _)| kind_of(path) == kind).map(|(_, object)| object).collect();
        whole(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.revision.to_string()}, "items": items}))
    }

    fn write(&mut self, method: &Method, path: &str, body: Value) -> Response<Answer> {
        self.writes += 1;
        if self.failing.is_some_and(|every| self.writes.is_multiple_of(every)) {
            return failure(500);
        }
        let named = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
        let path = if *method == Method::POST { named } else { path.to_owned() };
        let found = self.objects.get(&path);
        let version = found.map(|found| found["metadata"]["resourceVersion"].clone());
        let uid = found.map(|found| found["metadata"]["uid"].clone());
        let expected = &body["metadata"]["resourceVersion"];
        let refused = match *method {
            Method::POST => found.is_some().then_some(409),
            Method::PATCH if !expected.is_null() && version.as_ref().is_some_and(|version| version != expected) => Some(409),
            Method::DELETE if uid.as_ref().is_some_and(|uid| *uid != body["preconditions"]["uid"]) => Some(409),
            _ => found.is_none().then_some(404),
        };
        if let Some(code) = refused {
            return failure(code);
        }
        self.written.push(format!("{method} {path}"));
        self.put(&path, if *method == Method::DELETE { Value::Null } else { body });
        self.objects
            .get(&path)
            .map_or_else(|| whole(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})), |object| whole(200, object))
    }

    fn put(&mut self, path: &str, change: Value) {
        self.revision += 1;
        let existed = self.objects.contains_key(path);
        let mut object = self.objects.remove(path).unwrap_or_else(|| json!({"metadata": {"uid": format!("uid-{}", self.revision)}}));
        let deleted = change.is_null();
        merge(&mut object, &if deleted { json!({}) } else { change });
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.tell(
            path,
            if deleted {
                "DELETED"
            } else if existed {
                "MODIFIED"
            } else {
                "ADDED"
            },
            &object,
        );
        if !deleted {
            self.objects.insert(path.to_owned(), object);
        }
    }

    fn tell(&mut self, path: &str, event: &str, object: &Value) {
        let mut line = serde_json::to_vec(&json!({"type": event, "object": object})).unwrap();
        line.push(b'\n');
        let watches = self.watches.iter().filter(|(kind, _)| kind == kind_of(path));
        watches.for_each(|(_, watch)| drop(watch.unbounded_send(line.clone().into())));
    }
}

fn kind_of(path: &str) -> &str {
    path.rsplit('/').nth(1).unwrap()
}

fn whole(code: u16, body: &Value) -> Response<Answer> {
    let body = Full::new(serde_json::to_vec(body).unwrap().into()).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn failure(code: u16) -> Response<Answer> {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    whole(code, &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "made up"}))
}

/// A JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}
