//! Protobuf answers, documents about the API, health and metrics.

use apiserver::auth::Identity;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Harness, PODS, SETS, pod, set};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const ACCEPT: (&str, &str) = ("accept", "application/vnd.kubernetes.protobuf,application/json");

/// What stands at these numbers inside each other in a message, first occurrences only. The project's own reader is not used, so
/// that it can't share a mistake with the writer.
fn at<'a>(mut message: &'a [u8], numbers: &[u64]) -> Option<&'a [u8]> {
    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Some(number)
    }
    for wanted in numbers {
        let mut rest = message;
        message = loop {
            let tag = varint(&mut rest)?;
            if tag & 7 == 0 {
                varint(&mut rest)?;
                continue;
            }
            let length = usize::try_from(varint(&mut rest)?).ok()?;
            let (content, behind) = rest.split_at_checked(length)?;
            rest = behind;
            if tag >> 3 == *wanted {
                break content;
            }
        };
    }
    Some(message)
}

fn text(message: &[u8], numbers: &[u64]) -> String {
    String::from_utf8(at(message, numbers).unwrap_or_default().to_vec()).unwrap()
}

/// The object in the envelope, whose type must be this one.
fn opened<'a>(body: &'a [u8], api_version: &str, kind: &str) -> &'a [u8] {
    let envelope = body.strip_prefix(b"k8s\0").unwrap();
    assert_eq!((text(envelope, &[1, 1]), text(envelope, &[1, 2])), (api_version.to_owned(), kind.to_owned()));
    at(envelope, &[2]).unwrap_or_default()
}

#[tokio::test]
async fn objects_lists_and_refusals_are_answered_in_protobuf() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({"app": "x"})).await;
    let got = harness.ask("GET", &format!("{CONFIG_MAPS}/a"), &[ACCEPT], "").await;
    assert_eq!(got.headers["content-type"], PROTOBUF);
    let map = opened(&got.body, "v1", "ConfigMap");
    assert_eq!([text(map, &[1, 1]), text(map, &[2, 1]), text(map, &[2, 2])], ["a", "k", "v"]);
    let listed = harness.ask("GET", CONFIG_MAPS, &[ACCEPT], "").await;
    assert_eq!(text(opened(&listed.body, "v1", "ConfigMapList"), &[2, 1, 1]), "a");
    let absent = harness.ask("GET", &format!("{CONFIG_MAPS}/b"), &[ACCEPT], "").await;
    assert_eq!((absent.status.as_u16(), &absent.headers["content-type"]), (404, &http::HeaderValue::from_static(PROTOBUF)));
    let status = opened(&absent.body, "v1", "Status");
    assert_eq!((text(status, &[4]), text(status, &[3])), ("NotFound".to_owned(), "configmaps \"b\" not found".to_owned()));
    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let metadata = harness.ask("GET", CONFIG_MAPS, &[("accept", metadata)], "").await;
    assert_eq!(text(opened(&metadata.body, "meta.k8s.io/v1", "PartialObjectMetadataList"), &[2, 1, 1]), "a");
}

#[tokio::test]
async fn what_was_answered_in_protobuf_can_be_sent_back() {
    let harness = Harness::new().await;
    harness.ok("POST", PODS, pod("p")).await;
    let created = harness.ask("POST", SETS, &[("content-type", "application/json"), ACCEPT], set("web").to_string()).await;
    assert_eq!((created.status.as_u16(), &created.headers["content-type"]), (201, &http::HeaderValue::from_static(PROTOBUF)));
    for path in [format!("{SETS}/web"), format!("{PODS}/p")] {
        let before = harness.get(&path).await.json();
        let got = harness.ask("GET", &path, &[ACCEPT], "").await;
        let put = harness.ask("PUT", &path, &[("content-type", PROTOBUF), ("accept", "application/json")], got.body).await;
        assert_eq!((put.status.as_u16(), put.json()), (200, before), "{path}");
    }
    let scale = harness.ask("GET", &format!("{SETS}/web/scale"), &[ACCEPT], "").await;
    assert_eq!(text(opened(&scale.body, "autoscaling/v1", "Scale"), &[1, 1]), "web");
}

#[tokio::test]
async fn kinds_without_a_form_in_protobuf_are_answered_in_json_or_refused() {
    let harness = Harness::new().await;
    let sets = "/apis/apps.steadfast.dev/v1/namespaces/default/statefulsets";
    let answer = harness.ask("GET", sets, &[ACCEPT], "").await;
    assert_eq!(answer.json()["kind"], "StatefulSetList");
    assert_eq!(harness.ask("GET", sets, &[("accept", PROTOBUF)], "").await.status, 406);
}

#[tokio::test]
async fn a_watch_in_protobuf_tells_messages_with_their_lengths() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let request = Request::builder().uri(format!("{CONFIG_MAPS}?{query}")).header(ACCEPT.0, ACCEPT.1);
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let response = harness.send(request, Identity::new("admin", &["system:masters"])).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    harness.ok("PATCH", &format!("{CONFIG_MAPS}/a"), json!({"data": {"x": "y"}})).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let (mut rest, mut told) = (&body[..], Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (event, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        let map = opened(at(event, &[2, 1]).unwrap(), "v1", "ConfigMap");
        told.push((text(event, &[1]), text(map, &[1, 1])));
        rest = behind;
    }
    let told: Vec<_> = told.iter().map(|(kind, name)| (kind.as_str(), name.as_str())).collect();
    assert_eq!(told, [("ADDED", "a"), ("BOOKMARK", ""), ("MODIFIED", "a"), ("BOOKMARK", "")]);
}

#[tokio::test]
async fn documents_about_the_api_come_in_the_forms_that_clients_ask_for_and_only_once() {
    let harness = Harness::new().await;
    let whole = harness.get("/openapi/v2").await;
    let document = whole.json();
    assert_eq!(document["swagger"], "2.0");
    assert!(document["paths"]["/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}/scale"]["put"].is_object());
    let form = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let message = harness.ask("GET", "/openapi/v2", &[("accept", form)], "").await;
    assert_eq!(
        (message.headers["content-type"].to_str().unwrap(), text(&message.body, &[1])),
        (&*form.replace('@', "."), "2.0".to_owned())
    );
    let index = harness.get("/openapi/v3").await.json();
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let core = harness.get(&url).await;
    assert!(core.headers["cache-control"].to_str().unwrap().contains("immutable"));
    for (path, answer) in [("/openapi/v2", &whole), (url.as_str(), &core)] {
        let tag = answer.headers["etag"].to_str().unwrap();
        let again = harness.ask("GET", path, &[("if-none-match", tag)], "").await;
        assert_eq!((again.status.as_u16(), again.body.len(), &again.headers["etag"]), (304, 0, &answer.headers["etag"]), "{path}");
    }
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let harness = Harness::new().await;
    for (path, expected) in [
        ("/livez", "ok"),
        ("/readyz/ping", "ok"),
        ("/healthz?verbose", "[+]ping ok\n[+]store ok\nhealthz check passed\n"),
        ("/readyz?verbose&exclude=store", "[+]ping ok\n[+]store excluded: ok\n[+]shutdown ok\nreadyz check passed\n"),
    ] {
        let answer = harness.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, expected), "{path}");
    }
    assert_eq!(harness.get("/livez/nothing").await.status, 404);
}

#[tokio::test]
async fn requests_are_counted_under_upstreams_names() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    for _ in 0..3 {
        harness.get(&format!("{CONFIG_MAPS}/a")).await;
    }
    harness.get(&format!("{CONFIG_MAPS}/b")).await;
    let request = Request::builder().uri(format!("{CONFIG_MAPS}?watch=true")).body(Full::new(Bytes::new())).unwrap();
    let watch = harness.send(request, Identity::new("admin", &["system:masters"])).await;
    let page = harness.get("/metrics").await.text();
    let labels =
        "component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"";
    for line in [
        format!("apiserver_request_total{{{labels},dry_run=\"\",code=\"200\"}} 3"),
        format!("apiserver_request_total{{{labels},dry_run=\"\",code=\"404\"}} 1"),
        format!("apiserver_request_duration_seconds_bucket{{{labels},dry_run=\"\",le=\"+Inf\"}} 4"),
        "apiserver_storage_objects{resource=\"configmaps\"} 1".to_owned(),
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1".to_owned(),
    ] {
        assert!(page.lines().any(|own| own == line), "{line}\n{page}");
    }
    let open = |page: &str| {
        let line = page.lines().find(|line| line.starts_with("apiserver_longrunning_requests{") && line.contains("\"WATCH\""));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(open(&page), 1);
    assert!(page.contains("process_resident_memory_bytes "));
    drop(watch);
    assert_eq!(open(&harness.get("/metrics").await.text()), 0);
    let refused = harness.server.in_process(Identity::new("anonymous", &["system:unauthenticated"]));
    let request = Request::builder().uri("/metrics").body(Full::new(Bytes::new())).unwrap();
    let refused: Value = {
        use tower::ServiceExt;
        let body = refused.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    };
    assert!(refused["code"] == 401 || refused["code"] == 403, "{refused}");
}
