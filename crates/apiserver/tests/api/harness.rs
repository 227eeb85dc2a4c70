//! A server of its own for each test.

use std::sync::Arc;

use apiserver::auth::Identity;
use apiserver::certificates::Certificates;
use apiserver::{Config, Limits, Server};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use store::embedded::{Embedded, Options};
use tower::ServiceExt;

pub struct Harness {
    pub server: Server,
    pub store: Arc<Embedded>,
    pub certificates: Certificates,
    _dir: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect()
    }
}

impl Harness {
    /// A server with the namespace and the service account `default`.
    pub async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    /// The same, told otherwise.
    pub async fn with(tell: impl FnOnce(&mut Config, &mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(dir.path()).unwrap();
        let mut options = Options::default();
        let mut config = Config {
            service_range: "10.96.0.0/16".parse().unwrap(),
            token_key: Arc::new(certificates.token_key().unwrap()),
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            node_dialer: None,
            limits: Limits::default(),
            audit: None,
            user_roles: Vec::new(),
        };
        tell(&mut config, &mut options);
        let store = Arc::new(Embedded::open(&dir.path().join("store"), options).unwrap());
        let server = Server::new(config, store.clone()).await.unwrap();
        let harness = Self { server, store, certificates, _dir: dir };
        harness.ok("POST", "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
        harness.ok("POST", "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
        harness
    }

    pub fn client(&self) -> kube::Client {
        self.server.client("admin", &["system:masters"])
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Full<Bytes>>, identity: Identity) -> http::Response<apiserver::Body> {
        self.server.in_process(identity).oneshot(request).await.unwrap()
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = self.send(request, Identity::new("admin", &["system:masters"])).await;
        let (parts, body) = answer.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    pub async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        let content_type = match (method, body.is_array()) {
            ("PATCH", true) => "application/json-patch+json",
            ("PATCH", false) => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, path, &[("content-type", content_type)], body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// A request that must succeed.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.json(method, path, body).await;
        assert!(answer.status.is_success(), "{method} {path}: {}", answer.text());
        answer.json()
    }

    /// A ConfigMap in `default`.
    pub async fn config_map(&self, name: &str, labels: Value) -> Value {
        self.ok("POST", CONFIG_MAPS, json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}})).await
    }
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";

pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "busybox"}]}})
}

pub fn set(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": 3,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "busybox", "ports": [{"containerPort": 80, "name": "web"}]}]},
            },
        },
    })
}
