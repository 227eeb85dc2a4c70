//! Who did what, on record.

use std::sync::Arc;

use apiserver::audit::{Auditor, Place, Policy};
use apiserver::auth::Identity;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Harness, PODS, pod};
use crate::network::Served;

/// A server that puts on record what a policy says, and where.
struct Recorded {
    harness: Harness,
    auditor: Arc<Auditor>,
    folder: tempfile::TempDir,
}

impl Recorded {
    async fn with(policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { path: folder.path().join("audit.log"), size: 1 << 20, backups: 1 };
        let auditor = Auditor::open(place, policy).unwrap();
        let own = Arc::clone(&auditor);
        let harness = Harness::with(|config, _| config.audit = Some(own)).await;
        Self { harness, auditor, folder }
    }

    /// What is on record once all is written.
    async fn records(self) -> Vec<Value> {
        let Self { harness, auditor, folder } = self;
        let waits = Arc::downgrade(&auditor);
        drop((harness, auditor));
        while waits.strong_count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn about<'a>(records: &'a [Value], uri: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["requestURI"] == uri).collect()
}

#[tokio::test]
async fn everything_is_on_record_without_bodies_unless_told_otherwise() {
    let recorded = Recorded::with(Policy::default()).await;
    let harness = &recorded.harness;
    harness.ok("POST", PODS, pod("a")).await;
    let headers = [("audit-id", "mine"), ("user-agent", "test/1"), ("impersonate-user", "jane")];
    let refused = harness.ask("GET", &format!("{PODS}/a?pretty=1"), &headers, "").await;
    assert_eq!((refused.status.as_u16(), refused.headers["audit-id"].as_bytes()), (403, &b"mine"[..]));
    let named = harness.get(&format!("{PODS}/none")).await;
    let records = recorded.records().await;
    let [created] = about(&records, PODS)[..] else { panic!("{records:?}") };
    for (pointer, value) in [
        ("/kind", json!("Event")),
        ("/apiVersion", json!("audit.k8s.io/v1")),
        ("/level", json!("Metadata")),
        ("/stage", json!("ResponseComplete")),
        ("/verb", json!("create")),
        ("/user", json!({"username": "admin", "groups": ["system:masters"]})),
        ("/objectRef", json!({"resource": "pods", "namespace": "default", "apiVersion": "v1"})),
        ("/responseStatus", json!({"metadata": {}, "code": 201})),
        ("/annotations/authorization.k8s.io~1decision", json!("allow")),
    ] {
        assert_eq!(created.pointer(pointer), Some(&value), "{pointer} of {created}");
    }
    assert!(created.get("requestObject").is_none() && created.get("responseObject").is_none());
    let [refused] = about(&records, &format!("{PODS}/a?pretty=1"))[..] else { panic!("{records:?}") };
    assert_eq!((&refused["auditID"], &refused["userAgent"]), (&json!("mine"), &json!("test/1")));
    assert_eq!(refused["impersonatedUser"], json!({"username": "jane", "groups": ["system:authenticated"]}));
    assert_eq!((&refused["responseStatus"]["code"], &refused["responseStatus"]["reason"]), (&json!(403), &json!("Forbidden")));
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    let [missing] = about(&records, &format!("{PODS}/none"))[..] else { panic!("{records:?}") };
    assert_eq!(
        (&missing["verb"], &missing["objectRef"]["name"], &missing["responseStatus"]["code"]),
        (&json!("get"), &json!("none"), &json!(404))
    );
    assert_eq!(missing["auditID"].as_str().unwrap().as_bytes(), named.headers["audit-id"].as_bytes());
}

#[tokio::test]
async fn rules_are_about_who_asks_whomever_they_act_as() {
    let policy = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [jane]
- level: Request
  users: [admin]
- level: Metadata
";
    let recorded = Recorded::with(Policy::parse(policy).unwrap()).await;
    let as_jane = |method: &str, user: &str| {
        let request = Request::builder().method(method).uri(format!("{PODS}/a")).header("impersonate-user", "jane");
        recorded.harness.send(request.body(Full::new(Bytes::new())).unwrap(), Identity::new(user, &["system:masters"]))
    };
    as_jane("GET", "admin").await;
    as_jane("GET", "jane").await;
    // Nobody lets her act as anyone, and that is on record as well.
    let request = Request::builder().method("DELETE").uri(format!("{PODS}/a")).header("impersonate-user", "eve");
    let refused = recorded.harness.send(request.body(Full::new(Bytes::new())).unwrap(), Identity::new("bob", &[])).await;
    assert_eq!(refused.status(), 403);
    let records = recorded.records().await;
    let [acting, refused] = about(&records, &format!("{PODS}/a"))[..] else { panic!("{records:?}") };
    assert_eq!(
        (&acting["level"], &acting["user"]["username"], &acting["impersonatedUser"]["username"]),
        (&json!("Request"), &json!("admin"), &json!("jane"))
    );
    assert_eq!((&refused["level"], &refused["verb"], &refused["user"]["username"]), (&json!("Metadata"), &json!("delete"), &json!("bob")));
    assert_eq!(refused["objectRef"], json!({"resource": "pods", "namespace": "default", "name": "a", "apiVersion": "v1"}));
    assert_eq!((&refused["responseStatus"]["code"], refused.get("impersonatedUser")), (&json!(403), None));
}

#[tokio::test]
async fn who_can_not_say_who_they_are_is_on_record_with_what_they_asked_for() {
    let Recorded { harness, auditor, folder } = Recorded::with(Policy::default()).await;
    let served = Served::start(harness).await;
    assert_eq!(served.ask(&format!("{PODS}/a"), false, false, Some("x.y.z")).await.0, 401);
    let records = Recorded { harness: served.end().await, auditor, folder }.records().await;
    let [refused] = about(&records, &format!("{PODS}/a"))[..] else { panic!("{records:?}") };
    assert_eq!((&refused["verb"], &refused["responseStatus"]["code"]), (&json!("get"), &json!(401)));
    assert_eq!(refused["objectRef"], json!({"resource": "pods", "namespace": "default", "name": "a", "apiVersion": "v1"}));
}

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  nonResourceURLs: ['/version']
- level: RequestResponse
  omitManagedFields: true
";

#[tokio::test]
async fn bodies_are_on_record_where_a_policy_says_so_but_those_of_secrets_are_not() {
    let recorded = Recorded::with(Policy::parse(POLICY).unwrap()).await;
    let harness = &recorded.harness;
    harness.config_map("a", json!({})).await;
    let applied = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {x: applied}\n";
    let path = format!("{CONFIG_MAPS}/b?fieldManager=me");
    let answer = harness.ask("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], applied).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let secrets = "/api/v1/namespaces/default/secrets";
    harness.ok("POST", secrets, json!({"metadata": {"name": "s"}, "stringData": {"password": "hidden-from-all"}})).await;
    harness.get("/version").await;
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    assert_eq!(harness.ask("GET", &format!("{CONFIG_MAPS}/a"), &protobuf, "").await.status, 200);
    let request = Request::builder().uri("/api/v1/namespaces?watch=true").body(Full::new(Bytes::new())).unwrap();
    let watch = harness.send(request, Identity::new("admin", &["system:masters"])).await;
    assert_eq!(watch.status(), 200);
    drop(watch);
    let records = recorded.records().await;
    let stages = |uri: &str| about(&records, uri).iter().map(|record| record["stage"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(stages("/api/v1/namespaces?watch=true"), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert_eq!(stages("/version"), [""; 0]);
    let [received, applied] = about(&records, &path)[..] else { panic!("{records:?}") };
    assert!(received.get("responseStatus").is_none());
    assert_eq!((&applied["verb"], &applied["requestObject"]["data"]["x"]), (&json!("patch"), &json!("applied")));
    assert_eq!((&applied["responseObject"]["kind"], &applied["responseObject"]["data"]["x"]), (&json!("ConfigMap"), &json!("applied")));
    assert!(applied["responseObject"]["metadata"].get("managedFields").is_none());
    let read = about(&records, &format!("{CONFIG_MAPS}/a"));
    assert_eq!(read.last().unwrap()["responseObject"]["metadata"]["name"], "a");
    let secret = about(&records, secrets);
    assert!(!secret.is_empty() && secret.iter().all(|record| record["level"] == "Metadata"));
    assert!(records.iter().all(|record| !record.to_string().contains("hidden-from-all")));
}
