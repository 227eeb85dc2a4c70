//! Logs and commands: the API server decides who may, and hands the connection to the node that has the container.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::ApiError;
use crate::respond::{Body, Response};

/// How long a node may take to accept a connection and to begin its answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A connection to a node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to the agent of a node, by the node's name.
pub type NodeDialer = Arc<dyn Fn(&str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// What a client asks of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Log,
    Exec,
}

/// The container that is meant: the one asked for, or the only one.
pub fn container(pod: &Pod, asked: Option<&str>) -> Result<String, ApiError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let names = |containers: Option<&Vec<k8s_openapi::api::core::v1::Container>>| -> Vec<String> {
        containers.into_iter().flatten().map(|container| container.name.clone()).collect()
    };
    let regular = names(spec.map(|spec| &spec.containers));
    let initial = names(spec.and_then(|spec| spec.init_containers.as_ref()));
    match (asked.filter(|asked| !asked.is_empty()), regular.as_slice()) {
        (Some(asked), _) if regular.iter().chain(&initial).any(|own| own == asked) => Ok(asked.to_owned()),
        (Some(asked), _) => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}"))),
        (None, [only]) => Ok(only.clone()),
        (None, many) => {
            let mut message = format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
            if !initial.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", initial.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

/// The path and query that the node knows, from those of the API. `query` is the client's, still encoded.
pub fn node_path(wish: Wish, pod: &Pod, container: &str, query: &str) -> String {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    match wish {
        Wish::Log => {
            let kept: Vec<_> = pairs.filter(|pair| !pair.starts_with("container=")).collect();
            format!("/containerLogs/{namespace}/{name}/{container}?{}", kept.join("&"))
        }
        Wish::Exec => {
            let renamed: Vec<_> = pairs.filter_map(exec_option).collect();
            format!("/exec/{namespace}/{name}/{container}?{}", renamed.join("&"))
        }
    }
}

/// One option of an exec request in the node's words; `None` for what the node need not know.
fn exec_option(pair: &str) -> Option<String> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
    let is_on = matches!(value, "true" | "1");
    match name {
        "command" => Some(pair.to_owned()),
        "stdin" if is_on => Some("input=1".to_owned()),
        "stdout" if is_on => Some("output=1".to_owned()),
        "stderr" if is_on => Some("error=1".to_owned()),
        "tty" if is_on => Some("tty=1".to_owned()),
        _ => None,
    }
}

/// Hands a request to a node. After `101 Switching Protocols`, bytes go both ways until either side ends.
///
/// `upgrade` is the client's half, taken from its request before its headers came here.
pub async fn forward(
    dial: &NodeDialer,
    node: &str,
    method: Method,
    path: &str,
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
) -> Result<Response, ApiError> {
    refuse_unknown_protocols(headers)?;
    let unreachable = |error: &dyn std::fmt::Display| ApiError::internal(format!("error dialing backend: node {node}: {error}"));
    let answer = tokio::time::timeout(DEADLINE, exchange(dial, node, method, path, headers)).await;
    let mut response = answer.map_err(|_| unreachable(&"no answer in time"))?.map_err(|error| unreachable(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()));
    }
    let client = upgrade.ok_or_else(|| ApiError::bad_request("you must specify an Upgrade header to open a stream"))?;
    let node_half = hyper::upgrade::on(&mut response);
    tokio::spawn(splice(client, node_half));
    let (parts, _) = response.into_parts();
    Ok(http::Response::from_parts(parts, Empty::new().map_err(|never| match never {}).boxed_unsync()))
}

/// Older clients speak SPDY/3.1, which is not spoken here.
fn refuse_unknown_protocols(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(UPGRADE).and_then(|value| value.to_str().ok()) {
        Some(protocol) if !protocol.eq_ignore_ascii_case("websocket") => {
            Err(ApiError::bad_request(format!("streams over {protocol} are not supported: use a client that speaks WebSocket, as kubectl does from 1.31 on")))
        }
        _ => Ok(()),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    dial: &NodeDialer,
    node: &str,
    method: Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<http::Response<hyper::body::Incoming>, Failure> {
    let stream = dial(node).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new())?;
    let passed = headers.iter().filter(|(name, _)| is_passed(name.as_str()));
    request.headers_mut().extend(passed.map(|(name, value)| (name.clone(), value.clone())));
    request.headers_mut().insert(HOST, HeaderValue::from_static("node"));
    Ok(sender.send_request(request).await?)
}

/// Only what the stream's protocol needs: credentials stay here.
fn is_passed(name: &str) -> bool {
    name != AUTHORIZATION.as_str() && (name == CONNECTION.as_str() || name == UPGRADE.as_str() || name.starts_with("sec-websocket-"))
}

async fn splice(client: OnUpgrade, node: OnUpgrade) {
    let (Ok(client), Ok(node)) = futures::future::join(client, node).await else { return };
    // Either side's end is the end of the stream; how it ended was said inside it.
    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(node)).await;
}

/// The log of a pod that no node has yet.
pub fn empty_log() -> Response {
    http::Response::new(empty())
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: &[&str], initial: &[&str]) -> Pod {
        let list = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let pod = json!({
            "metadata": {"name": "web-0", "namespace": "default"},
            "spec": {"containers": list(containers), "initContainers": list(initial)},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn the_only_container_is_meant_and_more_must_be_named() {
        assert_eq!(container(&pod(&["web"], &["prepare"]), None).expect("one"), "web");
        assert_eq!(container(&pod(&["web"], &["prepare"]), Some("prepare")).expect("named"), "prepare");
        let error = container(&pod(&["web", "side"], &["prepare"]), None).expect_err("two");
        assert_eq!(
            error.to_string(),
            "a container name must be specified for pod web-0, choose one of: [web side] or one of the init containers: [prepare]"
        );
        assert_eq!(container(&pod(&["web"], &[]), Some("db")).expect_err("none").to_string(), "container db is not valid for pod web-0");
    }

    #[test]
    fn paths_are_put_into_the_nodes_words() {
        let pod = pod(&["web"], &[]);
        let exec = node_path(Wish::Exec, &pod, "web", "command=sh&command=-c&container=web&stdin=true&stdout=true&stderr=false&tty=true");
        assert_eq!(exec, "/exec/default/web-0/web?command=sh&command=-c&input=1&output=1&tty=1");
        let log = node_path(Wish::Log, &pod, "web", "container=web&follow=true&tailLines=5");
        assert_eq!(log, "/containerLogs/default/web-0/web?follow=true&tailLines=5");
    }

    #[tokio::test]
    async fn an_answer_of_the_node_comes_through_without_the_clients_credentials() {
        let dial: NodeDialer = Arc::new(|node| {
            assert_eq!(node, "node-a");
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut seen = vec![0; 4096];
                let read = theirs.read(&mut seen).await.expect("a request");
                let request = String::from_utf8_lossy(&seen[..read]).into_owned();
                assert!(!request.contains("secret"), "{request}");
                let body = request.lines().next().unwrap_or_default().to_owned();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                theirs.write_all(answer.as_bytes()).await.expect("answered");
            });
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
        });
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        let response = forward(&dial, "node-a", Method::GET, "/containerLogs/a/b/c?", &headers, None).await.expect("an answer");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, "GET /containerLogs/a/b/c? HTTP/1.1");
    }

    #[tokio::test]
    async fn an_old_protocol_is_refused_by_name() {
        let dial: NodeDialer = Arc::new(|_| Box::pin(async { Err(io::Error::other("never dialled")) }));
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        let error = forward(&dial, "node-a", Method::POST, "/exec", &headers, None).await.expect_err("refused");
        assert!(error.to_string().contains("SPDY/3.1"), "{error}");
    }
}
