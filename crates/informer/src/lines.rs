//! The answer to a watch, line by line.

use std::io;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Limited};
use kinds::KeptAnyway;
use kube::Client;
use kube::client::Body;
use kube::core::Status;

/// An event beyond this is none that a Kubernetes server sends, in bytes.
const LONGEST_LINE: usize = 16 * 1024 * 1024;
/// A refusal beyond this is not read.
const LONGEST_REFUSAL: usize = 64 * 1024;

/// Why a watch brings no line more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the watch broke off: {0}")]
    Broken(#[from] io::Error),
    #[error("an event is longer than {LONGEST_LINE} bytes")]
    TooLong,
}

/// A line, without its end.
pub(crate) struct Line {
    pub(crate) bytes: Bytes,
    /// Whether the server keeps these bytes as well, so that it costs no memory to keep them here.
    pub(crate) is_shared: bool,
}

pub(crate) struct Lines {
    body: Body,
    /// What has come and is in no line yet.
    piece: Bytes,
    /// Whether nothing was taken of the piece.
    is_whole: bool,
    /// The beginning of a line that is not all in one piece.
    begun: Vec<u8>,
    is_shared: bool,
}

impl Lines {
    /// Asks for a watch.
    pub(crate) async fn of(client: &Client, request: http::Request<Vec<u8>>) -> Result<Self, kube::Error> {
        let answer = client.send(request.map(Body::from)).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let is_shared = answer.extensions().get::<KeptAnyway>().is_some();
        Ok(Self { body: answer.into_body(), piece: Bytes::new(), is_whole: false, begun: Vec::new(), is_shared })
    }

    /// The next line that is not empty; `None` at the end. A line that was begun and broke off is dropped: the server tells of it
    /// again. May be given up and begun again.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>, LineError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.piece) {
                let line = self.line(end);
                if !line.bytes.is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            self.begun.extend_from_slice(&self.piece);
            self.piece.clear();
            if self.begun.len() > LONGEST_LINE {
                return Err(LineError::TooLong);
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(piece) = frame.map_err(io::Error::other)?.into_data() {
                (self.piece, self.is_whole) = (piece, true);
            }
        }
    }

    /// Takes the line that ends here in the piece.
    fn line(&mut self, end: usize) -> Line {
        let bytes = self.piece.split_to(end);
        self.piece = self.piece.slice(1..);
        let is_alone = std::mem::take(&mut self.is_whole) && self.piece.is_empty() && self.begun.is_empty();
        if self.begun.is_empty() {
            return Line { bytes, is_shared: self.is_shared && is_alone };
        }
        self.begun.extend_from_slice(&bytes);
        Line { bytes: std::mem::take(&mut self.begun).into(), is_shared: false }
    }
}

async fn refusal(answer: Response<Body>) -> kube::Error {
    let code = answer.status().as_u16();
    let text = match Limited::new(answer.into_body(), LONGEST_REFUSAL).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return kube::Error::Service(error),
    };
    let status = serde_json::from_slice(&text)
        .unwrap_or_else(|_| Status::failure(String::from_utf8_lossy(&text).trim(), "InternalError").with_code(code));
    kube::Error::Api(Box::new(status))
}
