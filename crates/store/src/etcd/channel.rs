//! A connection to one member of the cluster at a time; when it fails, the next member's turn comes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::call::{Answers, CallError, Outgoing};
use super::message::{self, Condition, KeyValue, Number, Operation, RangeRequest, RangeResponse, TransactionResponse, transaction};

/// How long a member may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(2);
/// How long a member may take to begin its answer, or stop in the middle of one, before another is asked.
const ANSWERING: Duration = Duration::from_secs(3);
/// How long a call may take with all its attempts: etcd elects another leader meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts: doubled each time, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// A connection in use that has been silent for so long is probed. etcd forbids to do so more often than every 5 seconds.
const SILENCE: Duration = Duration::from_secs(10);
/// How much of an answer may be under way.
const WINDOW: u32 = 8 << 20;

/// Why the files an address names can't be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: String, source: io::Error },
    #[error("{path} does not hold {what}")]
    Wrong { path: String, what: &'static str },
    #[error("the certificate and key for etcd do not fit: {0}")]
    Tls(#[source] rustls::Error),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How the members are spoken to; read once from the address' files.
pub(super) struct Credentials {
    tls: Option<TlsConnector>,
    user: Option<(String, String)>,
}

impl Credentials {
    pub(super) fn read(address: &Address) -> Result<Self, CredentialsError> {
        let user = address.user.as_ref();
        let user = user.map(|(name, file)| Ok((name.clone(), read(file)?.trim_end_matches(['\r', '\n']).to_owned()))).transpose()?;
        let tls = address.ca.as_ref().map(|ca| tls(ca, address.identity.as_ref().map(|(certificate, key)| (&**certificate, &**key))));
        Ok(Self { tls: tls.transpose()?, user })
    }
}

fn read(path: &Path) -> Result<String, CredentialsError> {
    std::fs::read_to_string(path).map_err(|source| CredentialsError::Unreadable { path: path.display().to_string(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let wrong = || CredentialsError::Wrong { path: path.display().to_string(), what: "certificates in PEM" };
    let text = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}

fn tls(ca: &Path, identity: Option<(&Path, &Path)>) -> Result<TlsConnector, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(CredentialsError::Tls)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(CredentialsError::Tls)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let wrong = |_| CredentialsError::Wrong { path: key.display().to_string(), what: "a private key in PEM" };
            let private = PrivateKeyDer::from_pem_slice(read(key)?.as_bytes()).map_err(wrong)?;
            config.with_client_auth_cert(certificates(certificate)?, private).map_err(CredentialsError::Tls)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Calls to the cluster. Shared by all who make them.
pub(super) struct Channel {
    endpoints: Vec<String>,
    credentials: Arc<Credentials>,
    line: Mutex<Line>,
}

/// The connection there is, and whose turn is next.
#[derive(Default)]
struct Line {
    open: Option<Connection>,
    turns: usize,
}

#[derive(Clone)]
struct Connection {
    /// Tells it from those before and after it.
    turn: usize,
    endpoint: Arc<str>,
    sender: SendRequest<Outgoing>,
    token: Option<HeaderValue>,
}

impl Channel {
    pub(super) fn new(address: &Address, credentials: Arc<Credentials>) -> Self {
        Self { endpoints: address.endpoints.clone(), credentials, line: Mutex::default() }
    }

    /// Makes a call that may be made again: with each member in turn, until one answers.
    pub(super) async fn ask(&self, method: &str, message: &[u8]) -> Result<Bytes, CallError> {
        let mut backoff = Backoff::new();
        loop {
            match self.try_once(method, message).await {
                Err(CallError::Unsent(_) | CallError::Lost(_)) if backoff.goes_on() => backoff.pause().await,
                answer => return answer,
            }
        }
    }

    /// Reads a range.
    pub(super) async fn range(&self, request: RangeRequest<'_>) -> Result<RangeResponse, CallError> {
        Ok(RangeResponse::read(&self.ask("KV/Range", &request.encoded()).await?)?)
    }

    /// Makes a transaction that may be made again.
    pub(super) async fn transact(&self, transaction: &[u8]) -> Result<TransactionResponse, CallError> {
        Ok(TransactionResponse::read(&self.ask("KV/Txn", transaction).await?)?)
    }

    /// Reads one key.
    pub(super) async fn get(&self, key: &str) -> Result<Option<KeyValue>, CallError> {
        Ok(self.range(RangeRequest { key, ..RangeRequest::default() }).await?.found.pop())
    }

    /// The newest change of all, as a majority of the members confirms, to someone who may read this key.
    pub(super) async fn newest(&self, key: &str) -> Result<Number, CallError> {
        Ok(self.range(RangeRequest { key, count_only: true, ..RangeRequest::default() }).await?.revision)
    }

    /// Writes a key where nothing is, and gives what is there then.
    pub(super) async fn put_once(&self, key: &str, value: &[u8]) -> Result<Option<KeyValue>, CallError> {
        self.transact(&transaction(&[(key, Condition::Absent)], &[Operation::Put(key, value)], &[])).await?;
        self.get(key).await
    }

    /// Makes a call to one member. When that fails, the next call goes to another.
    pub(super) async fn try_once(&self, method: &str, message: &[u8]) -> Result<Bytes, CallError> {
        let connection = self.connection().await?;
        let answer = match self.begin(&connection, method, Outgoing::new(message, false)).await {
            Ok(answers) => answers.only(ANSWERING).await,
            Err(error) => Err(error),
        };
        if let Err(CallError::Unsent(_) | CallError::Lost(_)) = answer {
            self.hang_up(connection.turn).await;
        }
        answer
    }

    /// Makes a call whose answers go on.
    pub(super) async fn stream(&self, method: &str, message: &[u8]) -> Result<Answers, CallError> {
        let connection = self.connection().await?;
        let answers = self.begin(&connection, method, Outgoing::new(message, true)).await;
        if answers.is_err() {
            self.hang_up(connection.turn).await;
        }
        answers
    }

    /// Gives the next call to another member.
    pub(super) async fn turn(&self) {
        self.line.lock().await.open = None;
    }

    async fn hang_up(&self, turn: usize) {
        let mut line = self.line.lock().await;
        if line.open.as_ref().is_some_and(|open| open.turn == turn) {
            line.open = None;
        }
    }

    /// Sends a call and waits for its answer to begin.
    async fn begin(&self, connection: &Connection, method: &str, outgoing: Outgoing) -> Result<Answers, CallError> {
        let late = |_| Err(CallError::Lost(format!("{} does not answer within {} s", connection.endpoint, ANSWERING.as_secs())));
        timeout(ANSWERING, self.send(connection, method, outgoing)).await.unwrap_or_else(late)
    }

    async fn send(&self, connection: &Connection, method: &str, outgoing: Outgoing) -> Result<Answers, CallError> {
        let mut sender = connection.sender.clone();
        let scheme = if self.credentials.tls.is_some() { "https" } else { "http" };
        let mut request = Request::post(format!("{scheme}://{}/etcdserverpb.{method}", connection.endpoint))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            // A member that is cut off from the others is not to keep a watch that will never tell anything.
            .header("hasleader", "true");
        if let Some(token) = &connection.token {
            request = request.header("token", token);
        }
        let request = request.body(outgoing).map_err(|error| CallError::Unsent(error.to_string()))?;
        sender.ready().await.map_err(|error| CallError::Unsent(format!("{}: {error}", connection.endpoint)))?;
        let response = sender.send_request(request).await.map_err(|error| CallError::Lost(format!("{}: {error}", connection.endpoint)))?;
        Ok(Answers::new(response))
    }

    /// The connection there is, or a new one. Those who wait for others to connect wait no longer than for an answer.
    async fn connection(&self) -> Result<Connection, CallError> {
        let late = |_| Err(CallError::Unsent(format!("no member accepts a connection within {} s", ANSWERING.as_secs())));
        timeout(ANSWERING, self.connect()).await.unwrap_or_else(late)
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let mut line = self.line.lock().await;
        if let Some(open) = line.open.as_ref().filter(|open| !open.sender.is_closed()) {
            return Ok(open.clone());
        }
        line.open = None;
        let turn = line.turns;
        line.turns += 1;
        let endpoint = &self.endpoints[turn % self.endpoints.len()];
        let late = |_| Err(CallError::Unsent(format!("{endpoint} does not accept a connection within {} s", CONNECTING.as_secs())));
        let opened = timeout(CONNECTING, self.open(turn, endpoint)).await.unwrap_or_else(late)?;
        line.open = Some(opened.clone());
        Ok(opened)
    }

    async fn open(&self, turn: usize, endpoint: &str) -> Result<Connection, CallError> {
        let refused = |error: &dyn std::fmt::Display| CallError::Unsent(format!("{endpoint}: {error}"));
        let stream = TcpStream::connect(endpoint).await.map_err(|error| refused(&error))?;
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        let stream: Box<dyn Stream> = match &self.credentials.tls {
            None => Box::new(stream),
            Some(tls) => {
                let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host).trim_matches(['[', ']']);
                let name = ServerName::try_from(host.to_owned()).map_err(|error| refused(&error))?;
                Box::new(tls.connect(name, stream).await.map_err(|error| refused(&error))?)
            }
        };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(SILENCE).keep_alive_timeout(SILENCE / 2);
        builder.initial_stream_window_size(WINDOW).initial_connection_window_size(2 * WINDOW);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
        tokio::spawn(connection);
        let mut opened = Connection { turn, endpoint: endpoint.into(), sender, token: None };
        if let Some((name, password)) = &self.credentials.user {
            opened.token = Some(self.authenticate(&opened, name, password).await?);
        }
        Ok(opened)
    }

    async fn authenticate(&self, connection: &Connection, name: &str, password: &str) -> Result<HeaderValue, CallError> {
        let message = Outgoing::new(&message::authenticate(name, password), false);
        let answer = self.send(connection, "Auth/Authenticate", message).await?.only(ANSWERING).await?;
        let token = message::token(&answer)?;
        let mut token = HeaderValue::try_from(token).map_err(|_| message::Malformed)?;
        token.set_sensitive(true);
        Ok(token)
    }
}

/// How long to go on, and when to try again.
pub(super) struct Backoff {
    end: Instant,
    pause: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { end: Instant::now() + PATIENCE, pause: PAUSES.0 }
    }

    pub(super) fn goes_on(&self) -> bool {
        Instant::now() + self.pause < self.end
    }

    pub(super) async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
    }

    /// Waits for something, not beyond the end.
    pub(super) async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.end, future).await.ok()
    }
}
