//! An API server for tests: it has one Service, no slices, and tells of slices as the test says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use informer::{Informer, Watched};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::client::Body;
use serde_json::{Value, json};

type Events = mpsc::UnboundedReceiver<Bytes>;

/// A cluster that is asked by list and watch.
pub(crate) struct Cluster {
    client: kube::Client,
    events: mpsc::UnboundedSender<Bytes>,
}

impl Cluster {
    /// With one Service.
    pub(crate) fn new(service: &Service) -> Self {
        let (events, receiver) = mpsc::unbounded();
        let (service, receiver) = (json!(service), Arc::new(Mutex::new(Some(receiver))));
        let answer = move |request: Request<Body>| {
            let response = respond(&request, &service, &receiver);
            async move { Ok::<_, Infallible>(Response::new(response)) }
        };
        Self { client: kube::Client::new(tower::service_fn(answer), "default"), events }
    }

    /// A live view of one resource.
    pub(crate) fn informer<K: Watched>(&self, plural: &str) -> Informer<K> {
        assert_eq!(K::plural(&()), plural);
        Informer::start(informer::Api::all(self.client.clone()))
    }

    /// Tells watchers of slices what happened.
    pub(crate) fn tell(&self, event: &str, slice: &EndpointSlice) {
        let mut object = json!(slice);
        object["metadata"]["resourceVersion"] = "2".into();
        let line = format!("{}\n", json!({"type": event, "object": object}));
        self.events.unbounded_send(line.into()).unwrap();
    }
}

fn respond(request: &Request<Body>, service: &Value, events: &Mutex<Option<Events>>) -> UnsyncBoxBody<Bytes, Infallible> {
    let slices = request.uri().path().ends_with("endpointslices");
    if !request.uri().query().unwrap_or_default().contains("watch=true") {
        let items = if slices { json!([]) } else { json!([service]) };
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items}).to_string();
        return Full::new(Bytes::from(list)).boxed_unsync();
    }
    let told = events.lock().unwrap().take_if(|_| slices);
    // A watch without news stays open.
    let lines = told.map_or_else(|| stream::pending().boxed(), StreamExt::boxed);
    StreamBody::new(lines.map(|line| Ok(http_body::Frame::data(line)))).boxed_unsync()
}
