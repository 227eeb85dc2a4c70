//! One watch: the stream of events a client receives. Events are encoded once for all plain watchers; what a client does not
//! take is kept nowhere but in the store's bounded backlog, and when that is exceeded the watch ends.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kinds::Resource;
use serde_json::json;
use store::{Document, Entry, Event, Frame, Revision, Watch, WatchError, WatchMessage};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Shared;
use crate::error::ApiError;
use crate::present::{self, Form};
use crate::protobuf;
use crate::query::ListOptions;
use crate::random;
use crate::selection::Selection;
use crate::verbs::Begin;

/// A watch without a time of its own ends after this, and up to as much again.
const SHORTEST: Duration = Duration::from_secs(1800);
/// Initial events are sent in pieces of about this size, in bytes.
const PIECE: usize = 64 << 10;

/// An event in JSON, around the object.
pub const LINE: Frame = Frame { added: r#"{"type":"ADDED","object":"#, modified: r#"{"type":"MODIFIED","object":"#, end: "}\n" };

/// What is watched, and how it is told.
pub struct Subject {
    pub resource: &'static Resource,
    pub selection: Selection,
    pub form: Form,
    pub framing: Framing,
}

/// How events follow each other on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A line of JSON each.
    Json,
    /// A message each, with its length before it.
    Protobuf,
}

impl Framing {
    /// The media type of a stream of events.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    /// One event. `None` if the object has no form in protobuf.
    fn event(self, kind: &str, object: &[u8]) -> Option<Bytes> {
        match self {
            Self::Json => Some(framed(kind, object)),
            Self::Protobuf => protobuf::event(kind, object),
        }
    }

    /// The event that says why a watch ends.
    pub fn error(self, error: &ApiError) -> Bytes {
        self.event("ERROR", &serde_json::to_vec(&error.status()).unwrap_or_default()).unwrap_or_default()
    }

    /// Where all watchers of a commit find what the first of them has encoded.
    fn shared(self, event: &Event) -> &OnceLock<Bytes> {
        match self {
            Self::Json => &event.frame,
            Self::Protobuf => &event.binary,
        }
    }
}

/// How far a watch has come.
enum Stage {
    /// Objects that were there when it began are told.
    Initial {
        rest: std::vec::IntoIter<Entry>,
        tells_end: bool,
    },
    Following,
    Ended,
}

/// One watch.
pub struct Watching {
    subject: Subject,
    watch: Box<dyn Watch>,
    stage: Stage,
    /// Everything up to this revision has been told or did not concern the client.
    seen: Revision,
    /// Whether a Table's columns have been told.
    told_columns: bool,
    ends: Instant,
    /// When the next bookmark is due; `None` when the client wants none.
    bookmark: Option<Instant>,
    /// How long after that the next one is.
    bookmarks: Duration,
    closing: CancellationToken,
}

/// What wakes a watch.
enum Wake {
    Message(Result<WatchMessage, WatchError>),
    Bookmark,
    End,
}

impl Watching {
    /// A watch that begins as it is told to.
    pub fn new(subject: Subject, watch: Box<dyn Watch>, begin: Begin, options: &ListOptions, shared: &Shared) -> Self {
        let (now, bookmarks) = (Instant::now(), shared.config.limits.bookmarks);
        let spread = Duration::from_secs(u64::from(u16::from_le_bytes(random::bytes())) % SHORTEST.as_secs());
        Self {
            subject,
            watch,
            seen: begin.after,
            stage: Stage::Initial { rest: begin.initial.into_iter(), tells_end: begin.tells_end },
            told_columns: false,
            ends: now + options.timeout.unwrap_or(SHORTEST + spread),
            bookmark: options.bookmarks.then_some(now + bookmarks),
            bookmarks,
            closing: shared.closing.clone(),
        }
    }

    /// The next piece of the stream; `None` when it has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let piece = match &mut self.stage {
                Stage::Ended => return None,
                Stage::Initial { .. } => self.initial(),
                Stage::Following => self.follow().await,
            };
            if piece.is_some() {
                return piece;
            }
        }
    }

    fn initial(&mut self) -> Option<Bytes> {
        let Stage::Initial { rest, tells_end } = &mut self.stage else { return None };
        let mut piece = BytesMut::new();
        for entry in rest.by_ref() {
            let json = entry.document.json();
            if self.subject.selection.selects(self.subject.resource, &entry.key, json) {
                piece.put(self.subject.frame("ADDED", json, !self.told_columns)?);
                self.told_columns = true;
            }
            if piece.len() >= PIECE {
                return Some(piece.freeze());
            }
        }
        if *tells_end {
            piece.put(self.subject.bookmark(self.seen, true));
        }
        self.stage = Stage::Following;
        (!piece.is_empty()).then(|| piece.freeze())
    }

    async fn follow(&mut self) -> Option<Bytes> {
        match self.wake().await {
            Wake::Message(Ok(WatchMessage::Event(event))) => {
                self.seen = event.revision;
                let frame = self.subject.event(&event, !self.told_columns);
                self.told_columns |= frame.is_some();
                frame
            }
            Wake::Message(Ok(WatchMessage::Progress(revision))) => {
                self.seen = self.seen.max(revision);
                None
            }
            Wake::Message(Err(error)) => {
                self.stage = Stage::Ended;
                match error {
                    WatchError::Compacted { .. } => Some(self.subject.framing.error(&failure(&error))),
                    WatchError::TooSlow { .. } | WatchError::Closed => None,
                }
            }
            Wake::Bookmark => {
                self.bookmark = Some(Instant::now() + self.bookmarks);
                Some(self.subject.bookmark(self.seen, false))
            }
            Wake::End => {
                self.stage = Stage::Ended;
                self.bookmark.map(|_| self.subject.bookmark(self.seen, false))
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let (next, wake) = match self.bookmark {
            Some(bookmark) if bookmark < self.ends => (bookmark, Wake::Bookmark),
            _ => (self.ends, Wake::End),
        };
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Wake::End,
            message = self.watch.next() => Wake::Message(message),
            () = tokio::time::sleep_until(next) => wake,
        }
    }
}

impl Subject {
    /// What a commit means to who sees only what is selected.
    fn event(&self, event: &Arc<Event>, columns: bool) -> Option<Bytes> {
        let selected = |document: &Option<Document>| {
            document.clone().filter(|document| self.selection.selects(self.resource, &event.key, document.json()))
        };
        let (kind, document) = match (selected(&event.previous), selected(&event.document)) {
            (None, None) => return None,
            (None, Some(now)) => ("ADDED", now),
            (Some(_), Some(now)) => ("MODIFIED", now),
            (Some(before), None) => ("DELETED", before.restated(event.revision)),
        };
        // Everybody sees the same unless the object has just entered or left this selection.
        let shared = self.form.is_plain() && std::ptr::eq(self.resource, self.resource.stored()) && kind == plain_kind(event);
        if shared {
            if let Some(frame) = self.framing.shared(event).get() {
                return Some(frame.clone());
            }
            let frame = self.frame(kind, document.json(), columns)?;
            return Some(self.framing.shared(event).get_or_init(|| frame).clone());
        }
        self.frame(kind, document.json(), columns)
    }

    fn frame(&self, kind: &str, json: &Bytes, columns: bool) -> Option<Bytes> {
        match present::object(self.resource, json, self.form, columns) {
            Ok(object) => self.framing.event(kind, &object),
            Err(error) => Some(self.framing.error(&error)),
        }
    }

    fn bookmark(&self, revision: Revision, ends_initial_events: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if ends_initial_events {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form.is_plain() {
            true => json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata}),
            false => self.transformed_bookmark(metadata),
        };
        self.framing.event("BOOKMARK", object.to_string().as_bytes()).unwrap_or_default()
    }

    fn transformed_bookmark(&self, metadata: serde_json::Value) -> serde_json::Value {
        use crate::media::Presentation;
        match self.form.presentation {
            Presentation::Table { version } => {
                let object = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
                });
                json!({
                    "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": {"resourceVersion": metadata["resourceVersion"]}, "columnDefinitions": null,
                    "rows": [{"cells": [], "object": object}],
                })
            }
            Presentation::Metadata { version } => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
            }
            Presentation::Plain => metadata,
        }
    }
}

fn plain_kind(event: &Event) -> &'static str {
    match (&event.previous, &event.document) {
        (None, _) => "ADDED",
        (Some(_), Some(_)) => "MODIFIED",
        (Some(_), None) => "DELETED",
    }
}

fn framed(kind: &str, object: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(object.len() + 40);
    frame.put_slice(br#"{"type":""#);
    frame.put_slice(kind.as_bytes());
    frame.put_slice(br#"","object":"#);
    frame.put_slice(object);
    frame.put_slice(b"}\n");
    frame.freeze()
}

/// What the store's refusal means to the client.
pub fn failure(error: &WatchError) -> ApiError {
    match error {
        WatchError::Compacted { wanted, oldest } => ApiError::Expired { message: format!("too old resource version: {wanted} ({oldest})") },
        WatchError::TooSlow { .. } | WatchError::Closed => ApiError::Unavailable { message: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_commit_comes_with_is_what_would_be_encoded() {
        for (kind, head) in [("ADDED", LINE.added), ("MODIFIED", LINE.modified)] {
            assert_eq!(framed(kind, b"{}"), format!("{head}{{}}{}", LINE.end));
        }
    }
}
