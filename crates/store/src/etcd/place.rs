//! What is where below the prefix, and what etcd's numbers mean as revisions.

use serde::{Deserialize, Serialize};

use super::message::Number;
use crate::{Guard, Revision};

/// The layout that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// The keys below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Begins all keys; ends with a slash.
    all: String,
    /// Begins the keys of documents.
    data: String,
}

impl Places {
    pub(super) fn new(prefix: &str) -> Self {
        Self { all: format!("{prefix}/"), data: format!("{prefix}/data/") }
    }

    /// All keys, from the first up to the second.
    pub(super) fn all(&self) -> (&str, String) {
        (&self.all, after_all(&self.all))
    }

    /// The keys of all documents, from the first up to the second.
    pub(super) fn data(&self) -> (&str, String) {
        (&self.data, after_all(&self.data))
    }

    /// Where a document is.
    pub(super) fn document(&self, key: &str) -> String {
        format!("{}{key}", self.data)
    }

    /// The key of the document at a place; `None` for what is no document.
    pub(super) fn key<'a>(&self, place: &'a str) -> Option<&'a str> {
        place.strip_prefix(&self.data)
    }

    /// What the whole store is; see [`Charter`].
    pub(super) fn charter(&self) -> String {
        format!("{}charter", self.all)
    }

    /// Touched by each commit under a guard.
    pub(super) fn guard(&self, guard: &Guard) -> String {
        format!("{}guards/{}", self.all, guard.slot)
    }

    /// What the servers of one store have agreed on.
    pub(super) fn agreed(&self, name: &str) -> String {
        format!("{}agreed/{name}", self.all)
    }

    /// Written to keep out attempts to create something that may still be on their way.
    pub(super) fn fence(&self) -> String {
        format!("{}fence", self.all)
    }

    /// Written to find out how far the watch has come, where others write to the same etcd.
    pub(super) fn barrier(&self) -> String {
        format!("{}barrier", self.all)
    }
}

/// The first key that does not begin with a text that ends with a slash.
fn after_all(prefix: &str) -> String {
    let mut end = prefix.trim_end_matches('/').to_owned();
    end.push('0');
    end
}

/// What the whole store is. Written once, or twice by a migration; never changed while the store is in use.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Charter {
    pub(super) format: u32,
    /// Whether a migration to here has not come to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) incomplete: bool,
    /// The revision the store was at when this was written; etcd's own where nothing was migrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<u64>,
}

impl Charter {
    /// Of a store that begins empty.
    pub(super) fn new() -> Self {
        Self { format: FORMAT, incomplete: false, revision: None }
    }

    /// Of one that a migration begins to fill.
    pub(super) fn incomplete() -> Self {
        Self { incomplete: true, ..Self::new() }
    }

    /// Of one that a migration has filled.
    pub(super) fn migrated(at: Revision) -> Self {
        Self { revision: Some(at.0), ..Self::new() }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a charter has string keys only")
    }

    /// `None` when it is of another version, or none at all.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|charter: &Self| charter.format == FORMAT)
    }
}

/// Etcd counts its changes; a store that came from elsewhere goes on from where it was there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    /// The number of the change that wrote the charter, and the revision it stands for. All that is older came with a migration.
    pub(super) begin: Number,
    revision: Revision,
}

impl Numbering {
    pub(super) fn new(charter: &Charter, written: Number) -> Self {
        Self { begin: written, revision: Revision(charter.revision.unwrap_or(written)) }
    }

    /// What a change is as a revision. Changes before the charter have none of their own: they are as old as it.
    pub(super) fn revision(self, number: Number) -> Revision {
        Revision(self.revision.0 + number.saturating_sub(self.begin))
    }

    /// The change that is a revision; `None` for one that is older than the charter.
    pub(super) fn number(self, revision: Revision) -> Option<Number> {
        revision.0.checked_sub(self.revision.0).filter(|since| *since > 0).map(|since| self.begin + since)
    }

    /// The change up to which everything is known at a revision.
    pub(super) fn known(self, revision: Revision) -> Number {
        self.number(revision).unwrap_or(self.begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_below_their_prefix_only() {
        let places = Places::new("/x");
        assert_eq!(places.key(&places.document("/pods/a")), Some("/pods/a"));
        assert_eq!(places.key(&places.barrier()), None);
        assert_eq!((places.all(), places.data()), (("/x/", "/x0".to_owned()), ("/x/data/", "/x/data0".to_owned())));
    }

    #[test]
    fn numbers_go_on_from_the_revision_that_was_migrated() {
        let fresh = Numbering::new(&Charter::new(), 7);
        assert_eq!((fresh.revision(9), fresh.number(Revision(9)), fresh.number(Revision(7))), (Revision(9), Some(9), None));
        for revision in [3, 1000] {
            let migrated = Numbering::new(&Charter::migrated(Revision(revision)), 20);
            assert_eq!(migrated.revision(21), Revision(revision + 1));
            assert_eq!(migrated.number(Revision(revision + 1)), Some(21));
            assert_eq!((migrated.number(Revision(revision)), migrated.known(Revision(revision))), (None, 20));
        }
    }

    #[test]
    fn a_charter_of_another_version_is_not_read() {
        let charter = Charter::migrated(Revision(7));
        assert_eq!(Charter::read(&charter.to_json()), Some(charter));
        assert_eq!(Charter::read(br#"{"format":2}"#), None);
        assert_eq!(Charter::read(b"x"), None);
    }
}
