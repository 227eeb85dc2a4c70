//! Pages of a collection, consistent at one revision.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use kinds::Resource;
use serde::{Deserialize, Serialize};
use store::{Range, ReadError, Revision, Store};

use crate::error::ApiError;
use crate::keys;
use crate::present::ListHead;
use crate::query::{ListOptions, Match};
use crate::selection::Selection;

/// Entries read at one time when a selection has to be searched for.
const CHUNK: usize = 1000;

/// Where a list goes on, and at which revision.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continue {
    #[serde(rename = "v")]
    version: String,
    /// -1 for a list that goes on at whatever revision is newest.
    #[serde(rename = "rv")]
    pub(crate) revision: i64,
    /// The last key of the page before, without the collection's prefix.
    pub(crate) start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    pub(crate) fn encoded(revision: i64, start: &str) -> String {
        let token = Self { version: TOKEN_VERSION.to_owned(), revision, start: start.to_owned() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    pub(crate) fn decoded(token: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('='));
        let token = bytes.ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        token
            .filter(|token| token.version == TOKEN_VERSION && !token.start.is_empty())
            .ok_or_else(|| ApiError::bad_request("continue key is not valid: the token is not one of this server's"))
    }
}

/// One page: stored texts, and what the list says about itself.
#[derive(Debug)]
pub struct Listed {
    pub keys: Vec<std::sync::Arc<str>>,
    pub items: Vec<Bytes>,
    pub head: ListHead,
}

/// Where a page begins.
struct Start {
    at: Option<Revision>,
    after: Option<String>,
}

/// Reads one page.
pub async fn list(store: &dyn Store, resource: &'static Resource, namespace: &str, options: &ListOptions) -> Result<Listed, ApiError> {
    let namespace = if namespace.is_empty() { options.fields.namespace().unwrap_or_default() } else { namespace };
    let prefix = keys::collection(resource, namespace);
    let selection = Selection::new(options.labels.clone(), options.fields.clone());
    let start = start(store, options, &prefix).await?;
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut page = Page { keys: Vec::new(), items: Vec::new(), after: start.after.clone(), at: start.at, remaining: 0 };
    loop {
        let wanted = limit - page.items.len();
        let chunk = if selection.is_everything() { options.limit.map(|_| wanted) } else { options.limit.map(|_| wanted.max(CHUNK)) };
        let range = Range { prefix: &prefix, after: page.after.as_deref(), at: page.at, limit: chunk };
        let read = store.range(range).await.map_err(|error| expired(error, options, start.after.as_deref(), &prefix))?;
        page.take(resource, &selection, read, limit);
        if page.items.len() >= limit || page.remaining == 0 {
            break;
        }
    }
    Ok(page.finish(&prefix, selection.is_everything()))
}

/// A page in the making.
struct Page {
    keys: Vec<std::sync::Arc<str>>,
    items: Vec<Bytes>,
    /// The last key that was looked at.
    after: Option<String>,
    at: Option<Revision>,
    /// Entries of the collection that were not looked at.
    remaining: usize,
}

impl Page {
    fn take(&mut self, resource: &Resource, selection: &Selection, read: store::Page, limit: usize) {
        self.at = Some(read.revision);
        let mut left = read.entries.len();
        let mut last = None;
        self.items.reserve(if selection.is_everything() { left } else { 0 });
        for entry in read.entries {
            if self.items.len() >= limit {
                break;
            }
            left -= 1;
            if selection.selects(resource, &entry.key, entry.document.json()) {
                self.items.push(entry.document.json().clone());
                self.keys.push(entry.key.clone());
            }
            last = Some(entry.key);
        }
        self.after = last.map(|key| key.to_string()).or(self.after.take());
        self.remaining = read.remaining + left;
    }

    fn finish(self, prefix: &str, counts: bool) -> Listed {
        let revision = self.at.unwrap_or_default();
        let more = self.remaining > 0;
        let continue_token = self
            .after
            .filter(|_| more)
            .map(|after| Continue::encoded(i64::try_from(revision.0).unwrap_or(i64::MAX), after.strip_prefix(prefix).unwrap_or(&after)));
        let head = ListHead {
            resource_version: revision.to_string(),
            continue_token,
            remaining_item_count: (more && counts).then_some(self.remaining),
        };
        Listed { keys: self.keys, items: self.items, head }
    }
}

async fn start(store: &dyn Store, options: &ListOptions, prefix: &str) -> Result<Start, ApiError> {
    if let Some(token) = &options.continue_token {
        if options.revision.is_some_and(|revision| revision != 0) {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = Continue::decoded(token)?;
        let at = u64::try_from(token.revision).ok().map(Revision);
        return Ok(Start { at, after: Some(format!("{prefix}{}", token.start)) });
    }
    // Without a match rule, a page of a list is at exactly the revision asked for, and a whole list not older than it.
    let exact = options.revision_match == Some(Match::Exact) || (options.revision_match.is_none() && options.limit.is_some());
    let newest = newest(store, options.revision).await?.0;
    match options.revision {
        Some(wanted) if wanted > newest => Err(ApiError::TooLargeRevision { wanted, current: newest }),
        Some(wanted) if wanted > 0 && exact => Ok(Start { at: Some(Revision(wanted)), after: None }),
        _ => Ok(Start { at: None, after: None }),
    }
}

/// The newest revision, asked for only when what is wanted is not known yet: another server may have told of it.
pub(crate) async fn newest(store: &dyn Store, wanted: Option<u64>) -> Result<Revision, ApiError> {
    let known = store.revision();
    if wanted.is_some_and(|wanted| wanted > known.0) { Ok(store.newest().await?) } else { Ok(known) }
}

fn expired(error: ReadError, options: &ListOptions, after: Option<&str>, prefix: &str) -> ApiError {
    match (&error, after) {
        (ReadError::Compacted { .. }, Some(after)) if options.continue_token.is_some() => {
            ApiError::ContinueExpired { token: Continue::encoded(-1, after.strip_prefix(prefix).unwrap_or(after)) }
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_others_are_refused() {
        let token = Continue::encoded(7, "default/a");
        let read = Continue::decoded(&token).unwrap();
        assert_eq!((read.revision, read.start.as_str()), (7, "default/a"));
        for token in ["", "x", "e30", &URL_SAFE_NO_PAD.encode("{\"v\":\"other\",\"rv\":1,\"start\":\"a\"}")] {
            assert!(Continue::decoded(token).is_err(), "{token}");
        }
    }
}
