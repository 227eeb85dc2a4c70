//! A client of a process: what it says to it, and where the process's output goes, over whichever protocol it speaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::SplitStream;
use http::Response;
use hyper::upgrade::Upgraded;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::channels::{self, ERROR, STDERR, STDOUT, Said};
use super::spdy::{Input, Output, Session};
use super::upgrade::{self, Accepted, Chosen, FAREWELL, Offer, Socket};
use super::{Body, is_true, last_values};

/// Pieces that wait for a slow client; then the process waits.
const AHEAD: usize = 8;
/// In which a client must have opened its streams.
const OPENING: Duration = Duration::from_secs(30);
/// What is kept of a message about a terminal's size that has not arrived in whole.
const MAX_SIZE: usize = 1024;

/// Protocols over SPDY, by their number. The first could only say that a command failed, the third learned of terminals' sizes, and the
/// fourth tells the exit code.
const SPDY: [&str; 4] = ["channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io", "v4.channel.k8s.io"];

/// What those who run and attach to processes speak.
pub(super) const fn offer(what: &'static str) -> Offer {
    Offer { what, websocket: &channels::PROTOCOLS, spdy: &SPDY }
}

/// The streams of a process that a client wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub input: bool,
    pub output: bool,
    pub error: bool,
    pub terminal: bool,
}

impl Wanted {
    /// What a query asks for.
    pub(super) fn of(query: &str) -> Self {
        let values = last_values(query);
        let flag = |name: &str| is_true(values.get(name));
        Self { input: flag("input"), output: flag("output"), error: flag("error"), terminal: flag("tty") }
    }
}

/// A client that is there.
pub(super) struct Client {
    source: Source,
    outlets: Outlets,
    /// Writes what waits, over a WebSocket.
    writer: Option<JoinHandle<()>>,
}

enum Source {
    Channels(SplitStream<Socket>),
    Streams(Box<Streams>),
}

/// What comes over SPDY.
struct Streams {
    session: Session,
    input: Option<Input>,
    sizes: Option<Input>,
    /// The beginning of a size.
    size: Vec<u8>,
}

/// Where a process's output goes.
#[derive(Clone)]
pub(super) enum Outlets {
    Channels(mpsc::Sender<Message>),
    Streams(Arc<Outputs>),
}

/// By their channels' numbers.
pub(super) struct Outputs {
    outputs: [Option<Output>; 4],
    /// The client understands a Status.
    takes_status: bool,
}

impl Client {
    /// Answers a request, and talks beside with the client that comes.
    pub(super) fn greet<T>(accepted: Accepted, wanted: Wanted, talk: impl FnOnce(Self) -> T + Send + 'static) -> Response<Body>
    where
        T: Future<Output = ()> + Send,
    {
        accepted.carry_on(async move |upgraded, chosen| {
            if let Some(client) = Self::meet(upgraded, chosen, wanted).await {
                talk(client).await;
            }
        })
    }

    /// A client whose connection has been taken over; `None` if it does not say what it wants, or is gone.
    async fn meet(upgraded: Upgraded, chosen: Chosen, wanted: Wanted) -> Option<Self> {
        match chosen {
            Chosen::WebSocket(_) => {
                let (sink, stream) = upgrade::websocket(upgraded).await.split();
                let (sender, receiver) = mpsc::channel(AHEAD);
                let writer = Some(tokio::spawn(upgrade::write(sink, receiver)));
                Some(Self { source: Source::Channels(stream), outlets: Outlets::Channels(sender), writer })
            }
            Chosen::Spdy(protocol) => {
                let version = SPDY.iter().position(|known| *known == protocol).unwrap_or(0) + 1;
                let session = upgrade::session(upgraded);
                let opened = timeout(OPENING, Streams::open(session, wanted, version)).await;
                let (streams, outputs) = opened.inspect_err(|_| tracing::debug!("a client did not open its streams")).ok()??;
                Some(Self { source: Source::Streams(Box::new(streams)), outlets: Outlets::Streams(Arc::new(outputs)), writer: None })
            }
        }
    }

    pub(super) fn outlets(&self) -> Outlets {
        self.outlets.clone()
    }

    /// What the client says next. Nothing is lost if the wait is given up.
    pub(super) async fn next(&mut self) -> Said {
        match &mut self.source {
            Source::Channels(stream) => match stream.next().await {
                Some(Ok(Message::Binary(bytes))) => channels::parse(&bytes),
                None | Some(Err(_) | Ok(Message::Close(_))) => Said::Farewell,
                Some(Ok(_)) => Said::Nothing,
            },
            Source::Streams(streams) => streams.next().await,
        }
    }

    /// Waits until nothing can be said to the client any more. Meanwhile, what it says waits.
    pub(super) async fn gone(&self) {
        match (&self.source, &self.outlets) {
            (Source::Streams(streams), _) => streams.session.gone().await,
            (Source::Channels(_), Outlets::Channels(sender)) => sender.closed().await,
            (Source::Channels(_), Outlets::Streams(_)) => {}
        }
    }

    /// Tells a client that is still there how it ended: its status, or why there is none.
    pub(super) async fn conclude(self, outcome: Result<Option<Value>, String>) {
        match outcome {
            Ok(Some(status)) => self.end(&status).await,
            Ok(None) => {}
            Err(message) => self.end(&channels::failure_status(&message)).await,
        }
    }

    /// Tells how it ended, and lets the client go.
    async fn end(self, status: &Value) {
        let Self { source, outlets, writer } = self;
        let farewell = async {
            outlets.end(status).await;
            drop(outlets);
            match source {
                Source::Streams(streams) => streams.session.end().await,
                Source::Channels(_) => {}
            }
            if let Some(writer) = writer {
                let _ended = writer.await;
            }
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!("a client did not take the end of its process");
        }
    }
}

impl Outlets {
    /// Sends output. False if the client takes no more.
    pub(super) async fn send(&self, channel: u8, bytes: &[u8]) -> bool {
        match self {
            Self::Channels(sender) => sender.send(Message::binary(channels::message(channel, bytes))).await.is_ok(),
            Self::Streams(outputs) => match outputs.outputs.get(usize::from(channel)) {
                Some(Some(output)) => output.send(bytes).await,
                // Not wanted.
                _ => true,
            },
        }
    }

    async fn end(&self, status: &Value) {
        match self {
            Self::Channels(_) => drop(self.send(ERROR, status.to_string().as_bytes()).await),
            Self::Streams(outputs) => {
                let text =
                    if outputs.takes_status { status.to_string() } else { status["message"].as_str().unwrap_or_default().to_owned() };
                self.send(ERROR, text.as_bytes()).await;
                for output in outputs.outputs.iter().flatten() {
                    output.finish().await;
                }
            }
        }
    }
}

impl Streams {
    /// Waits until the client has opened all streams that it asked for. `None` if it goes away instead.
    async fn open(mut session: Session, wanted: Wanted, version: usize) -> Option<(Self, Outputs)> {
        let resizes = wanted.terminal && version >= 3;
        let parts = [wanted.input, wanted.output, wanted.error && !wanted.terminal, true, resizes];
        let mut missing = parts.into_iter().filter(|wanted| *wanted).count();
        let (mut outputs, mut input, mut sizes) = ([None, None, None, None], None, None);
        while missing > 0 {
            let stream = session.accept().await?;
            let place = match stream.header("streamtype") {
                Some("stdin") if wanted.input => 0,
                Some("stdout") if wanted.output => STDOUT,
                Some("stderr") if wanted.error && !wanted.terminal => STDERR,
                Some("error") => ERROR,
                Some("resize") if resizes => {
                    sizes = Some(stream.input);
                    missing -= 1;
                    continue;
                }
                _ => {
                    stream.output.refuse().await;
                    continue;
                }
            };
            if place == 0 {
                input = Some(stream.input);
            }
            let slot = &mut outputs[usize::from(place)];
            missing -= usize::from(slot.is_none());
            *slot = Some(stream.output);
        }
        let outputs = Outputs { outputs, takes_status: version >= 4 };
        Some((Self { session, input, sizes, size: Vec::new() }, outputs))
    }

    async fn next(&mut self) -> Said {
        tokio::select! {
            bytes = receive(&mut self.input) => bytes.map_or(Said::InputEnds, |bytes| Said::Input(bytes.to_vec())),
            bytes = receive(&mut self.sizes) => self.resized(&bytes.unwrap_or_default()),
            stream = self.session.accept() => match stream {
                Some(stream) => {
                    stream.output.refuse().await;
                    Said::Nothing
                }
                None => Said::Farewell,
            },
        }
    }

    /// Takes a piece of what tells the terminal's size: one object after the other.
    fn resized(&mut self, bytes: &[u8]) -> Said {
        self.size.extend_from_slice(bytes);
        let Some(end) = self.size.iter().rposition(|byte| *byte == b'}') else {
            if self.size.len() > MAX_SIZE {
                self.size.clear();
            }
            return Said::Nothing;
        };
        let begin = self.size[..end].iter().rposition(|byte| *byte == b'{').unwrap_or(0);
        let said = channels::parse_size(&self.size[begin..=end]).unwrap_or(Said::Nothing);
        self.size.drain(..=end);
        said
    }
}

/// The next piece of a stream; its end once, and then never anything.
async fn receive(stream: &mut Option<Input>) -> Option<Bytes> {
    let Some(open) = stream else { return std::future::pending().await };
    let bytes = open.next().await;
    if bytes.is_none() {
        *stream = None;
    }
    bytes
}
