//! The node's HTTP interface, with the kubelet's paths: container logs, commands in containers, connections into pods.
//!
//! Whoever can connect is trusted: the API server authenticates and authorizes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Pod;
use kinds::ObjectKey;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Shared, operations};

mod attach;
mod channels;
mod client;
mod cri;
mod exec;
mod follow;
pub mod fuzz;
mod logs;
mod port_forward;
mod process;
mod spdy;
mod upgrade;

/// A response's body: whole, or as it comes.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Bad(String),
    #[error("{0} is not served here")]
    NoPath(String),
    #[error("{0}")]
    NoProtocol(String),
    #[error("{0}")]
    Failed(String),
}

impl RequestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) | Self::NoPath(_) => StatusCode::NOT_FOUND,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::NoProtocol(_) => StatusCode::FORBIDDEN,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Serves one connection until it is closed.
pub(crate) async fn serve<S>(shared: Arc<Shared>, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    let connection = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the node ended");
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    match route(shared, request).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = Response::new(whole(format!("{error}\n")));
            *response.status_mut() = error.status();
            response
        }
    }
}

async fn route(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, RequestError> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            let options = logs::Options::parse(request.uri().query().unwrap_or_default())?;
            logs::serve(shared, &*find(shared, namespace, pod)?, container, options)
        }
        (&Method::GET | &Method::POST, ["exec", namespace, pod, container]) => {
            let pod = find(shared, namespace, pod)?;
            exec::serve(shared, &pod, container, request)
        }
        (&Method::GET | &Method::POST, ["attach", namespace, pod, container]) => {
            let pod = find(shared, namespace, pod)?;
            attach::serve(shared, &pod, container, request)
        }
        (&Method::GET | &Method::POST, ["portForward", namespace, pod]) => {
            let pod = find(shared, namespace, pod)?;
            port_forward::serve(shared, &pod, request)
        }
        (&Method::GET, ["healthz"]) => Ok(Response::new(whole("ok".to_owned()))),
        _ => Err(RequestError::NoPath(path)),
    }
}

/// A pod of this node.
fn find(shared: &Shared, namespace: &str, name: &str) -> Result<Arc<Pod>, RequestError> {
    let missing = || RequestError::NotFound(format!("pod \"{name}\" is not on this node"));
    let pod = shared.sources.views.pods.get(&ObjectKey::new(namespace, name)).ok_or_else(missing)?;
    let mine = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == shared.node.metadata.name.as_ref();
    if mine { Ok(pod) } else { Err(missing()) }
}

/// The runtime's identity of the container's running attempt. Not being there is upstream's error, by its status too.
fn running(shared: &Shared, pod: &Pod, container: &str) -> Result<String, RequestError> {
    let id = shared.running_attempt(operations::uid(pod), container);
    id.ok_or_else(|| RequestError::Failed(format!("container not found ({container:?})")))
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed()
}

/// The parameters of a query; a name may come more than once.
fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// The last value of each name.
fn last_values(query: &str) -> HashMap<String, String> {
    parameters(query).into_iter().collect()
}

/// Undoes percent encoding; what is not encoded well stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        rest = match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                &tail[2..]
            }
            (b'+', _) => {
                bytes.push(b' ');
                tail
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a parameter says yes.
fn is_true(value: Option<&String>) -> bool {
    value.is_some_and(|value| matches!(value.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let pairs = parameters("command=sh&command=-c&command=echo+%22a%20b%22%25&tty=1&x");
        let expected = [("command", "sh"), ("command", "-c"), ("command", "echo \"a b\"%"), ("tty", "1"), ("x", "")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
