//! Logs and terminals, with a node that answers with what it was asked.

use std::convert::Infallible;
use std::sync::Arc;

use apiserver::{NodeDialer, Stream};
use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Harness, PODS, pod};
use crate::network::Served;

/// Answers logs with the request's path, and echoes what a terminal receives behind it.
async fn node(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().to_string();
    if path.contains("previous=true") {
        return Ok(Response::builder().status(400).body(Full::new(Bytes::from("previous terminated container not found"))).unwrap());
    }
    if !path.starts_with("/exec") {
        return Ok(Response::new(Full::new(Bytes::from(path))));
    }
    assert_eq!(request.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        stream.write_all(path.as_bytes()).await.unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).await.unwrap_or(0) > 0 {
            stream.write_all(&byte).await.unwrap();
        }
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let response = response.header("connection", "Upgrade").header("upgrade", "websocket").header("sec-websocket-accept", "x");
    Ok(response.body(Full::default()).unwrap())
}

fn dialer() -> NodeDialer {
    Arc::new(|name| {
        let name = name.to_owned();
        async move {
            if name != "n1" {
                return Err(std::io::Error::other("no such node"));
            }
            let (near, far) = tokio::io::duplex(1024);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service_fn(node)).with_upgrades());
            Ok(Box::new(near) as Box<dyn Stream>)
        }
        .boxed()
    })
}

async fn harness() -> Harness {
    let harness = Harness::with(|config, _| config.node_dialer = Some(dialer())).await;
    let mut two = pod("two");
    two["spec"]["containers"] = json!([{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]);
    for (pod, node) in [(pod("one"), Some("n1")), (two, Some("n1")), (pod("waiting"), None), (pod("lost"), Some("n2"))] {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        harness.ok("POST", PODS, pod).await;
        if let Some(node) = node {
            let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
            harness.ok("POST", &format!("{PODS}/{name}/binding"), binding).await;
        }
    }
    harness
}

#[tokio::test]
async fn a_log_comes_from_the_node_of_the_pod() {
    let harness = harness().await;
    let log = harness.get(&format!("{PODS}/one/log?follow=true&tailLines=5&sinceTime=2026-01-01T00%3A00%3A00Z")).await;
    assert_eq!(log.text(), "/containerLogs/default/one/main?follow=true&tailLines=5&sinceTime=2026-01-01T00%3A00%3A00Z");
    assert_eq!(harness.get(&format!("{PODS}/two/log?container=b")).await.text(), "/containerLogs/default/two/b?");
    assert_eq!(harness.get(&format!("{PODS}/waiting/log")).await.text(), "");
    for (path, code, message) in [
        ("two/log", 400, "a container name must be specified for pod two, choose one of: [a b]"),
        ("two/log?container=c", 400, "container c is not valid for pod two"),
        ("one/log?previous=true", 400, "previous terminated container not found"),
        ("lost/log", 500, "error dialing node \"n2\": no such node"),
        ("none/log", 404, "pods \"none\" not found"),
    ] {
        let refused = harness.get(&format!("{PODS}/{path}")).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["message"]), (code, &json!(message)), "{path}");
    }
}

#[tokio::test]
async fn a_terminal_is_carried_both_ways() {
    let served = Served::start(harness().await).await;
    let ask = async |path: &str| {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(served.connect(false, true).await)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = Request::builder()
            .uri(format!("{PODS}/{path}"))
            .header("host", "kubernetes")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-protocol", "v5.channel.k8s.io");
        sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    };
    let response = ask("one/exec?command=sh&command=-c&command=a%20b&stdin=true&stdout=true&tty=true").await;
    assert_eq!(response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"!hello").await.unwrap();
    let expected = b"/exec/default/one/main?command=sh&command=-c&command=a%20b&input=1&output=1&error=1&tty=1!hello";
    let mut found = vec![0; expected.len()];
    stream.read_exact(&mut found).await.unwrap();
    assert_eq!(found, expected);

    // The stream keeps its seat for as long as it is there.
    let open = async || {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let page = served.harness.get("/metrics").await.text();
        let kind = "executing_seats{priority_level=\"workload-high\",request_kind=\"longRunning\"} ";
        page.lines().find_map(|line| Some(line.split_once(kind)?.1.to_owned())).unwrap()
    };
    assert_eq!(open().await, "1");
    drop(stream);
    while open().await != "0" {}

    let refused = ask("waiting/exec?command=sh").await;
    assert_eq!(refused.status(), 400);
    let body: Value = serde_json::from_slice(&refused.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["message"], "pod waiting does not have a host assigned");
}
