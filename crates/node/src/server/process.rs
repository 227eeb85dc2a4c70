//! A process's ends of a conversation with a client: its output, and its input.

use std::os::fd::OwnedFd;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Sender;
use tokio::task::JoinHandle;

use super::channels::{STDERR, STDOUT, Said};
use super::client::{Client, Outlets, Wanted};
use crate::descriptor::{reader, resize, writer};

/// What is read of a process's output at once.
const CHUNK: usize = 16 << 10;

/// Carries a process's output to a client, as long as this lives.
pub(super) struct Pumps(Vec<JoinHandle<()>>);

impl Pumps {
    pub(super) fn begin(stdout: OwnedFd, stderr: Option<OwnedFd>, to: &Outlets, wanted: Wanted) -> Result<Self, String> {
        let mut pumps = Self(vec![pump(stdout, STDOUT, to.clone(), wanted.output)?]);
        if let Some(stderr) = stderr {
            pumps.0.push(pump(stderr, STDERR, to.clone(), wanted.error)?);
        }
        Ok(pumps)
    }

    /// Returns when all output has been carried. The wait may be given up and begun again.
    pub(super) async fn drained(&mut self) {
        while let Some(pump) = self.0.last_mut() {
            let _ended = pump.await;
            self.0.pop();
        }
    }
}

impl Drop for Pumps {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Carries output to the client, or away if it is not wanted.
fn pump(from: OwnedFd, channel: u8, to: Outlets, wanted: bool) -> Result<JoinHandle<()>, String> {
    let mut from = reader(from).map_err(|error| error.to_string())?;
    Ok(tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if wanted && !to.send(channel, &buffer[..read]).await {
                return;
            }
        }
    }))
}

/// What a client says to a process.
pub(super) struct Input {
    stdin: Option<Sender>,
    /// The client may give input; a terminal's size it may tell without.
    gives: bool,
    /// What the process has not taken yet.
    waiting: Bytes,
}

impl Input {
    pub(super) fn new(stdin: Option<OwnedFd>, gives: bool) -> Result<Self, String> {
        let stdin = stdin.map(writer).transpose().map_err(|error| error.to_string())?;
        Ok(Self { stdin, gives, waiting: Bytes::new() })
    }

    /// What the client says next, when the process has taken all that it said before. A process that takes nothing does not hide that
    /// the client has gone. The wait may be given up and begun again.
    pub(super) async fn next(&mut self, client: &mut Client) -> Said {
        tokio::select! {
            () = self.given() => {}
            () = client.gone() => return Said::Farewell,
        }
        match client.next().await {
            Said::Input(_) | Said::InputEnds if !self.gives => Said::Nothing,
            said => said,
        }
    }

    /// Does what the client says to the process; what is input is given with the next wait.
    pub(super) fn hear(&mut self, said: Said) {
        match said {
            Said::Input(bytes) => self.waiting = bytes.into(),
            Said::Resize { width, height } => {
                if let Some(terminal) = &self.stdin {
                    resize(terminal, width, height);
                }
            }
            Said::InputEnds | Said::Nothing | Said::Farewell => {}
        }
    }

    /// No more input comes from this client.
    pub(super) fn end(&mut self) {
        self.stdin = None;
    }

    /// Waits until the process has taken what waits, or takes nothing any more.
    async fn given(&mut self) {
        while let Some(stdin) = self.stdin.as_mut().filter(|_| !self.waiting.is_empty()) {
            match stdin.write(&self.waiting).await {
                Ok(count) => self.waiting.advance(count),
                Err(_) => self.stdin = None,
            }
        }
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;

    use futures::SinkExt;
    use http::{HeaderValue, Request};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use nix::unistd::pipe;
    use tokio::io::DuplexStream;
    use tokio::sync::mpsc;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    use super::*;
    use crate::server::{client, upgrade};

    const ALL: Wanted = Wanted { input: true, output: true, error: true, terminal: false };

    /// A client over a WebSocket, from both sides.
    async fn meet() -> (WebSocketStream<DuplexStream>, Client) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (met, mut meeting) = mpsc::channel(1);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let met = met.clone();
            async move {
                let accepted = upgrade::accept(&mut request, client::offer("attach")).unwrap();
                Ok::<_, Infallible>(Client::greet(accepted, ALL, async move |client| drop(met.send(client).await)))
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades());
        let mut request = "ws://node/".into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("v5.channel.k8s.io"));
        let (socket, _) = tokio_tungstenite::client_async(request, near).await.unwrap();
        (socket, meeting.recv().await.unwrap())
    }

    #[tokio::test]
    async fn the_wait_for_the_end_of_output_may_be_begun_again() {
        let ((stdout, out), (stderr, err)) = (pipe().unwrap(), pipe().unwrap());
        let (sender, _receiver) = mpsc::channel(1);
        let mut pumps = Pumps::begin(stdout, Some(stderr), &Outlets::Channels(sender), ALL).unwrap();
        // Whichever ends first: the wait has seen it and is given up.
        drop(out);
        while !pumps.0[0].is_finished() {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            let mut wait = std::pin::pin!(pumps.drained());
            assert!(poll_fn(|context| std::task::Poll::Ready(wait.as_mut().poll(context).is_pending())).await);
        }
        drop(err);
        pumps.drained().await;
        pumps.drained().await;
    }

    #[tokio::test]
    async fn who_may_not_give_input_does_not_end_it_either() {
        let (mut socket, mut client) = meet().await;
        let mut input = Input::new(Some(pipe().unwrap().1), false).unwrap();
        for message in [&b"\x00input"[..], b"\xff\x00"] {
            socket.send(Message::binary(message)).await.unwrap();
            assert_eq!(input.next(&mut client).await, Said::Nothing);
        }
        let mut input = Input::new(None, true).unwrap();
        socket.send(Message::binary(&b"\xff\x00"[..])).await.unwrap();
        assert_eq!(input.next(&mut client).await, Said::InputEnds);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_is_noticed_though_its_input_is_not_read() {
        let (mut socket, mut client) = meet().await;
        let (_unread, stdin) = pipe().unwrap();
        let mut input = Input::new(Some(stdin), true).unwrap();
        let mut message = vec![b'x'; 200 << 10];
        message[0] = 0;
        socket.send(Message::binary(message)).await.unwrap();
        let said = input.next(&mut client).await;
        assert!(matches!(said, Said::Input(_)));
        input.hear(said);
        drop(socket);
        assert_eq!(input.next(&mut client).await, Said::Farewell);
    }
}
