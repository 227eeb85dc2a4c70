//! One list and one watch of a resource, as text: the loop that keeps a view fed, written and compiled once for all kinds.
//!
//! # Guarantees
//! * After a complete list, the sink is told every change that the server tells of, in its order; a watch that breaks off is
//!   resumed where it was, and one that can't be resumed is followed by a new list.
//! * A server that is gone or fails is asked again for ever, less and less often.

use std::time::Duration;

use bytes::Bytes;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::Status;
use kube::core::request::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use crate::lines::{Line, LineError, Lines};
use crate::retry::Retry;

/// A failure that is tried again sooner is not told: by then it has failed for about as long.
const NEWS: Duration = Duration::from_millis(500);
/// How many objects a list brings at a time.
const PAGE: u32 = 500;
/// How long one page of a list may take.
const LIST_DEADLINE: Duration = Duration::from_secs(60);
/// The server ends a watch after so many seconds; it is resumed.
const WATCH_SECONDS: u32 = 290;
/// How long a watch may bring nothing, not even bookmarks or its end.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);

/// An object's JSON, as the server sent it.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    json: &'a str,
    /// The line that it is a part of, if the server keeps that as well.
    shared: Option<&'a Bytes>,
}

impl<'a> Text<'a> {
    /// A text of one's own.
    pub fn of(json: &'a str) -> Self {
        Self { json, shared: None }
    }

    /// The text itself.
    pub fn as_str(self) -> &'a str {
        self.json
    }

    /// The text, for as long as it is wanted, at the least cost in memory: a part of what the server keeps, or else `shortened`, which
    /// means as much.
    pub(crate) fn keep(self, shortened: &str) -> Bytes {
        match self.shared {
            Some(line) => line.slice_ref(self.json.as_bytes()),
            None => Bytes::copy_from_slice(shortened.as_bytes()),
        }
    }
}

/// Who is told of the objects of a resource.
pub trait Sink: Send {
    /// A list is about to be asked for.
    fn begin_list(&mut self);
    /// One object of the list that is being received.
    fn listed(&mut self, object: Text<'_>) -> Result<(), serde_json::Error>;
    /// The list is complete: what was not listed since [`Sink::begin_list`] does not exist.
    fn end_list(&mut self);
    /// An object is new or has changed. Answers its `resourceVersion`.
    fn changed(&mut self, object: Text<'_>) -> Result<Option<String>, serde_json::Error>;
    /// An object is gone; the text is its last state. Answers the `resourceVersion` of its end.
    fn deleted(&mut self, object: Text<'_>) -> Result<Option<String>, serde_json::Error>;
    /// The server does not serve such objects. It may later.
    fn unserved(&mut self) {}
}

/// What is listed and watched.
#[derive(Clone, Debug)]
pub struct Source {
    /// For logs.
    pub name: String,
    /// The path of the collection: `/api/v1/pods`.
    pub path: String,
    /// What of the objects is asked for.
    pub part: Part,
    /// A field selector, for some of the objects.
    pub fields: Option<String>,
}

/// What is asked for of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// Their metadata alone.
    Metadata,
    /// Their metadata, of a server in this process: it would have to make the texts of events anew, and shares those of whole objects.
    /// Only its lists are of metadata.
    MetadataHere,
}

#[derive(Debug, Error)]
enum FeedError {
    #[error("{}", said(.0))]
    Request(#[from] kube::Error),
    #[error("the server did not answer a list within {} s", LIST_DEADLINE.as_secs())]
    NoAnswer,
    #[error("the watch brought nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("an answer can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the server ended the watch: {0}")]
    Ended(Box<Status>),
}

impl FeedError {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Request(kube::Error::Api(status)) if status.code == 404)
    }

    /// Whether the watch may go on from where it was. What can't be read now will not be readable then.
    fn is_resumable(&self) -> bool {
        match self {
            Self::Request(kube::Error::Api(status)) => !is_expired(status),
            Self::Request(_) | Self::NoAnswer | Self::Silent | Self::Line(LineError::Broken(_)) => true,
            Self::Ended(_) | Self::Line(LineError::TooLong) | Self::Malformed(_) => false,
        }
    }
}

/// A server's refusal in its own words.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
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

/// One event of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    r#type: Kind,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Event<'_> {
    /// Takes apart a line as servers write it, without a look at the object; whoever reads that sees whether it is one.
    fn split(line: &[u8]) -> Option<(Kind, &str)> {
        let line = str::from_utf8(line).ok()?;
        let (kind, object) = line.strip_prefix(r#"{"type":""#)?.split_once(r#"","object":"#)?;
        Some((Kind::named(kind)?, object.strip_suffix('}')?))
    }

    /// Takes apart any line.
    fn read(line: &[u8]) -> Result<(Kind, &str), serde_json::Error> {
        match Self::split(line) {
            Some(event) => Ok(event),
            None => serde_json::from_slice(line).map(|Event { r#type, object }| (r#type, object.get())),
        }
    }
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "ADDED" => Some(Self::Added),
            "MODIFIED" => Some(Self::Modified),
            "DELETED" => Some(Self::Deleted),
            "BOOKMARK" => Some(Self::Bookmark),
            "ERROR" => Some(Self::Error),
            _ => None,
        }
    }
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
    /// All objects of a collection, whole.
    pub fn of(name: impl Into<String>, path: impl Into<String>) -> Self {
        Self { name: name.into(), path: path.into(), part: Part::Whole, fields: None }
    }

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
            // A watch that ends at once, again and again, is not asked for without a pause.
            let error = match done {
                Ok(true) => continue,
                Ok(false) => None,
                Err(error) => Some(error),
            };
            let delay = retry.delay();
            if let Some(error) = error {
                self.failed(&error, delay);
                if error.is_not_found() && version.is_none() {
                    sink.unserved();
                }
                if !error.is_resumable() {
                    version = None;
                }
            }
            sleep(delay).await;
        }
    }

    /// What fails once, as when a server ends, is no news.
    fn failed(&self, error: &FeedError, delay: Duration) {
        if delay < NEWS {
            tracing::debug!(resource = self.name, %error, "watch failed; it is tried again");
        } else {
            tracing::warn!(resource = self.name, %error, "watch keeps failing; it is tried again in {delay:?}");
        }
    }

    /// Brings a complete list; answers at which version it was.
    async fn list(&self, client: &Client, sink: &mut dyn Sink) -> Result<String, FeedError> {
        sink.begin_list();
        let mut parameters = ListParams { limit: Some(PAGE), field_selector: self.fields.clone(), ..ListParams::default() };
        loop {
            let request = Request::new(self.path.as_str());
            let request = match self.part {
                Part::Whole => request.list(&parameters),
                Part::Metadata | Part::MetadataHere => request.list_metadata(&parameters),
            };
            let request = request.map_err(kube::Error::BuildRequest)?;
            let text = timeout(LIST_DEADLINE, client.request_text(request)).await.map_err(|_| FeedError::NoAnswer)??;
            let page: Page<'_> = serde_json::from_str(&text)?;
            page.items.iter().try_for_each(|item| sink.listed(Text::of(item.get())))?;
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
        let field_selector = self.fields.clone();
        let parameters = WatchParams { timeout: Some(WATCH_SECONDS), bookmarks: true, field_selector, ..WatchParams::default() };
        let request = Request::new(self.path.as_str());
        let request = match self.part {
            Part::Metadata => request.watch_metadata(&parameters, version),
            Part::Whole | Part::MetadataHere => request.watch(&parameters, version),
        };
        let lines = Lines::of(client, request.map_err(kube::Error::BuildRequest)?);
        let mut lines = timeout(SILENCE, lines).await.map_err(|_| FeedError::Silent)??;
        let mut any = false;
        while let Some(line) = timeout(SILENCE, lines.next()).await.map_err(|_| FeedError::Silent)?? {
            event(&line, version, sink)?;
            any = true;
        }
        Ok(any)
    }
}

/// Passes one event on.
fn event(line: &Line, version: &mut String, sink: &mut dyn Sink) -> Result<(), FeedError> {
    let (kind, json) = Event::read(&line.bytes)?;
    let text = Text { json, shared: line.is_shared.then_some(&line.bytes) };
    let newer = match kind {
        Kind::Added | Kind::Modified => sink.changed(text)?,
        Kind::Deleted => sink.deleted(text)?,
        Kind::Bookmark => serde_json::from_str::<Versioned>(json)?.metadata.resource_version,
        Kind::Error => return Err(FeedError::Ended(serde_json::from_str(json)?)),
    };
    if let Some(newer) = newer {
        *version = newer;
    }
    Ok(())
}
