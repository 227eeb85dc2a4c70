//! One list and one watch of a resource, as text: the loop that keeps a view fed, written and compiled once for all kinds.
//!
//! # Guarantees
//! * After a complete list, the sink is told every change that the server tells of, in its order; a watch that breaks off is
//!   resumed where it was, and one that can't be resumed is followed by a new list.
//! * A server that is gone or fails is asked again for ever, less and less often.

use std::io;
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncBufReadExt};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::Status;
use kube::core::request::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use crate::retry::Retry;

/// How many objects a list brings at a time.
const PAGE: u32 = 500;
/// How long one page of a list may take.
const LIST_DEADLINE: Duration = Duration::from_secs(60);
/// The server ends a watch after so many seconds; it is resumed.
const WATCH_SECONDS: u32 = 290;
/// How long a watch may bring nothing, not even bookmarks or its end.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
/// An event beyond this is none that a Kubernetes server sends.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// Who is told of the objects of a resource. Each object comes as the JSON text of the server.
pub trait Sink: Send {
    /// A list is about to be asked for.
    fn begin_list(&mut self);
    /// One object of the list that is being received.
    fn listed(&mut self, object: &str) -> Result<(), serde_json::Error>;
    /// The list is complete: what was not listed since [`Sink::begin_list`] does not exist.
    fn end_list(&mut self);
    /// An object is new or has changed.
    fn changed(&mut self, object: &str) -> Result<(), serde_json::Error>;
    /// An object is gone; the text is its last state.
    fn deleted(&mut self, object: &str) -> Result<(), serde_json::Error>;
}

/// What is listed and watched.
#[derive(Clone, Debug)]
pub struct Source {
    /// For logs.
    pub name: String,
    /// The path of the collection: `/api/v1/pods`.
    pub path: String,
    /// Whether only the objects' metadata is asked for.
    pub metadata_only: bool,
}

#[derive(Debug, Error)]
enum FeedError {
    #[error(transparent)]
    Request(#[from] kube::Error),
    #[error("the server did not answer a list within {} s", LIST_DEADLINE.as_secs())]
    NoAnswer,
    #[error("the watch brought nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the watch broke off: {0}")]
    Broken(#[from] io::Error),
    #[error("an event is longer than {LONGEST_LINE} bytes")]
    LongLine,
    #[error("an answer can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the server ended the watch: {0}")]
    Ended(Box<Status>),
}

impl FeedError {
    /// Whether the watch may go on from where it was. What can't be read now will not be readable then.
    fn is_resumable(&self) -> bool {
        match self {
            Self::Request(kube::Error::Api(status)) => !is_expired(status),
            Self::Request(_) | Self::NoAnswer | Self::Silent | Self::Broken(_) => true,
            Self::Ended(_) | Self::LongLine | Self::Malformed(_) => false,
        }
    }
}

fn is_expired(status: &Status) -> bool {
    status.code == 410 || status.reason == "Expired" || status.reason == "Gone"
}

/// A page of a list.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: Option<PageMeta>,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Line<'a> {
    r#type: Kind,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// The part of an object that says where a watch is.
#[derive(Deserialize)]
struct Versioned {
    metadata: PageMeta,
}

impl Source {
    /// Feeds the sink for ever.
    pub async fn feed(&self, client: &Client, sink: &mut dyn Sink) {
        let mut retry = Retry::default();
        // Where the watch is to go on; `None` before a complete list.
        let mut version = None;
        loop {
            let done = match version.as_mut() {
                None => self.list(client, sink).await.map(|listed| version = Some(listed)).map(|()| true),
                Some(version) => self.watch(client, version, sink).await,
            };
            match done {
                Ok(true) => continue,
                // A watch that ends at once, again and again, is not asked for without a pause.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(resource = self.name, %error, "watch failed; it is tried again");
                    if !error.is_resumable() {
                        version = None;
                    }
                }
            }
            sleep(retry.delay()).await;
        }
    }

    /// Brings a complete list; answers at which version it was.
    async fn list(&self, client: &Client, sink: &mut dyn Sink) -> Result<String, FeedError> {
        sink.begin_list();
        let mut parameters = ListParams { limit: Some(PAGE), ..ListParams::default() };
        loop {
            let request = Request::new(self.path.as_str());
            let request = if self.metadata_only { request.list_metadata(&parameters) } else { request.list(&parameters) };
            let request = request.map_err(kube::Error::BuildRequest)?;
            let text = timeout(LIST_DEADLINE, client.request_text(request)).await.map_err(|_| FeedError::NoAnswer)??;
            let page: Page<'_> = serde_json::from_str(&text)?;
            page.items.iter().try_for_each(|item| sink.listed(item.get()))?;
            let metadata = page.metadata.unwrap_or_default();
            match metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => {
                    sink.end_list();
                    return Ok(metadata.resource_version.unwrap_or_default());
                }
            }
        }
    }

    /// Passes on what happens after a version, and keeps the version, until the server ends the watch. Answers whether it
    /// brought anything.
    async fn watch(&self, client: &Client, version: &mut String, sink: &mut dyn Sink) -> Result<bool, FeedError> {
        let parameters = WatchParams { timeout: Some(WATCH_SECONDS), bookmarks: true, ..WatchParams::default() };
        let request = Request::new(self.path.as_str());
        let request = match self.metadata_only {
            true => request.watch_metadata(&parameters, version),
            false => request.watch(&parameters, version),
        };
        let stream = client.request_stream(request.map_err(kube::Error::BuildRequest)?);
        let stream = timeout(SILENCE, stream).await.map_err(|_| FeedError::Silent)??;
        let mut stream = std::pin::pin!(stream);
        let (mut line, mut any) = (Vec::new(), false);
        while timeout(SILENCE, next_line(&mut stream, &mut line)).await.map_err(|_| FeedError::Silent)?? {
            event(&line, version, sink)?;
            any = true;
        }
        Ok(any)
    }
}

/// Passes one event on.
fn event(line: &[u8], version: &mut String, sink: &mut dyn Sink) -> Result<(), FeedError> {
    let Line { r#type, object } = serde_json::from_slice(line)?;
    match r#type {
        Kind::Added | Kind::Modified => sink.changed(object.get())?,
        Kind::Deleted => sink.deleted(object.get())?,
        Kind::Bookmark => {}
        Kind::Error => return Err(FeedError::Ended(serde_json::from_str(object.get())?)),
    }
    let object: Versioned = serde_json::from_str(object.get())?;
    if let Some(newer) = object.metadata.resource_version {
        *version = newer;
    }
    Ok(())
}

/// Reads up to the next line's end; false at the end of the stream. A line that was begun and broke off is dropped: the
/// server tells of it again.
async fn next_line(stream: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> Result<bool, FeedError> {
    line.clear();
    loop {
        let piece = stream.fill_buf().await?;
        if piece.is_empty() {
            return Ok(false);
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(piece.len());
        line.extend_from_slice(&piece[..length]);
        stream.consume_unpin(length + usize::from(end.is_some()));
        if line.len() > LONGEST_LINE {
            return Err(FeedError::LongLine);
        }
        if end.is_some() && !line.is_empty() {
            return Ok(true);
        }
    }
}
