//! All state of one store, to be put into another.

use thiserror::Error;
use twox_hash::XxHash64;

use crate::{Entry, Range, ReadError, Revision, Store};

/// Entries read at a time.
const PAGE: usize = 1000;

/// Everything in a store at one revision. Put into another store, each object keeps the revision it has, and the next commit there
/// has a later one.
#[derive(Debug)]
pub struct Snapshot {
    pub revision: Revision,
    pub entries: Vec<Entry>,
}

/// Why a store's content could not be taken.
#[derive(Debug, Error)]
pub enum TransferError {
    #[error("the store can't be read: {0}")]
    Read(#[from] ReadError),
}

impl Snapshot {
    /// All of a store, as it is now.
    pub async fn of(store: &dyn Store) -> Result<Self, TransferError> {
        let revision = store.newest().await?;
        let (mut entries, mut after) = (Vec::new(), None::<String>);
        loop {
            let range = Range { prefix: "", after: after.as_deref(), at: Some(revision), limit: Some(PAGE) };
            let page = store.range(range).await?;
            entries.extend(page.entries);
            if page.remaining == 0 {
                return Ok(Self { revision, entries });
            }
            after = entries.last().map(|entry: &Entry| entry.key.to_string());
        }
    }

    /// Whether another holds the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len() && self.digest() == other.digest()
    }

    /// What is in it as one number: keys, revisions and texts.
    pub fn digest(&self) -> u64 {
        let entry = |digest, entry: &Entry| {
            let digest = XxHash64::oneshot(digest, entry.key.as_bytes());
            XxHash64::oneshot(digest ^ entry.revision.0, entry.document.json())
        };
        self.entries.iter().fold(self.revision.0, entry)
    }
}
