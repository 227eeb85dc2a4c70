//! One call over gRPC: a message there, one or more back, and a status after them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::timeout;

use super::message::Malformed;

/// The flag and the length before each message.
const FRAME_HEADER: usize = 5;
/// The longest answer that is read, in bytes: a page of the largest documents fits.
const LONGEST_ANSWER: usize = 512 << 20;

/// Why a call failed.
#[derive(Clone, Debug, Error)]
pub(super) enum CallError {
    /// Nothing was done: it was not sent, or etcd did not know who asks.
    #[error("{0}")]
    Unsent(String),
    /// Whether it was done is not known.
    #[error("{0}")]
    Lost(String),
    /// etcd says that it was not done, and that it won't be.
    #[error("{message} (gRPC status {code})")]
    Refused { code: u32, message: String },
}

/// Status codes of gRPC's.
pub(super) const INVALID_ARGUMENT: u32 = 3;
pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
pub(super) const OUT_OF_RANGE: u32 = 11;
const UNAUTHENTICATED: u32 = 16;
/// What is said of a token that a restarted member does not know, and of one from before users or roles were changed.
const STALE_TOKEN: [&str; 2] = ["auth token", "auth store is old"];
const UNAVAILABLE: u32 = 14;
/// What a member says, before it does anything, that sees no majority.
const NO_LEADER: &str = "etcdserver: no leader";
/// Those that don't say whether it was done: cancelled, unknown, deadline exceeded, aborted, internal, unavailable.
const UNCLEAR: [u32; 6] = [1, 2, 4, 10, 13, UNAVAILABLE];

impl CallError {
    /// What a status means.
    fn of_status(code: u32, message: String) -> Self {
        match code {
            UNAUTHENTICATED => Self::Unsent(message),
            INVALID_ARGUMENT if STALE_TOKEN.iter().any(|told| message.contains(told)) => Self::Unsent(message),
            UNAVAILABLE if message == NO_LEADER => Self::Unsent(message),
            code if UNCLEAR.contains(&code) => Self::Lost(message),
            code => Self::Refused { code, message },
        }
    }
}

impl From<Malformed> for CallError {
    fn from(_: Malformed) -> Self {
        Self::Lost("the answer is malformed".to_owned())
    }
}

/// What is sent: one message, after which the call's sending side ends, or stays open for as long as the answers are wanted.
pub(super) struct Outgoing {
    frame: Option<Bytes>,
    stays_open: bool,
}

impl Outgoing {
    pub(super) fn new(message: &[u8], stays_open: bool) -> Self {
        let mut frame = BytesMut::with_capacity(FRAME_HEADER + message.len());
        frame.put_u8(0);
        // A message is a document and a few names.
        frame.put_u32(message.len() as u32);
        frame.put_slice(message);
        Self { frame: Some(frame.freeze()), stays_open }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.frame.take() {
            Some(frame) => Poll::Ready(Some(Ok(Frame::data(frame)))),
            None if self.stays_open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_none() && !self.stays_open
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.frame.as_ref().map_or(0, Bytes::len) as u64;
        if self.stays_open { SizeHint::default() } else { SizeHint::with_exact(length) }
    }
}

/// The messages that come back.
#[derive(Debug)]
pub(super) struct Answers {
    body: Incoming,
    buffer: BytesMut,
    /// How many bytes have come.
    came: usize,
    /// How the call ended, once it has.
    ended: Option<Result<(), CallError>>,
}

impl Answers {
    pub(super) fn new(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let ended = match head.status {
            http::StatusCode::OK => status(&head.headers),
            other => Some(Err(CallError::Lost(format!("it answers with HTTP status {other}")))),
        };
        Self { body, buffer: BytesMut::new(), came: 0, ended }
    }

    /// The next message; `None` at a good end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = self.whole_message()? {
                return Ok(Some(message));
            }
            if let Some(ended) = &self.ended {
                return ended.clone().map(|()| None);
            }
            self.read().await?;
        }
    }

    /// How many bytes have come: a large message may take its time.
    pub(super) fn came(&self) -> usize {
        self.came
    }

    /// The only message, once the call has ended well. A large one may take its time, as long as it never stops for `silence`.
    pub(super) async fn only(mut self, silence: Duration) -> Result<Bytes, CallError> {
        while self.ended.is_none() {
            let late = |_| Err(CallError::Lost(format!("the answer stopped for {} s", silence.as_secs())));
            timeout(silence, self.read()).await.unwrap_or_else(late)?;
            if self.buffer.len() > LONGEST_ANSWER {
                return Err(Malformed.into());
            }
        }
        let message = self.next().await?.ok_or(Malformed)?;
        while self.next().await?.is_some() {}
        Ok(message)
    }

    /// Reads a little more.
    async fn read(&mut self) -> Result<(), CallError> {
        match self.body.frame().await {
            Some(Ok(frame)) => self.take(frame),
            Some(Err(error)) => return Err(CallError::Lost(format!("the connection broke: {error}"))),
            None => self.ended = Some(Err(CallError::Lost("the answer broke off".to_owned()))),
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.came += data.len();
                self.buffer.extend_from_slice(&data);
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    self.ended = status(&trailers);
                }
            }
        }
    }

    fn whole_message(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(header) = self.buffer.get(..FRAME_HEADER) else { return Ok(None) };
        let length = header[1..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        if header[0] != 0 || length > LONGEST_ANSWER {
            return Err(Malformed.into());
        }
        if self.buffer.len() < FRAME_HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The status in headers or trailers.
fn status(headers: &HeaderMap) -> Option<Result<(), CallError>> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().unwrap_or(2);
    let message = text("grpc-message").unwrap_or("no reason is given").to_owned();
    Some(if code == 0 { Ok(()) } else { Err(CallError::of_status(code, message)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_let_in_may_ask_again() {
        for (code, told) in
            [(16, "invalid auth token"), (3, "etcdserver: invalid auth token"), (3, "etcdserver: revision of auth store is old")]
        {
            assert!(matches!(CallError::of_status(code, told.to_owned()), CallError::Unsent(_)), "{told}");
        }
        assert!(matches!(CallError::of_status(14, "etcdserver: no leader".to_owned()), CallError::Unsent(_)));
        assert!(matches!(CallError::of_status(14, "etcdserver: request timed out".to_owned()), CallError::Lost(_)));
        let refused = CallError::of_status(3, "etcdserver: request is too large".to_owned());
        assert!(matches!(refused, CallError::Refused { code: INVALID_ARGUMENT, .. }));
    }
}
