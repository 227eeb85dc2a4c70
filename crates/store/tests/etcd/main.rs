//! The store in etcd, against real members of it.

use std::sync::Arc;
use std::time::Duration;

use etcd_fixture::Cluster;
use store::etcd::{Etcd, Options};
use store::{Memory, Store};

mod differential;
mod failures;
mod line;
mod secured;
mod transfer;

fn options() -> Options {
    Options { memory: Memory { watch_backlog: 900, progress_after: Duration::from_millis(20), ..Memory::default() }, ..Options::default() }
}

async fn open(cluster: &Cluster) -> Etcd {
    let address = cluster.address("test").parse().expect("an address");
    Etcd::open(&address, options()).await.expect("the store opens")
}

async fn make() -> (Arc<dyn Store>, Cluster) {
    let cluster = Cluster::start(1);
    let store = open(&cluster).await;
    (Arc::new(store), cluster)
}

store::store_conformance!(make);
