//! Logs, terminals and ports: the request is checked, the container chosen, then the node's agent takes over.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kinds::registry::Subresource;
use tokio::io::{AsyncWriteExt, copy, split};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::ApiError;
use crate::fairness::Seat;
use crate::query::Query;
use crate::respond::{self, Response};
use crate::route::Call;
use crate::stored;

/// How long a node's agent may take to begin its answer.
const NODE_DEADLINE: Duration = Duration::from_secs(30);
/// How much of a node's refusal is passed on, in bytes.
const REFUSAL: usize = 4096;

/// How a client takes a connection over.
pub enum Takeover {
    /// Its connection to this server becomes the stream, which keeps its seat.
    Connection(OnUpgrade, Option<Seat>),
    /// It is in this process and is handed the node's end.
    Direct,
}

/// The log of a container.
pub async fn log(context: &Context<'_>, call: &Call) -> Result<Response, ApiError> {
    let pod = pod(context, call).await?;
    let container = choose(&pod, call)?;
    let Some(node) = node(&pod) else { return Ok(respond::typed(StatusCode::OK, "text/plain", "")) };
    let names = ["follow", "previous", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "limitBytes"];
    let query = encoded(names.iter().filter_map(|name| call.query.get(name).map(|value| (*name, value))));
    let path = format!("/containerLogs/{}/{}/{container}?{query}", call.namespace, call.name);
    let answer = ask(context, node, request(&Method::GET, &path, None)?).await?;
    if !answer.status().is_success() {
        return Err(refusal(answer).await);
    }
    let body = answer.into_body().map_err(Into::into).boxed_unsync();
    let mut response = http::Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// A command in a container, a container's first process, or ports: over a connection that becomes the client's own.
pub async fn connect(
    context: &Context<'_>,
    call: &Call,
    subresource: Subresource,
    method: &Method,
    takeover: Option<Takeover>,
) -> Result<Response, ApiError> {
    let pod = pod(context, call).await?;
    let upgrade = context.headers.get(UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_websocket = upgrade.eq_ignore_ascii_case(b"websocket");
    let path = path(&pod, call, subresource, is_websocket)?;
    let node = node(&pod).ok_or_else(|| ApiError::bad_request(format!("pod {} does not have a host assigned", call.name)))?;
    let is_known = is_websocket || upgrade.eq_ignore_ascii_case(b"SPDY/3.1");
    let takeover = takeover.filter(|_| is_known).ok_or_else(|| ApiError::bad_request("Upgrade request required"))?;
    let answer = ask(context, node, request(method, &path, Some(context.headers))?).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(passed_on(answer).await);
    }
    let mut response = http::Response::new(respond::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in answer.headers() {
        if is_upgrade_header(name.as_str()) {
            response.headers_mut().append(name, value.clone());
        }
    }
    let node = hyper::upgrade::on(answer);
    match takeover {
        Takeover::Connection(client, seat) => {
            let closing = context.shared.closing.clone();
            drop(tokio::spawn(async move {
                splice(client, node, closing).await;
                drop(seat);
            }));
        }
        Takeover::Direct => drop(response.extensions_mut().insert(node)),
    }
    Ok(response)
}

/// Carries bytes both ways until both sides have ended, or the client takes no more, or the server ends.
async fn splice(client: OnUpgrade, node: OnUpgrade, closing: CancellationToken) {
    let both = async {
        let (client, node) = tokio::try_join!(client, node).ok()?;
        let ((mut heard, mut told), (mut answers, mut asked)) = (split(TokioIo::new(client)), split(TokioIo::new(node)));
        let to_node = async {
            // A node that has said its last no longer listens. What it said must still reach a client that talks on.
            let _unheard = copy(&mut heard, &mut asked).await;
            let _ended = asked.shutdown().await;
            Ok(())
        };
        let to_client = async {
            copy(&mut answers, &mut told).await?;
            told.shutdown().await
        };
        tokio::try_join!(to_node, to_client).ok()
    };
    tokio::select! {
        _ = both => {}
        () = closing.cancelled() => {}
    }
}

fn is_upgrade_header(name: &str) -> bool {
    matches!(name, "connection" | "upgrade" | "x-stream-protocol-version") || name.starts_with("sec-websocket-")
}

/// Where the node serves it.
fn path(pod: &Pod, call: &Call, subresource: Subresource, is_websocket: bool) -> Result<String, ApiError> {
    let (name, query) = (format!("{}/{}", call.namespace, call.name), &call.query);
    match subresource {
        Subresource::PortForward => Ok(format!("/portForward/{name}?{}", encoded(query.all("ports").map(|port| ("ports", port))))),
        Subresource::Attach => Ok(format!("/attach/{name}/{}?{}", choose(pod, call)?, terminal_query(query, is_websocket))),
        _ => {
            let container = choose(pod, call)?;
            if query.get("command").is_none() {
                return Err(ApiError::bad_request("you must specify at least 1 command for the container"));
            }
            Ok(format!("/exec/{name}/{container}?{}", terminal_query(query, is_websocket)))
        }
    }
}

/// The node's names for the options of a terminal. Output is wanted if nobody says anything of it; over SPDY it is the client that
/// opens the streams it wants, and it says which.
fn terminal_query(query: &Query, is_websocket: bool) -> String {
    let flags = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    let by_default = |name: &str| is_websocket && name.starts_with("std") && name != "stdin" && query.all(name).next().is_none();
    let wanted = flags.into_iter().filter(|(ours, _)| query.flag(ours) || by_default(ours)).map(|(_, theirs)| (theirs, "1"));
    encoded(query.all("command").map(|command| ("command", command)).chain(wanted))
}

fn encoded<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", percent_encoded(value))).collect();
    pairs.join("&")
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn request(method: &Method, path: &str, upgrade: Option<&HeaderMap>) -> Result<Request<Empty<Bytes>>, ApiError> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "node");
    for (name, value) in upgrade.into_iter().flatten() {
        if is_upgrade_header(name.as_str()) && name != CONNECTION {
            request = request.header(name, value);
        }
    }
    if upgrade.is_some() {
        request = request.header(CONNECTION, "Upgrade");
    }
    request.body(Empty::new()).map_err(|error| ApiError::internal(error.to_string()))
}

async fn ask(context: &Context<'_>, node: &str, request: Request<Empty<Bytes>>) -> Result<http::Response<Incoming>, ApiError> {
    let dialer = context.shared.config.node_dialer.as_ref();
    let dialer = dialer.ok_or_else(|| ApiError::Unavailable { message: "this server reaches no nodes".to_owned() })?;
    let unreachable = |what: &dyn std::fmt::Display| ApiError::internal(format!("error dialing node {node:?}: {what}"));
    let answer = async {
        let stream = dialer(node).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| unreachable(&error))
    };
    let late = |_| ApiError::Timeout { message: format!("node {node:?} did not answer in time") };
    tokio::time::timeout(NODE_DEADLINE, answer).await.map_err(late)?
}

/// A node's refusal in our words: what it says is the message.
async fn refusal(answer: http::Response<Incoming>) -> ApiError {
    let (status, text) = said(answer).await;
    if status.is_client_error() { ApiError::bad_request(text) } else { ApiError::internal(text) }
}

/// A node's refusal as it is: clients of streams show its text.
async fn passed_on(answer: http::Response<Incoming>) -> Response {
    let (status, text) = said(answer).await;
    respond::typed(status, "text/plain; charset=utf-8", text)
}

async fn said(answer: http::Response<Incoming>) -> (StatusCode, String) {
    let status = answer.status();
    let read = tokio::time::timeout(NODE_DEADLINE, Limited::new(answer.into_body(), REFUSAL).collect()).await;
    let text = match read {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        _ => format!("the node answered {status}"),
    };
    (status, text)
}

async fn pod(context: &Context<'_>, call: &Call) -> Result<Pod, ApiError> {
    let current = stored::current(&*context.shared.store, call.resource, &call.namespace, &call.name).await?;
    current.object.downcast_ref::<Pod>().cloned().ok_or(ApiError::MethodNotAllowed)
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The container that is asked for, or the only one there is.
fn choose(pod: &Pod, call: &Call) -> Result<String, ApiError> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let names: Vec<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    let init: Vec<&str> = spec.init_containers.iter().flatten().map(|container| container.name.as_str()).collect();
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.name.as_str());
    match call.query.get("container") {
        Some(wanted) if names.iter().chain(&init).copied().chain(ephemeral).any(|name| name == wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {}", call.name))),
        None => match names.as_slice() {
            [only] => Ok((*only).to_owned()),
            _ => {
                let further = if init.is_empty() { String::new() } else { format!(" or one of the init containers: [{}]", init.join(" ")) };
                Err(ApiError::bad_request(format!(
                    "a container name must be specified for pod {}, choose one of: [{}]{further}",
                    call.name,
                    names.join(" ")
                )))
            }
        },
    }
}
