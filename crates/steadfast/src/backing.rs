//! What a server stands on: the store, and the keys that go with it.
//!
//! Servers that share a store must be of one mind: they have the same authority and token key, and the same range of addresses for
//! Services. The first server says what those are, in the store itself; others get it from there. Only one of them may have a real
//! node, because the pods of two machines would not reach each other.

use std::sync::Arc;

use apiserver::certificates::{Certificates, SharedKeys};
use store::Store;
use store::embedded::{self, Embedded};
use store::etcd::{self, Address, Etcd};

use crate::arguments::{StoreAddress, Up};
use crate::failure::Failure;
use crate::instance::{Instance, Record, STORE};

/// An open store and its keys.
pub(crate) struct Backing {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) certificates: Certificates,
}

/// Opens what `steadfast up` was told to use.
pub(crate) async fn open(up: &Up, instance: &Instance, record: &Record) -> Result<Backing, Failure> {
    let data_dir = instance.folder("");
    instance.check_store(up.store.kind())?;
    match &up.store {
        StoreAddress::Embedded => {
            let certificates = Certificates::open(&data_dir)?;
            Ok(Backing { store: Arc::new(embedded(instance).await?), certificates })
        }
        StoreAddress::Etcd(address) => {
            let etcd = open_etcd(address).await?;
            share_keys(&etcd, instance).await?;
            same(&etcd, "service-cidr", &up.service_cidr.to_string(), "the address range of Services", "start this one with the same")
                .await?;
            if !record.without_node {
                let way_out =
                    "start this one with --no-node; if that machine is gone for good, delete the key agreed/node below the prefix";
                same(&etcd, "node", &record.node_name, "the node that runs the pods", way_out).await?;
            }
            Ok(Backing { store: Arc::new(etcd), certificates: Certificates::open(&data_dir)? })
        }
    }
}

/// The embedded store of an instance.
pub(crate) async fn embedded(instance: &Instance) -> Result<Embedded, Failure> {
    let folder = instance.folder(STORE);
    // Opening reads all state from disk.
    let opened = tokio::task::spawn_blocking(move || Embedded::open(&folder, embedded::Options::default())).await;
    Ok(opened.map_err(|error| Failure::Message(format!("the store could not be opened: {error}")))??)
}

/// The store in an etcd cluster.
pub(crate) async fn open_etcd(address: &Address) -> Result<Etcd, Failure> {
    Ok(Etcd::open(address, etcd::Options::default()).await?)
}

/// Sees to it that the data directory has the keys of the cluster.
pub(crate) async fn share_keys(etcd: &Etcd, instance: &Instance) -> Result<(), Failure> {
    let data_dir = instance.folder("");
    let agreed = match etcd.agreed("pki").await? {
        Some(agreed) => agreed,
        None => {
            let proposal = SharedKeys::kept(&data_dir)?.map_or_else(SharedKeys::make, Ok)?;
            etcd.agree("pki", &proposal.to_json()).await?
        }
    };
    let keys = SharedKeys::from_json(&agreed);
    let keys = keys.ok_or_else(|| Failure::Message("the key agreed/pki in etcd does not hold the keys of a cluster".to_owned()))?;
    Ok(keys.keep(&data_dir)?)
}

/// Refuses a server that differs from the first one in something.
async fn same(etcd: &Etcd, name: &str, own: &str, what: &str, way_out: &str) -> Result<(), Failure> {
    let agreed = etcd.agree(name, own.as_bytes()).await?;
    if agreed == own.as_bytes() {
        return Ok(());
    }
    let agreed = String::from_utf8_lossy(&agreed);
    Err(Failure::Message(format!("{what} in this store is {agreed}, and not {own}: {way_out}")))
}
