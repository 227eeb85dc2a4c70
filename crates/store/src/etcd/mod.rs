//! The store in an etcd cluster, for those who outgrow one machine: several servers share it.
//!
//! * A commit is one transaction that compares the key's newest change, and is answered when the `replica` has it.
//! * The replica holds all state in memory, fed by one watch; so ranges, history and watches cost etcd nothing. Before it answers what
//!   must be new, it asks etcd for its newest change and waits until it has come so far. Those who ask at one time share the question.
//! * A connection that breaks goes on with the next member. The watch goes on after the last change it told, so nothing is left out or
//!   told twice; when etcd has forgotten that, all is read again and watchers list anew.
//! * Revisions are etcd's own, or go on from those of the store that was migrated here.
//!
//! Invariants: an event is published only after a majority of etcd's members has it on disk. The replica never goes back.

mod address;
mod call;
mod channel;
mod cluster;
mod commit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod import;
mod message;
mod place;
mod replica;
mod turnstile;
mod value;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::task::JoinSet;

pub use address::{Address, AddressError};
use bytes::Bytes;
use call::CallError;
use channel::{Channel, Credentials, CredentialsError};
use cluster::{Cluster, LoadError};
use commit::{Attempts, Ids};
pub use import::{Import, import};
use place::{Charter, Numbering, Places};
use replica::Replica;

use crate::{Commit, CommitError, Entry, Event, Memory, Page, Range, ReadError, Revision, Store, Watch, WatchError, within_limits};

/// How much a store keeps in memory, and in etcd.
#[derive(Clone, Debug)]
pub struct Options {
    pub memory: Memory,
    /// How old what etcd remembers may become before it is told to forget.
    pub compact_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: Memory::default(), compact_after: Duration::from_secs(300) }
    }
}

/// Why a store could not be opened or filled.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("etcd does not answer: {0}")]
    Unreachable(String),
    #[error("etcd refuses: {0}")]
    Refused(String),
    #[error("{place} in etcd is of another version of this program; use that one, or name another prefix")]
    Version { place: String },
    #[error("{place} in etcd holds a part of a migration that did not end; run it again")]
    Incomplete { place: String },
    #[error("{place} in etcd holds something already; name another prefix to migrate to")]
    NotEmpty { place: String },
    #[error("{key} in etcd does not hold what Steadfast writes; name a prefix that nobody else uses")]
    Foreign { key: String },
    #[error("what was written to etcd does not read back as it was")]
    Differs,
}

impl From<CallError> for OpenError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unsent(why) | CallError::Lost(why) => Self::Unreachable(why),
            refused @ CallError::Refused { .. } => Self::Refused(refused.to_string()),
        }
    }
}

impl From<LoadError> for OpenError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Call(error) => error.into(),
            LoadError::Foreign(key) => Self::Foreign { key },
        }
    }
}

/// A store in a cluster. Dropping it ends all watches.
pub struct Etcd {
    cluster: Arc<Cluster>,
    replica: Arc<Replica>,
    ids: Ids,
    _tasks: JoinSet<()>,
}

impl Etcd {
    /// Opens the store at an address, which begins empty if nothing is there, and reads all of it.
    pub async fn open(address: &Address, options: Options) -> Result<Self, OpenError> {
        let credentials = Arc::new(Credentials::read(address)?);
        let (calls, watches) = (Channel::new(address, Arc::clone(&credentials)), Channel::new(address, credentials));
        let places = Places::new(&address.prefix);
        let numbering = found(&calls, &places).await?;
        let cluster = Arc::new(Cluster::new(calls, watches, places, numbering, options.clone()));
        let replica = Arc::new(Replica::new(cluster.load().await?, options.memory.watch_backlog));
        let etcd = Self { _tasks: tasks(&cluster, &replica), cluster, replica, ids: Ids::default() };
        etcd.cluster.catch_up(&etcd.replica).await.map_err(|error| OpenError::Unreachable(error.to_string()))?;
        Ok(etcd)
    }

    /// What all servers of the store hold for one thing: what the first of them proposed.
    pub async fn agree(&self, name: &str, proposal: &[u8]) -> Result<Bytes, OpenError> {
        let there = self.cluster.calls.put_once(&self.cluster.places.agreed(name), proposal).await?;
        there.map(|there| there.value).ok_or_else(|| OpenError::Foreign { key: name.to_owned() })
    }

    /// What they hold, if there is anything yet.
    pub async fn agreed(&self, name: &str) -> Result<Option<Bytes>, OpenError> {
        Ok(self.cluster.calls.get(&self.cluster.places.agreed(name)).await?.map(|there| there.value))
    }

    async fn conflict<T>(&self, key: &str) -> Result<T, CommitError> {
        let (found, _) = self.get(key).await.map_err(|error| CommitError::Unavailable(error.to_string().into()))?;
        Err(CommitError::Conflict(found.map(Box::new)))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.replica.hub.close();
    }
}

/// What keeps the replica up to date and etcd small. All end with the set.
fn tasks(cluster: &Arc<Cluster>, replica: &Arc<Replica>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (followed, follower) = (Arc::clone(cluster), Arc::clone(replica));
    tasks.spawn(async move { followed.follow(&follower).await });
    let (compacted, compactor) = (Arc::clone(cluster), Arc::clone(replica));
    tasks.spawn(async move { compacted.compact_regularly(&compactor).await });
    let (teller, told) = (Arc::clone(cluster), Arc::clone(replica));
    tasks.spawn(async move { teller.tell_progress(&told).await });
    tasks
}

/// Finds the store, or founds it.
async fn found(calls: &Channel, places: &Places) -> Result<Numbering, OpenError> {
    let key = places.charter();
    let there = match calls.get(&key).await? {
        Some(there) => Some(there),
        // Another server may be first.
        None => calls.put_once(&key, &Charter::new().to_json()).await?,
    };
    let there = there.ok_or_else(|| OpenError::Foreign { key: key.clone() })?;
    let charter = Charter::read(&there.value).ok_or_else(|| OpenError::Version { place: key.clone() })?;
    if charter.incomplete {
        return Err(OpenError::Incomplete { place: key });
    }
    Ok(Numbering::new(&charter, there.changed))
}

impl Store for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision), ReadError>> {
        async move {
            self.cluster.catch_up(&self.replica).await?;
            let state = self.replica.hub.state();
            Ok((state.entry(key).cloned(), state.revision()))
        }
        .boxed()
    }

    fn range<'a>(&'a self, range: Range<'a>) -> BoxFuture<'a, Result<Page, ReadError>> {
        async move {
            self.replica.check()?;
            // What was told of the past does not change.
            if range.at.is_none_or(|at| at > self.replica.applied()) {
                self.cluster.catch_up(&self.replica).await?;
            }
            self.replica.hub.state().page(range)
        }
        .boxed()
    }

    fn commit_guarded<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Arc<Event>, CommitError>> {
        async move {
            within_limits(&commit)?;
            self.replica.check().map_err(|error| CommitError::Unavailable(error.to_string().into()))?;
            let key = commit.key;
            match Attempts::new(&self.cluster, &self.replica, commit, self.ids.next()) {
                Some(attempts) => attempts.run().await,
                None => self.conflict(key).await,
            }
        }
        .boxed()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        Ok(Box::new(Arc::clone(&self.replica.hub).subscribe(prefix, after)?))
    }

    fn revision(&self) -> Revision {
        self.replica.applied()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn newest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        async move {
            self.cluster.catch_up(&self.replica).await?;
            Ok(self.replica.applied())
        }
        .boxed()
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            self.cluster.catch_up(&self.replica).await?;
            self.replica.compact(before)?;
            self.cluster.compact(before).await.map_err(|error| ReadError::Unavailable(error.to_string().into()))
        }
        .boxed()
    }
}
