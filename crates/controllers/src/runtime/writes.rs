//! What a controller has written and its live view does not show yet.

use std::time::Duration;

use informer::{Informer, Watched};
use kinds::ObjectKey;
use tokio::time::timeout;

use super::ReconcileError;

/// How long a view may lag behind a write before the round counts as failed.
const VIEW_DEADLINE: Duration = Duration::from_secs(10);

/// The writes of one kind that a view has still to show.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// The newest `resourceVersion` that was written.
    newest: u64,
    /// Deleted objects and their uids.
    deleted: Vec<(ObjectKey, String)>,
}

impl Writes {
    /// Remembers an object as the server answered it after a create, update or patch.
    pub fn wrote<K: Watched>(&mut self, answer: &K) {
        let version = answer.meta().resource_version.as_deref().and_then(|version| version.parse().ok());
        self.newest = self.newest.max(version.unwrap_or(0));
    }

    /// Remembers that the object with this key and uid was deleted, or asked to go.
    pub fn deleted(&mut self, key: ObjectKey, uid: impl Into<String>) {
        self.deleted.push((key, uid.into()));
    }

    /// Adds the writes of `other`.
    pub fn merge(&mut self, other: Self) {
        self.newest = self.newest.max(other.newest);
        self.deleted.extend(other.deleted);
    }

    /// Waits until the view shows them all; then forgets them. Those it does not show in time are kept.
    pub async fn seen_by<K: Watched>(&mut self, informer: &Informer<K>) -> Result<(), ReconcileError> {
        let all = async {
            informer.caught_up(&self.newest.to_string()).await;
            for (key, uid) in &self.deleted {
                informer.until(key, |object| object.is_none_or(|object| is_leaving(object, uid))).await;
            }
        };
        let seen = timeout(VIEW_DEADLINE, all).await;
        seen.map_err(|_| ReconcileError::Behind { kind: K::kind(&()).into_owned() })?;
        *self = Self::default();
        Ok(())
    }
}

/// Whether the object with this uid is gone or on its way.
fn is_leaving<K: Watched>(object: &K, uid: &str) -> bool {
    object.meta().deletion_timestamp.is_some() || object.meta().uid.as_deref() != Some(uid)
}
