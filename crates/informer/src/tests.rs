//! The informer against a server of which only the transport is made up.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::core::v1::ConfigMap;
use kinds::{KeptAnyway, ObjectKey};
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::{Change, Informer};

/// Answers each list with what it holds, and each watch with what is sent into it.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

type Answer = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Default)]
struct State {
    items: Vec<Value>,
    revision: u64,
    watches: Vec<UnboundedSender<Bytes>>,
    /// Whether what is sent is kept anyway.
    keeps: bool,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request.uri().query().unwrap_or_default())) }
        };
        Client::new(tower::service_fn(serve), "default")
    }

    fn answer(&self, query: &str) -> Response<Answer> {
        let mut state = self.0.lock().unwrap();
        if query.contains("watch=true") {
            let (sender, receiver) = unbounded();
            state.watches.push(sender);
            let mut answer = Response::new(stream(receiver));
            if state.keeps {
                answer.extensions_mut().insert(KeptAnyway);
            }
            return answer;
        }
        let list = json!({"kind": "ConfigMapList", "apiVersion": "v1",
            "metadata": {"resourceVersion": state.revision.to_string()}, "items": state.items});
        Response::new(Full::new(serde_json::to_vec(&list).unwrap().into()).boxed_unsync())
    }

    fn list(&self, revision: u64, items: Vec<Value>) {
        let mut state = self.0.lock().unwrap();
        (state.revision, state.items) = (revision, items);
    }

    /// Sends an event to the newest watch, once there is one.
    async fn send(&self, kind: &str, object: Value) {
        self.send_piece(line(kind, &object)).await;
    }

    async fn send_piece(&self, piece: impl Into<Bytes>) {
        self.watch().await.unbounded_send(piece.into()).unwrap();
    }

    async fn watch(&self) -> UnboundedSender<Bytes> {
        loop {
            if let Some(open) = self.0.lock().unwrap().watches.last().filter(|watch| !watch.is_closed()) {
                return open.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// An event as a server writes it.
fn line(kind: &str, object: &Value) -> Vec<u8> {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

fn stream(lines: UnboundedReceiver<Bytes>) -> Answer {
    StreamBody::new(lines.map(|line| Ok(Frame::data(line)))).boxed_unsync()
}

fn map(name: &str, revision: u64, owner: Option<&str>) -> Value {
    let owners: Vec<_> =
        owner.into_iter().map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": uid, "controller": true})).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"),
        "resourceVersion": revision.to_string(), "ownerReferences": owners}})
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
    objects.iter().map(|object| object.name_any()).collect()
}

/// `name old-revision>new-revision`, a dash for absence.
fn told(changes: &[Change<ConfigMap>]) -> Vec<String> {
    let version = |object: &Option<Arc<ConfigMap>>| object.as_ref().and_then(|object| object.resource_version()).unwrap_or("-".into());
    changes.iter().map(|change| format!("{} {}>{}", change.key.name, version(&change.old), version(&change.new))).collect()
}

async fn started(server: &Server) -> Informer<ConfigMap> {
    let informer = Informer::start(crate::Api::all(server.client()));
    informer.synced().await;
    informer
}

#[tokio::test]
async fn a_view_shows_the_list_and_then_each_change() {
    let server = Server::default();
    server.list(5, vec![map("a", 3, None), map("b", 5, None)]);
    let informer = started(&server).await;
    assert_eq!((names(&informer.list()), informer.revision()), (vec!["a".into(), "b".into()], 5));

    server.send("ADDED", map("c", 6, None)).await;
    server.send("DELETED", map("a", 7, None)).await;
    informer.caught_up("7").await;
    assert_eq!(names(&informer.in_namespace("default")), ["b", "c"]);
    assert_eq!(names(&informer.with_prefix("default", "c")), ["c"]);
    assert!(informer.in_namespace("defaul").is_empty() && informer.get(&key("a")).is_none());
}

#[tokio::test]
async fn a_subscriber_is_told_of_what_exists_and_then_of_the_sum_of_changes() {
    let server = Server::default();
    server.list(5, vec![map("a", 3, None), map("b", 5, None)]);
    let informer = started(&server).await;
    let mut subscription = informer.subscribe();
    assert_eq!(told(&subscription.changes().await), ["a ->3", "b ->5"]);
    assert!(subscription.changes().now_or_never().is_none());

    server.send("MODIFIED", map("a", 6, None)).await;
    server.send("MODIFIED", map("a", 7, None)).await;
    server.send("DELETED", map("b", 8, None)).await;
    informer.caught_up("8").await;
    assert_eq!(told(&subscription.changes().await), ["a 3>7", "b 5>-"]);
}

#[tokio::test]
async fn objects_are_found_by_their_controlling_owner_as_it_changes() {
    let server = Server::default();
    server.list(5, vec![map("a", 3, Some("u1")), map("b", 5, None)]);
    let informer = started(&server).await;
    assert_eq!((names(&informer.owned_by("u1")), names(&informer.orphans("default"))), (vec!["a".into()], vec!["b".into()]));

    server.send("MODIFIED", map("b", 6, Some("u1"))).await;
    server.send("MODIFIED", map("a", 7, Some("u2"))).await;
    informer.caught_up("7").await;
    assert_eq!((names(&informer.owned_by("u1")), names(&informer.owned_by("u2"))), (vec!["b".into()], vec!["a".into()]));
    assert!(informer.orphans("default").is_empty());
}

#[tokio::test]
async fn after_an_expired_watch_the_new_list_tells_only_of_differences() {
    let server = Server::default();
    server.list(5, vec![map("a", 3, None), map("b", 4, None), map("c", 5, None)]);
    let informer = started(&server).await;
    let mut subscription = informer.subscribe();
    subscription.changes().await;

    server.list(9, vec![map("b", 4, None), map("c", 8, None), map("d", 9, None)]);
    let expired = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "old"});
    server.send("ERROR", expired).await;
    informer.caught_up("9").await;
    assert_eq!(told(&subscription.changes().await), ["a 3>-", "c 5>8", "d ->9"]);
}

#[tokio::test]
async fn a_write_that_left_no_trace_is_seen_with_the_next_list() {
    let server = Server::default();
    server.list(5, vec![map("a", 3, None)]);
    let informer = started(&server).await;
    let mut seen = Box::pin(informer.caught_up("20"));
    assert!((&mut seen).now_or_never().is_none());

    let expired = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "old"});
    server.send("ERROR", expired).await;
    seen.await;
    assert_eq!(informer.revision(), 3);
}

#[tokio::test]
async fn objects_that_nobody_looks_at_rest_as_text_and_are_told_of_as_before() {
    let server = Server::default();
    server.list(5, vec![map("a", 3, None), map("b", 5, Some("u1"))]);
    let informer = started(&server).await;
    let mut subscription = informer.subscribe();
    subscription.changes().await;
    let held = informer.get(&key("a"));
    assert!(informer.shared.rest_once().await, "what was just looked at stays");
    assert!(!informer.shared.rest_once().await, "nobody looks any more");
    // What somebody has stays.
    assert!(Arc::ptr_eq(&held.unwrap(), &informer.get(&key("a")).unwrap()));

    informer.shared.rest_once().await;
    assert!(!informer.shared.rest_once().await);
    server.send("MODIFIED", map("a", 6, None)).await;
    informer.caught_up("6").await;
    assert_eq!(told(&subscription.changes().await), ["a 3>6"]);
    assert_eq!(names(&informer.owned_by("u1")), ["b"]);
    assert!(informer.shared.rest_once().await, "what was looked at is there again");
}

#[tokio::test]
async fn events_are_lines_however_they_come_in_pieces() {
    let server = Server::default();
    let informer = started(&server).await;
    let whole = [line("ADDED", &map("a", 3, None)), line("ADDED", &map("b", 4, None)), line("MODIFIED", &map("a", 5, None))].concat();
    for at in 1..whole.len() {
        server.send_piece(whole[..at].to_vec()).await;
        server.send_piece(whole[at..].to_vec()).await;
        let after = 5 + at as u64;
        server.send_piece("\n").await;
        server.send_piece(serde_json::to_vec(&json!({"object": map("c", after, None), "type": "ADDED"})).unwrap()).await;
        server.send_piece("\n").await;
        informer.caught_up(&after.to_string()).await;
        assert_eq!(names(&informer.list()), ["a", "b", "c"], "{at}");
        assert_eq!(informer.get(&key("a")).unwrap().resource_version().as_deref(), Some("5"), "{at}");
        server.send("DELETED", map("a", after, None)).await;
        server.send("DELETED", map("b", after, None)).await;
        server.send("DELETED", map("c", after, None)).await;
        informer.until(&key("c"), |object| object.is_none()).await;
    }
}

#[tokio::test]
async fn what_the_server_keeps_anyway_is_not_kept_twice() {
    for keeps in [true, false] {
        let server = Server::default();
        server.0.lock().unwrap().keeps = keeps;
        let informer = started(&server).await;
        let sent = Bytes::from(line("ADDED", &map("a", 3, None)));
        server.send_piece(sent.clone()).await;
        informer.caught_up("3").await;
        let kept = informer.shared.view().objects[&key("a")].text.clone();
        assert_eq!(sent.as_ptr_range().contains(&kept.as_ptr()), keeps);
        // Only a piece that is one line, or else a small part would hold the whole.
        server.send_piece([line("ADDED", &map("b", 4, None)), line("ADDED", &map("c", 5, None))].concat()).await;
        informer.caught_up("5").await;
        assert_eq!(informer.list().len(), 3);
    }
}

#[tokio::test]
async fn one_can_wait_for_an_object_to_go() {
    let server = Server::default();
    server.list(5, vec![map("a", 3, None)]);
    let informer = started(&server).await;
    let a = key("a");
    let gone = informer.until(&a, |object| object.is_none());
    let delete = server.send("DELETED", map("a", 6, None));
    futures::join!(gone, delete);
    assert!(informer.get(&a).is_none());
}

#[tokio::test]
async fn the_watch_ends_with_the_last_clone() {
    let server = Server::default();
    let informer = started(&server).await;
    let watch = server.watch().await;
    let clone = informer.clone();
    drop(informer);
    server.send("ADDED", map("a", 3, None)).await;
    clone.caught_up("3").await;
    drop(clone);
    while !watch.is_closed() {
        tokio::task::yield_now().await;
    }
}
