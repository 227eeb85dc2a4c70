//! The connection between one controller and the server, on which things go wrong.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::{Body, BodyError, Response, Server};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use store::{Revision, Store};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::Perturbation;

/// A controller that made no request for so long rests.
const REST: Duration = Duration::from_millis(25);
/// The kinds whose lists and watches go wrong: those that the controller decides by.
const KINDS: [&str; 4] = ["statefulsets", "pods", "persistentvolumeclaims", "controllerrevisions"];

/// Counts what passes, and does the one thing wrong that it is for.
pub struct Wire {
    perturbation: Perturbation,
    store: Arc<dyn Store>,
    state: Mutex<State>,
    crashed: Notify,
    /// How often all watches were ended.
    cuts: watch::Sender<u32>,
}

#[derive(Debug)]
struct State {
    armed: bool,
    /// Which start of the controller is alive.
    life: u32,
    writes: usize,
    events: usize,
    /// The server's revision when the wire was armed, and after each write.
    revisions: Vec<Revision>,
    /// Kinds whose next list is an old one.
    old_lists: BTreeSet<&'static str>,
    /// Kinds whose next watch begins only when the controller rests.
    held: BTreeSet<&'static str>,
    /// Kinds whose next watch is refused.
    expired: BTreeSet<&'static str>,
    last_request: Instant,
}

impl Wire {
    /// A wire that does this wrong once it is armed.
    pub fn new(perturbation: Perturbation, store: Arc<dyn Store>) -> Arc<Self> {
        let state = State {
            armed: false,
            life: 0,
            writes: 0,
            events: 0,
            revisions: Vec::new(),
            old_lists: BTreeSet::new(),
            held: BTreeSet::new(),
            expired: BTreeSet::new(),
            last_request: Instant::now(),
        };
        Arc::new(Self { perturbation, store, state: Mutex::new(state), crashed: Notify::new(), cuts: watch::Sender::new(0) })
    }

    /// Begins to count.
    pub fn arm(&self) {
        let revision = self.store.revision();
        let mut state = self.state();
        (state.armed, state.revisions) = (true, vec![revision]);
    }

    /// How many writes and events have passed since it was armed.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.writes, state.events)
    }

    /// A client for a controller that starts now. It is silent once that controller has died.
    pub fn client(self: &Arc<Self>, server: &Server, user: &str) -> kube::Client {
        let inner = server.in_process(apiserver::auth::Identity::new(user, &[]));
        let life = self.state().life;
        kube::Client::new(Connection { wire: self.clone(), inner, life }, "default")
    }

    /// Waits until the controller has to die.
    pub async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// Whether no request was made for a while.
    pub fn rests(&self) -> bool {
        self.state().last_request.elapsed() > REST
    }

    /// Ends all watches, none of which can be resumed.
    pub fn cut(&self) {
        self.state().expired.extend(KINDS);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_dead(&self, life: u32) -> bool {
        self.state().life != life
    }

    /// Notes a write that the server has done; whether the controller dies of it.
    fn wrote(&self) -> bool {
        let revision = self.store.revision();
        let mut state = self.state();
        if !state.armed {
            return false;
        }
        state.writes += 1;
        state.revisions.push(revision);
        let dies = match self.perturbation {
            Perturbation::Crash { write } => state.writes == write,
            Perturbation::OldLists { write, .. } if state.writes == write => {
                (state.old_lists, state.held) = (KINDS.into(), KINDS.into());
                true
            }
            _ => false,
        };
        if dies {
            state.life += 1;
            self.crashed.notify_one();
        }
        dies
    }

    /// What becomes of the next event of a kind.
    fn fate(&self, kind: &'static str) -> Fate {
        let mut state = self.state();
        if !state.armed {
            return Fate::Passes;
        }
        state.events += 1;
        match self.perturbation {
            Perturbation::Broken { event } if state.events == event => {
                state.held.insert(kind);
                Fate::EndsWatch
            }
            Perturbation::Expired { event } if state.events == event => {
                state.held.insert(kind);
                state.expired.insert(kind);
                Fate::EndsWatch
            }
            Perturbation::Lost { event } if state.events == event => Fate::IsLost,
            _ => Fate::Passes,
        }
    }

    /// The revision of an old list, if the next list of the kind is to be one.
    fn old_list(&self, kind: &'static str) -> Option<Revision> {
        let mut state = self.state();
        let Perturbation::OldLists { list, .. } = self.perturbation else { return None };
        state.old_lists.remove(kind).then(|| state.revisions.get(list).copied()).flatten()
    }

    async fn until_rest(&self) {
        while !self.rests() {
            sleep(Duration::from_millis(2)).await;
        }
    }
}

enum Fate {
    Passes,
    IsLost,
    EndsWatch,
}

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
struct Connection {
    wire: Arc<Wire>,
    inner: apiserver::InProcess,
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
    async fn pass(mut self, request: Request<kube::client::Body>) -> Response {
        let ask = Ask::of(&request);
        if self.wire.is_dead(self.life) {
            return std::future::pending().await;
        }
        if !matches!(ask, Ask::Watch(_)) {
            self.wire.state().last_request = Instant::now();
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
        if self.wire.state().held.remove(kind) {
            self.wire.until_rest().await;
        }
        if self.wire.state().expired.remove(kind) {
            return expired();
        }
        let (head, body) = self.ask(request).await.into_parts();
        let pieces = body.into_data_stream().map(|piece| piece.unwrap_or_default()).boxed();
        let cuts = self.wire.cuts.subscribe();
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
