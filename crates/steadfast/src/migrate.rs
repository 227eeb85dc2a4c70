//! `steadfast migrate`: brings all state from one store to another, with its revisions.
//!
//! The servers are stopped meanwhile. The source is only read. The target is empty before, and is no store until all is there and has
//! been read back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use store::etcd::{self, Etcd};
use store::transfer::Snapshot;
use store::{Store, embedded};

use crate::arguments::{Migrate, StoreAddress};
use crate::backing;
use crate::failure::Failure;
use crate::instance::Instance;

/// Where the store keeps the Lease by which the servers of an etcd elect one.
const LEASE: &str = "/leases/kube-system/steadfast-control-plane";
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

pub(crate) async fn run(migrate: Migrate) -> Result<(), Failure> {
    let begin = Instant::now();
    let Migrate { instance, from, to } = migrate;
    let instance = Instance::new(&instance.data_dir)?;
    instance.create()?;
    // Its server would go on writing to what is left behind.
    let _alone = instance.lock()?;
    let snapshot = match (&from, &to) {
        (StoreAddress::Embedded, StoreAddress::Etcd(to)) => {
            let snapshot = Snapshot::of(&backing::embedded(&instance).await?).await?;
            write(to, &snapshot).await?;
            // The cluster's authority goes with its state: clients and tokens stay good.
            backing::share_keys(&backing::open_etcd(to).await?, &instance).await?;
            snapshot
        }
        (StoreAddress::Etcd(from), StoreAddress::Embedded) => {
            let (source, snapshot) = read(from, &instance).await?;
            let snapshot = import(&instance, snapshot).await?;
            unchanged(&source, &snapshot).await?;
            snapshot
        }
        (StoreAddress::Etcd(from), StoreAddress::Etcd(to)) if from != to => {
            let (source, snapshot) = read(from, &instance).await?;
            write(to, &snapshot).await?;
            backing::share_keys(&backing::open_etcd(to).await?, &instance).await?;
            unchanged(&source, &snapshot).await?;
            snapshot
        }
        _ => return Err(Failure::Message("--from and --to name the same store".to_owned())),
    };
    let (count, revision, digest) = (snapshot.entries.len(), snapshot.revision, snapshot.digest());
    println!("migrated {count} objects at revision {revision} in {} ms, verified by digest {digest:016x}", begin.elapsed().as_millis());
    Ok(())
}

/// All that is in etcd, unless a server still works with it.
async fn read(from: &etcd::Address, instance: &Instance) -> Result<(Etcd, Snapshot), Failure> {
    let source = backing::open_etcd(from).await?;
    backing::share_keys(&source, instance).await?;
    let snapshot = Snapshot::of(&source).await?;
    let lease = snapshot.entries.iter().find(|entry| *entry.key == *LEASE);
    let lease = lease.and_then(|entry| serde_json::from_slice::<Lease>(entry.document.json()).ok()).and_then(|lease| lease.spec);
    match lease.and_then(|lease| holder(&lease)) {
        Some(holder) => Err(Failure::Message(format!("the server {holder} still runs on this store; stop all servers first"))),
        None => Ok((source, snapshot)),
    }
}

/// Who has the Lease now. A server that was killed has it until it is over.
fn holder(lease: &LeaseSpec) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let end = lease.renew_time.as_ref()?.0.as_second() + i64::from(lease.lease_duration_seconds?);
    lease.holder_identity.clone().filter(|holder| !holder.is_empty() && i64::try_from(now).is_ok_and(|now| now < end))
}

/// What was written meanwhile would be missing.
async fn unchanged(source: &Etcd, snapshot: &Snapshot) -> Result<(), Failure> {
    let newest = source.newest().await.map_err(store::transfer::TransferError::from)?;
    if newest == snapshot.revision {
        return Ok(());
    }
    let (was, what) =
        (snapshot.revision, "the target lacks what was written since: stop all servers, remove the target and run this again");
    Err(Failure::Message(format!("the source went on from revision {was} to {newest} during the migration; {what}")))
}

async fn write(to: &etcd::Address, snapshot: &Snapshot) -> Result<(), Failure> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} objects").unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(snapshot.entries.len() as u64).with_style(style);
    bar.enable_steady_tick(TICK);
    let written = etcd::import(to, snapshot, &mut |written| bar.set_position(written as u64)).await;
    bar.finish_and_clear();
    Ok(written?)
}

async fn import(instance: &Instance, snapshot: Snapshot) -> Result<Snapshot, Failure> {
    let folder = instance.folder("store");
    let imported = tokio::task::spawn_blocking(move || embedded::import(&folder, &snapshot).map(|()| snapshot)).await;
    let snapshot = imported.map_err(|error| Failure::Message(format!("the store could not be written: {error}")))??;
    let there = Snapshot::of(&backing::embedded(instance).await?).await?;
    match there.entries.len() == snapshot.entries.len() && there.digest() == snapshot.digest() {
        true => Ok(snapshot),
        false => Err(Failure::Message("what was written does not read back as it was; the source is as it was before".to_owned())),
    }
}
