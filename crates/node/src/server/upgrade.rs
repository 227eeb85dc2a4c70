//! Taking a connection over: as a WebSocket or for SPDY, and what is spoken inside.

use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use futures::stream::SplitSink;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::spdy::{self, Session};
use super::{Body, RequestError, whole};

/// The header in which SPDY's clients and servers agree on a protocol.
pub(super) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// A client's message is at most so long.
const MAX_MESSAGE: usize = 1 << 20;

/// A client to which nothing has been said for so long is asked whether it is there: one that is gone is noticed by that.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// For a client that no longer reads, or that does not answer the end.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// A connection whose messages are frames of a WebSocket.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a request can be answered with, for each way of taking over, the better first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// What is asked for, for errors.
    pub what: &'static str,
    pub websocket: &'static [&'static str],
    pub spdy: &'static [&'static str],
}

/// How the connection is taken over, and the protocol that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    WebSocket(&'static str),
    Spdy(&'static str),
}

/// An accepted request: the answer, and the connection that comes after it.
pub(super) struct Accepted {
    pub chosen: Chosen,
    pub upgrade: OnUpgrade,
    pub response: Response<Body>,
}

impl Accepted {
    /// The answer. What is to be done with the connection is done beside, once the client has the answer.
    pub(super) fn carry_on<W>(self, work: impl FnOnce(Upgraded, Chosen) -> W + Send + 'static) -> Response<Body>
    where
        W: Future<Output = ()> + Send,
    {
        let Self { chosen, upgrade, response } = self;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => work(upgraded, chosen).await,
                Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
            }
        });
        response
    }
}

/// Accepts a request to take the connection over, if both sides have a protocol in common.
pub(super) fn accept(request: &mut Request<Incoming>, offer: Offer) -> Result<Accepted, RequestError> {
    let chosen = choose(request.headers(), offer)?;
    let mut response = Response::new(whole(String::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    match chosen {
        Chosen::WebSocket(protocol) => {
            let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
            let accept = HeaderValue::from_str(&derive_accept_key(key)).map_err(|error| RequestError::Failed(error.to_string()))?;
            answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        Chosen::Spdy(protocol) => {
            answer.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            answer.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
        }
    }
    Ok(Accepted { chosen, upgrade: hyper::upgrade::on(request), response })
}

/// The protocol that both sides know, by what the client offers.
pub(super) fn choose(headers: &HeaderMap, offer: Offer) -> Result<Chosen, RequestError> {
    let asked = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let lines = |name: HeaderName| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    if asked.eq_ignore_ascii_case("websocket") && headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        let offered: Vec<&str> = lines(header::SEC_WEBSOCKET_PROTOCOL).flat_map(|line| line.split(',')).map(str::trim).collect();
        let common = offer.websocket.iter().copied().find(|ours| offered.contains(ours));
        let missing = || RequestError::Bad(format!("{} needs one of the subprotocols {}", offer.what, offer.websocket.join(", ")));
        return common.map(Chosen::WebSocket).ok_or_else(missing);
    }
    if !asked.eq_ignore_ascii_case("SPDY/3.1") {
        return Err(RequestError::Bad("Upgrade request required".to_owned()));
    }
    let offered: Vec<&str> = lines(STREAM_PROTOCOL).flat_map(|line| line.split(',')).map(str::trim).collect();
    // Here it is the client's order that counts.
    let common = offered.iter().find_map(|theirs| offer.spdy.iter().copied().find(|ours| ours == theirs));
    common.map(Chosen::Spdy).ok_or_else(|| {
        let text =
            format!("unable to negotiate protocol: client supports [{}], server accepts [{}]", offered.join(" "), offer.spdy.join(" "));
        RequestError::NoProtocol(text)
    })
}

/// The connection as a WebSocket.
pub(super) async fn websocket(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// The connection as one of SPDY.
pub(super) fn session(upgraded: Upgraded) -> Session {
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    Session::begin(spdy::Incoming::Plain(Box::new(read)), spdy::Outgoing::Plain(Box::new(write)))
}

/// Writes messages until there are no more, and then the end; or until they can't be written.
pub(super) async fn write(mut sink: SplitSink<Socket, Message>, mut messages: mpsc::Receiver<Message>) {
    loop {
        let message = match timeout(IDLE, messages.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(_) => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    // It may be closed already.
    let _ = sink.send(normal_close()).await;
    let _ = sink.close().await;
}

/// Clients take a close without a code for a failure.
pub(super) fn normal_close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer { what: "exec", websocket: &["v5", "v4"], spdy: &["v4", "v3"] };

    fn chosen(headers: &[(&'static str, &'static str)]) -> Result<Chosen, StatusCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        choose(&map, OFFER).map_err(|error| error.status())
    }

    #[test]
    fn the_best_protocol_in_common_is_chosen() {
        let websocket = [("upgrade", "WebSocket"), ("sec-websocket-key", "x"), ("sec-websocket-protocol", "v3, v4,v5")];
        assert_eq!(chosen(&websocket), Ok(Chosen::WebSocket("v5")));
        let spdy = [
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v5"),
            ("x-stream-protocol-version", "v3"),
            ("x-stream-protocol-version", "v4"),
        ];
        assert_eq!(chosen(&spdy), Ok(Chosen::Spdy("v3")));
    }

    #[test]
    fn without_one_there_is_no_connection() {
        assert_eq!(chosen(&[]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(chosen(&[("upgrade", "websocket"), ("sec-websocket-key", "x")]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(chosen(&[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v9")]), Err(StatusCode::FORBIDDEN));
    }
}
