//! `exec`: runs a command in a container and carries its input and output over a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use runtime::{ExecSpec, Exit, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::channels::{self, ERROR, STDERR, STDOUT, Said};
use super::{Body, RequestError, is_true, last_values, parameters, whole};
use crate::descriptor::{reader, resize, writer};
use crate::{Shared, operations};

/// What is read of a command's output at once.
const CHUNK: usize = 16 << 10;
/// Pieces that wait for a slow client; then the command waits.
const AHEAD: usize = 8;
/// A client's message is at most so long.
const MAX_MESSAGE: usize = 1 << 20;
/// What a command wrote is carried so long after its end, should a child of it keep the pipes open.
const DRAIN: Duration = Duration::from_secs(2);
/// For a client that no longer reads.
const FAREWELL: Duration = Duration::from_secs(5);

/// What to run, and where.
struct Order {
    runtime: Runtime,
    uid: String,
    container_id: String,
    spec: ExecSpec,
    output: bool,
    error: bool,
}

/// Accepts the upgrade and runs the command behind it.
pub(super) fn serve(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, RequestError> {
    let order = order(shared, pod, container, request.uri().query().unwrap_or_default())?;
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (key, offered) = (text(header::SEC_WEBSOCKET_KEY), text(header::SEC_WEBSOCKET_PROTOCOL));
    if !text(header::UPGRADE).eq_ignore_ascii_case("websocket") || key.is_empty() {
        return Err(RequestError::Bad("exec needs a WebSocket upgrade".to_owned()));
    }
    let missing = || RequestError::Bad(format!("exec needs one of the subprotocols {}", channels::PROTOCOLS.join(", ")));
    let protocol = channels::choose(&offered).ok_or_else(missing)?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => order.carry_out(upgraded).await,
            Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
        }
    });
    let mut response = Response::new(whole(String::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|error| RequestError::Failed(error.to_string()))?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn order(shared: &Shared, pod: &Pod, container: &str, query: &str) -> Result<Order, RequestError> {
    let args: Vec<String> = parameters(query).into_iter().filter(|(name, _)| name == "command").map(|(_, value)| value).collect();
    if args.is_empty() {
        return Err(RequestError::Bad("you must specify at least one command for the container".to_owned()));
    }
    let uid = operations::uid(pod).to_owned();
    let of_container = |id: &&(String, String)| {
        let parsed = crate::container::specification::parse_container_id(&id.1);
        id.0 == uid && parsed.is_some_and(|(name, _)| name == container)
    };
    let id = shared.running.borrow().iter().find(of_container).map(|(_, id)| id.clone());
    let id = id.ok_or_else(|| RequestError::NotFound(format!("container {container} of pod {} is not running", operations::name(pod))))?;
    let values = last_values(query);
    let (terminal, stdin) = (is_true(values.get("tty")), is_true(values.get("input")));
    Ok(Order {
        runtime: shared.runtime.clone(),
        uid,
        container_id: id,
        spec: ExecSpec { args, env: Vec::new(), terminal, stdin },
        output: is_true(values.get("output")),
        error: is_true(values.get("error")),
    })
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl Order {
    async fn carry_out(self, upgraded: Upgraded) {
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let socket: Socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let (sink, mut stream) = socket.split();
        let (sender, receiver) = mpsc::channel(AHEAD);
        let writer = tokio::spawn(write(sink, receiver));
        let status = match self.run(&mut stream, &sender).await {
            Ok(Some(exit)) => channels::exit_status(exit.code),
            Ok(None) => return,
            Err(message) => channels::failure_status(&message),
        };
        let farewell = async {
            // A client that is gone needs no farewell.
            let _ = sender.send(Message::binary(channels::message(ERROR, status.to_string().as_bytes()))).await;
            drop(sender);
            let _ = writer.await;
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!("a client did not take the end of its command");
        }
    }

    /// Runs the command to its end. `None` if the client went away first.
    async fn run(self, stream: &mut futures::stream::SplitStream<Socket>, sender: &mpsc::Sender<Message>) -> Result<Option<Exit>, String> {
        let started = self.runtime.exec(&self.uid, &self.container_id, self.spec.clone()).await;
        let exec = started.map_err(|error| error.to_string())?;
        let stdin = exec.stdin.map(writer).transpose().map_err(|error| error.to_string())?;
        let output = pump(exec.stdout, STDOUT, sender.clone(), self.output)?;
        let errors = exec.stderr.map(|stderr| pump(stderr, STDERR, sender.clone(), self.error)).transpose()?;
        let mut exit = exec.exit;
        tokio::select! {
            exit = &mut exit => {
                let drained = async {
                    let _ = output.await;
                    if let Some(errors) = errors {
                        let _ = errors.await;
                    }
                };
                let _ = timeout(DRAIN, drained).await;
                exit.map(Some).map_err(|_| "the command's end was not seen".to_owned())
            }
            () = feed(stream, stdin) => {
                // The client is gone, and nobody else can see the command's end.
                if let Err(error) = self.runtime.kill_exec(&self.uid, exec.id).await {
                    tracing::debug!(%error, "the command of a client that went away was not ended");
                }
                Ok(None)
            }
        }
    }
}

/// Carries output to the client, or away if it is not wanted.
fn pump(from: std::os::fd::OwnedFd, channel: u8, to: mpsc::Sender<Message>, wanted: bool) -> Result<tokio::task::JoinHandle<()>, String> {
    let mut from = reader(from).map_err(|error| error.to_string())?;
    Ok(tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if wanted && to.send(Message::binary(channels::message(channel, &buffer[..read]))).await.is_err() {
                return;
            }
        }
    }))
}

/// Carries input to the command until the client goes away.
async fn feed(stream: &mut futures::stream::SplitStream<Socket>, mut stdin: Option<tokio::net::unix::pipe::Sender>) {
    while let Some(Ok(message)) = stream.next().await {
        let said = match message {
            Message::Binary(bytes) => channels::parse(&bytes),
            Message::Close(_) => return,
            _ => Said::Nothing,
        };
        match said {
            Said::Input(bytes) => {
                let failed = match &mut stdin {
                    Some(stdin) => stdin.write_all(&bytes).await.is_err(),
                    None => false,
                };
                if failed {
                    stdin = None;
                }
            }
            Said::InputEnds => stdin = None,
            Said::Resize { width, height } => {
                if let Some(terminal) = &stdin {
                    resize(terminal, width, height);
                }
            }
            Said::Nothing => {}
        }
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    // Clients take a close without a code for a failure. It may be closed already.
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = sink.send(Message::Close(Some(normal))).await;
    let _ = sink.close().await;
}
