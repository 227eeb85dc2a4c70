//! The server over TLS: identities, tokens, both versions of HTTP, the end.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::harness::{CONFIG_MAPS, Harness};

/// A server on a port of its own.
pub struct Served {
    pub harness: Harness,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    pub async fn start(harness: Harness) -> Self {
        let serving = harness.certificates.serving(&[], &[]).unwrap();
        let tls = harness.certificates.tls(&serving).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, stop) = (harness.server.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { server.serve(listener, tls, stopped.cancelled_owned()).await });
        Self { harness, address, stop, task }
    }

    /// Stops serving, and gives what served once no connection is left.
    pub async fn end(self) -> Harness {
        self.stop.cancel();
        self.task.await.unwrap();
        self.harness
    }

    /// A connection with TLS, with or without the administrator's certificate.
    pub async fn connect(&self, http2: bool, admin: bool) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.secure(TcpStream::connect(self.address).await.unwrap(), http2, admin).await
    }

    async fn secure(&self, stream: TcpStream, http2: bool, admin: bool) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.harness.certificates.authority().as_bytes()).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let mut config = if admin {
            let admin = self.harness.certificates.admin().unwrap();
            let certificate = CertificateDer::from_pem_slice(admin.certificate.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_slice(admin.key.as_bytes()).unwrap()).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    pub async fn ask(&self, path: &str, http2: bool, admin: bool, token: Option<&str>) -> (u16, Value) {
        let mut request = http::Request::builder().uri(format!("https://kubernetes.default.svc{path}")).header("host", "kubernetes");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let (status, _, body) = self.send(request.body(Full::new(Bytes::new())).unwrap(), http2, admin).await;
        (status, body)
    }

    /// The code, after how long to come again, and the body.
    async fn post(&self, path: &str, body: Value, token: &str) -> (u16, Option<String>, Value) {
        let request = http::Request::builder().method("POST").uri(path).header("host", "kubernetes");
        let request = request.header("authorization", format!("Bearer {token}")).header("content-type", "application/json");
        self.send(request.body(Full::new(body.to_string().into())).unwrap(), false, false).await
    }

    async fn send(&self, request: http::Request<Full<Bytes>>, http2: bool, admin: bool) -> (u16, Option<String>, Value) {
        let stream = self.connect(http2, admin).await;
        let response = if http2 {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        let status = response.status().as_u16();
        let again = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, again, serde_json::from_slice(&body).unwrap_or_default())
    }
}

#[tokio::test]
async fn certificates_identify_and_strangers_are_refused() {
    let served = Served::start(Harness::new().await).await;
    for http2 in [false, true] {
        assert_eq!(served.ask("/api/v1/namespaces/default", http2, true, None).await.0, 200);
    }
    let (code, status) = served.ask("/api/v1/namespaces/default", true, false, None).await;
    let stranger = "namespaces \"default\" is forbidden: User \"system:anonymous\" cannot get resource \"namespaces\" in API group \"\" in the namespace \"default\"";
    let stranger = json!(stranger);
    assert_eq!((code, &status["message"], &status["reason"]), (403, &stranger, &json!("Forbidden")));
    assert_eq!(served.ask("/readyz", false, false, None).await.0, 200);
    assert_eq!(served.ask("/version", false, false, None).await.0, 200);
    assert_eq!(served.ask("/nonsense", false, false, None).await.0, 403);
    assert_eq!(served.end().await.get("/api/v1/namespaces?watch=true").await.status, 503);
}

#[tokio::test]
async fn a_token_lives_as_long_as_its_account() {
    let served = Served::start(Harness::new().await).await;
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    let request = served.harness.ok("POST", &format!("{account}/token"), json!({"spec": {"expirationSeconds": 600}})).await;
    let token = request["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(served.ask("/apis", false, false, Some(&token)).await.0, 200);
    let (code, status) = served.ask("/api/v1/namespaces/default/secrets", false, false, Some(&token)).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "secrets is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(served.ask("/apis", false, false, Some("x.y.z")).await.0, 401);
    let other = served.harness.ok("POST", &format!("{account}/token"), json!({"spec": {"audiences": ["elsewhere"]}})).await;
    assert_eq!(served.ask("/apis", false, false, other["status"]["token"].as_str()).await.0, 401);
    served.harness.ok("DELETE", account, json!({})).await;
    assert_eq!(served.ask("/apis", false, false, Some(&token)).await.0, 401);
}

/// A service account of its own that may do everything, and its token.
async fn account(harness: &Harness, name: &str) -> String {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    harness.ok("POST", accounts, json!({"metadata": {"name": name}})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": "default"});
    let binding = json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]});
    harness.ok("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let request = harness.ok("POST", &format!("{accounts}/{name}/token"), json!({"spec": {"expirationSeconds": 600}})).await;
    request["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_that_takes_all_it_may_waits_and_keeps_nobody_else_from_being_served() {
    let harness = Harness::with(|config, _| {
        (config.limits.mutating, config.limits.patience) = (8, std::time::Duration::from_millis(50));
    })
    .await;
    let served = Served::start(harness).await;
    let (greedy, modest) = (account(&served.harness, "greedy").await, account(&served.harness, "modest").await);
    // Requests whose bodies never come keep their seats: two of eight are what one client may have.
    let mut unfinished = Vec::new();
    for _ in 0..2 {
        use tokio::io::AsyncWriteExt;
        let mut stream = served.connect(false, false).await;
        let head = format!(
            "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {greedy}\r\ncontent-length: 10\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        unfinished.push(stream);
    }
    let write = async |token: &str| {
        let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        served.post(review, json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}), token).await
    };
    let refused = loop {
        let answer = write(&greedy).await;
        if answer.0 != 201 {
            break answer;
        }
    };
    assert_eq!((refused.0, &refused.2["reason"], refused.1.as_deref()), (429, &json!("TooManyRequests"), Some("1")));
    assert_eq!(refused.2["details"]["retryAfterSeconds"], 1);
    assert_eq!(write(&modest).await.0, 201);
    // What only reads has seats of its own, and so have watches.
    for path in ["/api/v1/namespaces/default", "/api/v1/namespaces?watch=true&timeoutSeconds=1"] {
        assert_eq!(served.ask(path, false, false, Some(&greedy)).await.0, 200, "{path}");
    }
    let page = served.harness.get("/metrics").await.text();
    let line =
        "apiserver_flowcontrol_rejected_requests_total{priority_level=\"workload-low\",request_kind=\"mutating\",reason=\"time-out\"} 1";
    assert!(page.lines().any(|own| own == line), "{page}");
    drop(unfinished);
    while write(&greedy).await.0 != 201 {}
}

#[tokio::test]
async fn a_client_may_not_open_watches_without_end() {
    let harness = Harness::with(|config, _| config.limits.streams = 8).await;
    let served = Served::start(harness).await;
    let (greedy, modest) = (account(&served.harness, "greedy").await, account(&served.harness, "modest").await);
    let stream = served.connect(true, false).await;
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let watch = async |token: &str| {
        let request =
            http::Request::builder().uri("https://x/api/v1/namespaces?watch=true").header("authorization", format!("Bearer {token}"));
        sender.clone().send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap()
    };
    let mut open = vec![watch(&greedy).await, watch(&greedy).await];
    let refused = watch(&greedy).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (429, &b"1"[..]));
    open.push(watch(&modest).await);
    assert!(open.iter().all(|watch| watch.status() == 200));
    drop(open);
    while watch(&greedy).await.status() != 200 {}
}

#[tokio::test]
async fn a_peer_leaves_connections_to_others() {
    use tokio::io::AsyncReadExt;
    let served = Served::start(Harness::with(|config, _| config.limits.connections = 4).await).await;
    // They say nothing, and are waited for.
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let mut refused = TcpStream::connect(served.address).await.unwrap();
    assert!(matches!(refused.read(&mut [0]).await, Ok(0) | Err(_)));
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    served.secure(other.connect(served.address).await.unwrap(), false, true).await;
    let page = served.harness.get("/metrics").await.text();
    assert!(page.contains("\napiserver_refused_connections_total 1\n"), "{page}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_a_long_list_loses_it_and_its_connection() {
    let harness = Harness::with(|config, _| config.limits.sending = std::time::Duration::from_secs(2)).await;
    let served = Served::start(harness).await;
    for number in 0..32 {
        let object = json!({"metadata": {"name": format!("c-{number}")}, "data": {"text": "x".repeat(900 << 10)}});
        served.harness.ok("POST", CONFIG_MAPS, object).await;
    }
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut slow = served.connect(false, true).await;
    slow.write_all(format!("GET {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let taken = async || {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let page = served.harness.get("/metrics").await.text();
        page.lines().any(|line| {
            line.ends_with("{priority_level=\"workload-high\",request_kind=\"readOnly\"} 1") && line.contains("executing_requests")
        })
    };
    while !taken().await {}
    let list = served.ask(CONFIG_MAPS, false, true, None).await;
    assert_eq!((list.0, list.1["items"].as_array().unwrap().len()), (200, 32));
    while taken().await {}
    let mut got = Vec::new();
    // Closed without a farewell of TLS, or cut off: it is not the whole in any case.
    let _ = slow.read_to_end(&mut got).await;
    assert!(got.len() < 28 << 20, "{}", got.len());
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_takes_that_and_say_the_same() {
    let harness = Harness::with(|config, _| config.limits.local_compression = true).await;
    let served = Served::start(harness).await;
    for number in 0..4 {
        let object = json!({"metadata": {"name": format!("c-{number}")}, "data": {"text": "compressible ".repeat(4000)}});
        served.harness.ok("POST", CONFIG_MAPS, object).await;
    }
    // The head, and the body as it came.
    let ask = async |path: &str, encoding: &str| {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(served.connect(false, true).await)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().uri(path).header("host", "kubernetes").header("accept-encoding", encoding);
        let response = sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        (head.headers, body.collect().await.unwrap().to_bytes())
    };
    let (plain_head, plain) = ask(CONFIG_MAPS, "identity").await;
    let (packed_head, packed) = ask(CONFIG_MAPS, "br, gzip;q=0.5").await;
    assert_eq!((plain_head.get("content-encoding"), &packed_head["content-encoding"]), (None, &http::HeaderValue::from_static("gzip")));
    assert_eq!(packed_head["vary"], "Accept-Encoding");
    assert!(packed.len() * 20 < plain.len(), "{} of {}", packed.len(), plain.len());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    // A small answer is not worth it, and a stream is not kept back for it.
    assert_eq!(ask("/version", "gzip").await.0.get("content-encoding"), None);
    let watch = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion=0");
    assert_eq!(ask(&watch, "gzip").await.0.get("content-encoding"), None);
}
