//! Fills an empty place in etcd with the content of another store.
//!
//! The charter says that the migration is incomplete until all is there and has been read back; nobody opens a store with such a charter.
//! Another run begins again where an earlier one broke off. The last write is the charter of a complete store: what it says of the
//! revision makes the next commit a later one.

use std::sync::Arc;

use super::address::Address;
use super::channel::{Channel, Credentials};
use super::cluster::Cluster;
use super::message::{Condition, Number, Operation, RangeRequest, transaction};
use super::place::{Charter, Numbering, Places};
use super::replica::entry_of;
use super::{OpenError, Options, value};
use crate::transfer::Snapshot;
use crate::{Entry, Revision};

/// Entries written at a time: etcd allows 128 operations in a transaction.
const BATCH_ENTRIES: usize = 100;
/// Bytes written at a time: etcd allows 1.5 MiB in a request, unless it was told to allow more.
const BATCH_BYTES: usize = 1 << 20;

/// A snapshot that is all there, and is no store yet.
#[must_use]
pub struct Import {
    cluster: Cluster,
    /// The change that wrote the charter of the incomplete store.
    claimed: Number,
    revision: Revision,
}

/// Writes a snapshot to where nothing is, and reads it back. `tell` is told how many entries are written.
pub async fn import(address: &Address, snapshot: &Snapshot, tell: &mut (dyn FnMut(usize) + Send)) -> Result<Import, OpenError> {
    let credentials = Arc::new(Credentials::read(address)?);
    let calls = Channel::new(address, Arc::clone(&credentials));
    let places = Places::new(&address.prefix);
    let claimed = claim(&calls, &places).await?;
    let mut written = 0;
    for batch in batches(&snapshot.entries) {
        write(&calls, &places, batch).await?;
        written += batch.len();
        tell(written);
    }
    let numbering = Numbering::new(&Charter::migrated(snapshot.revision), claimed);
    let cluster = Cluster::new(calls, Channel::new(address, credentials), places, numbering, Options::default());
    verify(&cluster, snapshot).await?;
    Ok(Import { cluster, claimed, revision: snapshot.revision })
}

impl Import {
    /// Makes it a store.
    pub async fn complete(self) -> Result<(), OpenError> {
        let Self { cluster, claimed, revision } = self;
        let charter = Charter::migrated(revision);
        replace_charter(&cluster.calls, &cluster.places, Condition::ChangedAt(claimed), &charter, None).await.map(drop)
    }
}

/// Makes sure that nothing is there, or what an incomplete migration has left, which is removed.
async fn claim(calls: &Channel, places: &Places) -> Result<Number, OpenError> {
    let (begin, end) = places.all();
    let condition = match calls.get(&places.charter()).await? {
        None if is_empty(calls, begin, &end).await? => Condition::Absent,
        Some(there) if Charter::read(&there.value).is_some_and(|charter| charter.incomplete) => Condition::ChangedAt(there.changed),
        _ => return Err(OpenError::NotEmpty { place: begin.to_owned() }),
    };
    let (data, data_end) = places.data();
    replace_charter(calls, places, condition, &Charter::incomplete(), Some(Operation::DeleteAll(data, &data_end))).await
}

/// Writes the charter, after something else, where the one that is there is as expected. Gives the change that wrote it.
async fn replace_charter(
    calls: &Channel,
    places: &Places,
    condition: Condition,
    charter: &Charter,
    first: Option<Operation<'_>>,
) -> Result<Number, OpenError> {
    let (key, json) = (places.charter(), charter.to_json());
    let then: Vec<_> = first.into_iter().chain([Operation::Put(&key, &json)]).collect();
    let answer = calls.transact(&transaction(&[(&key, condition)], &then, &[Operation::Get(&key)])).await?;
    if answer.succeeded {
        return Ok(answer.revision);
    }
    // Where the first answer was lost, the second attempt finds what the first has written.
    let own = answer.found.filter(|found| found.value == json).map(|found| found.changed);
    own.ok_or_else(|| OpenError::NotEmpty { place: places.all().0.to_owned() })
}

async fn is_empty(calls: &Channel, begin: &str, end: &str) -> Result<bool, OpenError> {
    Ok(calls.range(RangeRequest { key: begin, end, limit: 1, ..RangeRequest::default() }).await?.found.is_empty())
}

/// Parts of the entries that fit into one request each.
fn batches(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.key.len() + entry.document.json().len();
            bytes <= BATCH_BYTES
        };
        // One that does not fit goes alone.
        let count = rest.iter().take(BATCH_ENTRIES).take_while(fits).count().max(1).min(rest.len());
        let (batch, others) = rest.split_at(count);
        rest = others;
        (!batch.is_empty()).then_some(batch)
    })
}

async fn write(calls: &Channel, places: &Places, batch: &[Entry]) -> Result<(), OpenError> {
    let values: Vec<_> = batch.iter().map(|entry| (places.document(&entry.key), value::encode_fixed(&entry.document))).collect();
    let puts: Vec<_> = values.iter().map(|(key, value)| Operation::Put(key, value)).collect();
    calls.transact(&transaction(&[], &puts, &[])).await?;
    Ok(())
}

/// Reads all that was written.
async fn verify(cluster: &Cluster, snapshot: &Snapshot) -> Result<(), OpenError> {
    let newest = cluster.calls.newest(&cluster.places.charter()).await?;
    let mut entries = Vec::new();
    let mut strange = false;
    cluster
        .each_document(newest, |found| {
            let entry = cluster.places.key(&found.key).and_then(|key| entry_of(key, cluster.numbering, found));
            strange |= entry.is_none();
            entries.extend(entry);
            Ok(())
        })
        .await?;
    let read = Snapshot { revision: snapshot.revision, entries };
    if !strange && read.is_same(snapshot) { Ok(()) } else { Err(OpenError::Differs) }
}
