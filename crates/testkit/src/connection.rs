//! One controller's end of a wire: every request passes here.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use apiserver::{Body, BodyError, InProcess, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use store::Revision;
use tokio::sync::watch;

use crate::wire::{Fate, KINDS, Wire};

/// What a request asks for, as far as it matters here.
enum Ask {
    Write,
    List(&'static str),
    Watch(&'static str),
    Other,
}

impl Ask {
    fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path();
        let last = path.rsplit('/').next().unwrap_or_default();
        let kind = KINDS.into_iter().find(|kind| *kind == last && !path.contains("/namespaces/"));
        match kind {
            _ if *request.method() != Method::GET && !path.contains("/events") => Self::Write,
            Some(kind) if request.uri().query().is_some_and(|query| query.contains("watch=")) => Self::Watch(kind),
            Some(kind) => Self::List(kind),
            None => Self::Other,
        }
    }
}

/// One controller's end of the wire.
#[derive(Clone)]
pub(crate) struct Connection {
    wire: Arc<Wire>,
    inner: InProcess,
    life: u32,
}

impl tower::Service<Request<kube::client::Body>> for Connection {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        self.clone().pass(request).map(Ok).boxed()
    }
}

impl Connection {
    pub(crate) fn new(wire: Arc<Wire>, inner: InProcess, life: u32) -> Self {
        Self { wire, inner, life }
    }

    async fn pass(mut self, request: Request<kube::client::Body>) -> Response {
        let ask = Ask::of(&request);
        if self.wire.is_dead(self.life) {
            return std::future::pending().await;
        }
        if !matches!(ask, Ask::Watch(_)) {
            self.wire.noted();
        }
        match ask {
            Ask::Write => self.write(request).await,
            Ask::List(kind) => {
                let request = match self.wire.old_list(kind) {
                    Some(revision) => as_of(request, revision),
                    None => request,
                };
                self.ask(request).await
            }
            Ask::Watch(kind) => self.watch(kind, request).await,
            Ask::Other => self.ask(request).await,
        }
    }

    async fn ask(&mut self, request: Request<kube::client::Body>) -> Response {
        let Ok(response) = tower::Service::call(&mut self.inner, request).await;
        response
    }

    async fn write(&mut self, request: Request<kube::client::Body>) -> Response {
        let response = self.ask(request).await;
        if self.wire.is_dead(self.life) || (response.status().is_success() && self.wire.wrote()) {
            return std::future::pending().await;
        }
        response
    }

    async fn watch(mut self, kind: &'static str, request: Request<kube::client::Body>) -> Response {
        if self.wire.is_held(kind) {
            self.wire.until_rest().await;
        }
        if self.wire.is_expired(kind) {
            return expired();
        }
        let (head, body) = self.ask(request).await.into_parts();
        let pieces = body.into_data_stream().map(|piece| piece.unwrap_or_default()).boxed();
        let cuts = self.wire.cuts();
        let lines = Lines { wire: self.wire, kind, pieces, cuts, rest: Vec::new() };
        let told = futures::stream::unfold(lines, |mut lines| async move {
            let piece = lines.next().await?;
            Some((Ok::<_, BodyError>(http_body::Frame::data(piece)), lines))
        });
        Response::from_parts(head, StreamBody::new(told).boxed_unsync())
    }
}

/// The events of one watch, one line each.
struct Lines {
    wire: Arc<Wire>,
    kind: &'static str,
    pieces: BoxStream<'static, Bytes>,
    cuts: watch::Receiver<u32>,
    /// What has arrived and was not told.
    rest: Vec<u8>,
}

impl Lines {
    /// The next event that is told; `None` when the watch ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let is_bookmark = line.windows(10).any(|part| part == b"\"BOOKMARK\"");
                match if is_bookmark { Fate::Passes } else { self.wire.fate(self.kind) } {
                    Fate::Passes => return Some(line.into()),
                    Fate::IsLost => {}
                    Fate::EndsWatch => return None,
                }
            }
            let piece = tokio::select! {
                piece = self.pieces.next() => piece?,
                _ = self.cuts.changed() => return None,
            };
            self.rest.extend_from_slice(&piece);
        }
    }
}

/// The same list, as it was at a revision.
fn as_of(request: Request<kube::client::Body>, revision: Revision) -> Request<kube::client::Body> {
    let (mut head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("resourceVersion"));
    let exact = [format!("resourceVersion={revision}"), "resourceVersionMatch=Exact".to_owned()];
    let query: Vec<_> = kept.map(str::to_owned).chain(exact).collect();
    head.uri = format!("{}?{}", head.uri.path(), query.join("&")).parse().unwrap();
    Request::from_parts(head, body)
}

fn expired() -> Response {
    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410});
    let mut response = Response::new(whole(status.to_string().into()));
    *response.status_mut() = StatusCode::GONE;
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
