//! Where the API of a cluster is reached that several servers serve.
//!
//! Each server keeps a Lease that says where it is. One that is not renewed any more is nobody's.
//!
//! # Guarantees
//! * Whoever renews is published; whoever has been silent for too long is not, and its Lease goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// A server's Lease, as another server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What its Lease is called.
    pub lease: String,
    /// Where it says that it is.
    pub address: Option<SocketAddrV4>,
    /// How long it has not been renewed, by the clock of whoever looks.
    pub silent: Duration,
    /// How long it may be silent.
    pub patience: Duration,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The addresses where the API is served, by port.
    pub served: Served,
    /// Leases that are nobody's.
    pub gone: Vec<String>,
}

/// Addresses by the port that is served at them.
pub type Served = BTreeMap<u16, BTreeSet<Ipv4Addr>>;

/// Who is there, and who is gone.
pub fn plan(servers: &[Server]) -> Plan {
    let (there, gone): (Vec<_>, Vec<_>) = servers.iter().partition(|server| server.silent <= server.patience);
    Plan {
        served: served(there.into_iter().filter_map(|server| server.address)),
        gone: gone.into_iter().map(|server| server.lease.clone()).collect(),
    }
}

/// Addresses, sorted by their ports.
pub fn served(addresses: impl IntoIterator<Item = SocketAddrV4>) -> Served {
    let mut served = Served::new();
    for address in addresses {
        served.entry(address.port()).or_default().insert(*address.ip());
    }
    served
}
