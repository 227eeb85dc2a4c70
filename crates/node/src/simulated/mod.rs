//! Nodes whose pods become Running and Ready without containers, for tests of controllers and operators. Needs no root.
//!
//! ```no_run
//! # async fn doc(client: kube::Client, views: node::simulated::Views) -> Result<(), node::simulated::RegisterError> {
//! use node::simulated::{Options, register};
//! let nodes = register(&client, &Options { nodes: 3, ..Options::default() }).await?;
//! nodes.run(client, views, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//! * A pod that is bound to one of the nodes becomes Ready by one write; a pod that is to go, goes at once.
//! * No pod is forgotten: a failed write is tried again, later each time.
//! * What waits takes no task and no timer of its own; at most a fixed number of requests is under way.
//!
//! # What a test can ask for
//! * [`FAILURE`] on a pod: its containers wait for this reason until the annotation is taken away.
//! * [`READY_AFTER`] on a pod: it runs at once, and is Ready when this time has passed.

mod addresses;
mod agent;
mod execute;
mod lease;
mod pod;
mod queue;
mod registration;
mod volume;

use std::net::Ipv4Addr;

use informer::Informer;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;

use addresses::Addresses;
use agent::Agent;
pub use registration::{RegisterError, register};

/// The user that all simulated nodes act as together: an agent of one node could not look after the others.
pub const USER: &str = "system:steadfast:simulated-nodes";
/// On a Node object: its pods have no containers.
pub const SIMULATED: &str = "steadfast.dev/simulated";
/// On a pod: why its containers wait instead of running, for example `ImagePullBackOff`.
pub const FAILURE: &str = "steadfast.dev/simulated-failure";
/// On a pod: how long it runs before it is Ready, for example `2s` or `1m 30s`.
pub const READY_AFTER: &str = "steadfast.dev/simulated-ready-after";

/// Which nodes there are.
#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: u32,
    /// The nodes are called `<prefix>-0`, `<prefix>-1` ...
    pub name_prefix: String,
    /// Address and prefix length of the network that nodes and pods get their addresses from. Nothing answers there.
    pub pod_network: (Ipv4Addr, u8),
}

impl Default for Options {
    /// One node, and room for four million pods in the address space that is shared by carriers.
    fn default() -> Self {
        Self { nodes: 1, name_prefix: "simulated".to_owned(), pod_network: (Ipv4Addr::new(100, 64, 0, 0), 10) }
    }
}

/// The live views the nodes look at.
#[derive(Clone, Debug)]
pub struct Views {
    pub pods: Informer<Pod>,
    pub claims: Informer<PersistentVolumeClaim>,
    pub volumes: Informer<PersistentVolume>,
    pub storage_classes: Informer<StorageClass>,
}

/// Nodes that are registered, and whose pods run with [`SimulatedNodes::run`].
#[derive(Debug)]
pub struct SimulatedNodes {
    members: Vec<Member>,
    addresses: Addresses,
}

/// One node.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    address: Ipv4Addr,
}

impl SimulatedNodes {
    /// The names of the nodes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    /// Keeps the nodes' leases, runs their pods, and provides their local volumes, until `shutdown`. Requests that are under
    /// way then are given up, as a crash would.
    pub async fn run(self, client: Client, views: Views, shutdown: impl Future<Output = ()> + Send) {
        let Self { members, addresses } = self;
        let hosts = members.iter().map(|member| (member.name.clone(), member.address)).collect();
        let agent = Agent::new(client.clone(), views, hosts, addresses);
        tokio::select! {
            () = shutdown => {}
            () = lease::keep(&client, &members) => {}
            () = agent.run() => {}
        }
    }
}

#[cfg(test)]
mod tests;
