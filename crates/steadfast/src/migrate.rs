//! `steadfast migrate`: brings all state from one store to another, with its revisions.
//!
//! The servers are stopped meanwhile. The source is only read. The target is empty before, and is no store until all is there and has
//! been read back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use store::transfer::Snapshot;
use store::{Store, embedded, etcd};

use crate::arguments::{Migrate, StoreAddress};
use crate::backing;
use crate::control::lease_key;
use crate::failure::Failure;
use crate::instance::{Instance, STORE};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

pub(crate) async fn run(migrate: Migrate) -> Result<(), Failure> {
    let begin = Instant::now();
    let Migrate { instance, from, to } = migrate;
    if from == to {
        return Err(Failure::Message("--from and --to name the same store".to_owned()));
    }
    let instance = Instance::new(&instance.data_dir)?;
    instance.create()?;
    // Its server would go on writing to what is left behind.
    let _alone = instance.lock()?;
    instance.check_store(from.kind())?;
    let source = open(&from, &instance).await?;
    let snapshot = Arc::new(Snapshot::of(&*source).await?);
    unused(&snapshot)?;
    match &to {
        StoreAddress::Embedded => {
            let import = import(&instance, Arc::clone(&snapshot)).await?;
            unchanged(&*source, &snapshot).await?;
            import.complete()?;
        }
        StoreAddress::Etcd(to) => {
            let import = write(to, &snapshot).await?;
            unchanged(&*source, &snapshot).await?;
            import.complete().await?;
            // The cluster's authority goes with its state: clients and tokens stay good.
            backing::share_keys(&backing::open_etcd(to).await?, &instance).await?;
        }
    }
    instance.moved_to(to.kind())?;
    let (count, revision, digest) = (snapshot.entries.len(), snapshot.revision, snapshot.digest());
    println!("migrated {count} objects at revision {revision} in {} ms, verified by digest {digest:016x}", begin.elapsed().as_millis());
    Ok(())
}

/// The source; its keys come to the data directory.
async fn open(from: &StoreAddress, instance: &Instance) -> Result<Box<dyn Store>, Failure> {
    match from {
        StoreAddress::Embedded => Ok(Box::new(backing::embedded(instance).await?)),
        StoreAddress::Etcd(from) => {
            let source = backing::open_etcd(from).await?;
            backing::share_keys(&source, instance).await?;
            Ok(Box::new(source))
        }
    }
}

/// Refuses a store that a server still works with.
fn unused(snapshot: &Snapshot) -> Result<(), Failure> {
    let key = lease_key();
    let lease = snapshot.entries.iter().find(|entry| key.as_deref() == Some(&*entry.key));
    let lease = lease.and_then(|entry| serde_json::from_slice::<Lease>(entry.document.json()).ok()).and_then(|lease| lease.spec);
    match lease.and_then(|lease| holder(&lease)) {
        Some(holder) => Err(Failure::Message(format!("the server {holder} still runs on this store; stop all servers first"))),
        None => Ok(()),
    }
}

/// Who has the Lease now. A server that was killed has it until it is over.
fn holder(lease: &LeaseSpec) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let end = lease.renew_time.as_ref()?.0.as_second() + i64::from(lease.lease_duration_seconds?);
    lease.holder_identity.clone().filter(|holder| !holder.is_empty() && i64::try_from(now).is_ok_and(|now| now < end))
}

/// What was written meanwhile would be missing. Revisions don't tell: etcd has gaps.
async fn unchanged(source: &dyn Store, snapshot: &Snapshot) -> Result<(), Failure> {
    if Snapshot::of(source).await?.entries == snapshot.entries {
        return Ok(());
    }
    Err(Failure::Message("somebody wrote to the source during the migration: stop all servers and run this again".to_owned()))
}

async fn write(to: &etcd::Address, snapshot: &Snapshot) -> Result<etcd::Import, Failure> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} objects").unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(snapshot.entries.len() as u64).with_style(style);
    bar.enable_steady_tick(TICK);
    let written = etcd::import(to, snapshot, &mut |written| bar.set_position(written as u64)).await;
    bar.finish_and_clear();
    Ok(written?)
}

async fn import(instance: &Instance, snapshot: Arc<Snapshot>) -> Result<embedded::Import, Failure> {
    let folder = instance.folder(STORE);
    let imported = tokio::task::spawn_blocking(move || embedded::import(&folder, &snapshot)).await;
    Ok(imported.map_err(|error| Failure::Message(format!("the store could not be written: {error}")))??)
}
