//! Watches.

use apiserver::auth::Identity;
use bytes::Bytes;
use futures::TryStreamExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use kube::api::{Api, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Harness};

struct Watch {
    body: apiserver::Body,
    buffer: Vec<u8>,
}

impl Watch {
    async fn open(harness: &Harness, query: &str) -> Self {
        Self::open_as(harness, query, "application/json").await
    }

    async fn open_as(harness: &Harness, query: &str, accept: &str) -> Self {
        let uri = format!("{CONFIG_MAPS}?watch=true&{query}");
        let request = Request::builder().uri(uri).header("accept", accept).body(Full::new(Bytes::new())).unwrap();
        let response = harness.send(request, Identity::new("admin", &["system:masters"])).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(20), self.body.frame()).await.expect("an event in time")?;
            self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    async fn told(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

fn told(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    let mut watch = Watch::open(&harness, "").await;
    assert_eq!(watch.told().await, told("ADDED", "a"));
    let b = harness.config_map("b", json!({})).await;
    harness.ok("PATCH", &format!("{CONFIG_MAPS}/a"), json!({"data": {"x": "y"}})).await;
    harness.ok("DELETE", &format!("{CONFIG_MAPS}/b"), json!({})).await;
    assert_eq!(watch.told().await, told("ADDED", "b"));
    assert_eq!(watch.told().await, told("MODIFIED", "a"));
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    let number = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(&deleted["object"]) > number(&b), "a deletion is told at its own revision");
    assert_eq!(deleted["object"]["data"], b["data"]);
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let harness = Harness::new().await;
    let a = harness.config_map("a", json!({"app": "x"})).await;
    let version = a["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = Watch::open(&harness, &format!("resourceVersion={version}&labelSelector=app%3Dx")).await;
    let path = format!("{CONFIG_MAPS}/a");
    harness.config_map("other", json!({"app": "y"})).await;
    harness.ok("PATCH", &path, json!({"data": {"x": "y"}})).await;
    harness.ok("PATCH", &path, json!({"metadata": {"labels": {"app": "y"}}})).await;
    harness.ok("PATCH", &path, json!({"data": {"x": "z"}})).await;
    harness.ok("PATCH", &path, json!({"metadata": {"labels": {"app": "x"}}})).await;
    harness.ok("DELETE", &path, json!({})).await;
    for kind in ["MODIFIED", "DELETED", "ADDED", "DELETED"] {
        assert_eq!(watch.told().await, told(kind, "a"));
    }
}

#[tokio::test]
async fn a_revision_that_is_forgotten_is_an_error_event() {
    use store::Store;
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    harness.config_map("b", json!({})).await;
    harness.store.compact(harness.store.revision()).await.unwrap();
    let mut watch = Watch::open(&harness, "resourceVersion=1").await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"], &event["object"]["reason"]), (&json!("ERROR"), &json!(410), &json!("Expired")));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_streaming_list_ends_with_a_bookmark() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=";
    let mut watch = Watch::open(&harness, query).await;
    assert_eq!(watch.told().await, told("ADDED", "a"));
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let refused = harness.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(refused.status, 422);
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout_with_a_bookmark() {
    let harness = Harness::new().await;
    let mut watch = Watch::open(&harness, "timeoutSeconds=1&allowWatchBookmarks=true").await;
    let bookmark = watch.next().await.unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_table_watch_tells_its_columns_once() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    harness.config_map("b", json!({})).await;
    let mut watch = Watch::open_as(&harness, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert!(first["object"]["columnDefinitions"].is_array());
    assert!(watch.next().await.unwrap()["object"]["columnDefinitions"].is_null());
}

#[tokio::test]
async fn the_client_library_reads_our_watches() {
    let harness = Harness::new().await;
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::default_namespaced(harness.client());
    let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    harness.config_map("a", json!({})).await;
    match events.try_next().await.unwrap().unwrap() {
        WatchEvent::Added(map) => assert_eq!(map.metadata.name.as_deref(), Some("a")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_resumes() {
    let harness = Harness::with(|_, options| options.memory.watch_backlog = 8).await;
    let a = harness.config_map("a", json!({})).await;
    let version = a["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = Watch::open(&harness, &format!("resourceVersion={version}")).await;
    for number in 0..40 {
        harness.config_map(&format!("m{number:02}"), json!({})).await;
    }
    let (mut told, mut seen) = (0, version.to_owned());
    while let Some(event) = watch.next().await {
        told += 1;
        seen = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    }
    assert!(told < 40, "{told} events were kept for a client that does not read");
    let mut resumed = Watch::open(&harness, &format!("resourceVersion={seen}")).await;
    assert_eq!(resumed.told().await.1, format!("m{told:02}"));
}

#[tokio::test]
async fn a_quiet_watch_gets_bookmarks_that_go_on_with_what_others_wrote() {
    assert_eq!(apiserver::Limits::default().bookmarks, std::time::Duration::from_secs(60));
    let harness = Harness::with(|config, _| config.limits.bookmarks = std::time::Duration::from_millis(5)).await;
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    let mut newest = version(&harness.config_map("a", json!({})).await);
    let mut watch = Watch::open(&harness, &format!("allowWatchBookmarks=true&resourceVersion={newest}")).await;
    let mut plain = Watch::open(&harness, &format!("resourceVersion={newest}")).await;
    for round in 0..3 {
        let secret = json!({"metadata": {"name": format!("s-{round}")}});
        newest = version(&harness.ok("POST", "/api/v1/namespaces/default/secrets", secret).await);
        loop {
            let bookmark = watch.next().await.unwrap();
            assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
            if version(&bookmark["object"]) >= newest {
                break;
            }
        }
    }
    // Who did not ask for bookmarks gets none.
    harness.config_map("b", json!({})).await;
    assert_eq!(plain.told().await, told("ADDED", "b"));
}
