//! Fills an empty place in etcd with the content of another store.
//!
//! The charter says that the migration is incomplete until all is there and has been read back; nobody opens a store with such a charter.
//! Another run begins again where an earlier one broke off. The last write is the charter of a complete store: what it says of the
//! revision makes the next commit the next revision.

use std::sync::Arc;

use super::address::Address;
use super::channel::{Channel, Credentials};
use super::cluster::Cluster;
use super::message::{Condition, KeyValue, Operation, RangeRequest, transaction};
use super::place::{Charter, Numbering, Places};
use super::replica::entry_of;
use super::{OpenError, Options, value};
use crate::Entry;
use crate::transfer::Snapshot;

/// Entries written at a time: etcd allows 128 operations in a transaction.
const BATCH_ENTRIES: usize = 100;
/// Bytes written at a time: etcd allows 1.5 MiB in a request, unless it was told to allow more.
const BATCH_BYTES: usize = 1 << 20;

/// What is at the charter's place.
pub(super) async fn charter(calls: &Channel, places: &Places) -> Result<Option<KeyValue>, OpenError> {
    let key = places.charter();
    Ok(calls.range(RangeRequest { key: &key, ..RangeRequest::default() }).await?.found.pop())
}

/// Writes a snapshot to where nothing is, and reads it back. `tell` is told how many entries are written.
pub async fn import(address: &Address, snapshot: &Snapshot, tell: &mut (dyn FnMut(usize) + Send)) -> Result<(), OpenError> {
    let credentials = Arc::new(Credentials::read(address)?);
    let calls = Channel::new(address, Arc::clone(&credentials));
    let places = Places::new(&address.prefix);
    claim(&calls, &places).await?;
    let mut written = 0;
    for batch in batches(&snapshot.entries) {
        write(&calls, &places, batch).await?;
        written += batch.len();
        tell(written);
    }
    let incomplete = charter(&calls, &places).await?.ok_or_else(|| OpenError::Foreign { key: places.charter() })?;
    let numbering = Numbering::new(&Charter::migrated(snapshot.revision), incomplete.changed);
    let cluster = Cluster::new(calls, Channel::new(address, credentials), places, numbering, Options::default());
    verify(&cluster, snapshot).await?;
    complete(&cluster, snapshot, incomplete).await
}

/// Makes sure that nothing is there, or what an incomplete migration has left, which is removed.
async fn claim(calls: &Channel, places: &Places) -> Result<(), OpenError> {
    let key = places.charter();
    let (begin, end) = places.all();
    let there = charter(calls, places).await?;
    let condition = match &there {
        None if is_empty(calls, begin, &end).await? => Condition::Absent,
        Some(there) if Charter::read(&there.value).is_some_and(|charter| charter.incomplete) => Condition::ChangedAt(there.changed),
        _ => return Err(OpenError::NotEmpty { place: begin.to_owned() }),
    };
    let (data, data_end) = places.data();
    let json = Charter::incomplete().to_json();
    let then = [Operation::DeleteAll(data, &data_end), Operation::Put(&key, &json)];
    let answer = calls.transact(&transaction(&[(&key, condition)], &then, &[Operation::Get(&key)])).await?;
    // Where the first answer was lost, the second attempt finds what the first has written.
    let is_ours = answer.found.is_some_and(|found| found.value == json);
    if answer.succeeded || is_ours { Ok(()) } else { Err(OpenError::NotEmpty { place: begin.to_owned() }) }
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
    let charter = cluster.places.charter();
    let newest = cluster.calls.range(RangeRequest { key: &charter, count_only: true, ..RangeRequest::default() }).await?.revision;
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
    let same = !strange && read.entries.len() == snapshot.entries.len() && read.digest() == snapshot.digest();
    if same { Ok(()) } else { Err(OpenError::Differs) }
}

/// Says that all is there.
async fn complete(cluster: &Cluster, snapshot: &Snapshot, incomplete: KeyValue) -> Result<(), OpenError> {
    let (key, json) = (cluster.places.charter(), Charter::migrated(snapshot.revision).to_json());
    let condition = Condition::ChangedAt(incomplete.changed);
    let message = transaction(&[(&key, condition)], &[Operation::Put(&key, &json)], &[Operation::Get(&key)]);
    let answer = cluster.calls.transact(&message).await?;
    let is_ours = answer.found.is_some_and(|found| found.value == json);
    if answer.succeeded || is_ours { Ok(()) } else { Err(OpenError::NotEmpty { place: key }) }
}
