//! Cluster DNS: answers for the cluster's names straight from the live view, forwards all others.
//!
//! # Guarantees
//! * A record is answered as soon as the informers have seen its Service and EndpointSlice.
//! * That a name of the cluster does not exist is never to be remembered: such answers have a lifetime of zero. A pod's name that
//!   does not exist is waited for, a moment, before this is said.
//! * Only pods and the node are answered. Nothing a client sends makes the server panic or grow without bound.
//!
//! # Caveats
//! * What the upstream servers say is not remembered here.

#[cfg(test)]
mod api;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod query;
mod server;
#[cfg(test)]
mod tests;
mod view;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};

use plan::service::Cidr;
use thiserror::Error;

pub use forward::upstreams_in;
pub use server::Server;

/// How long answers may be remembered, in seconds.
pub const LIFETIME: u32 = 5;

/// What a server serves, where, and to whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// Usually the bridge's address, port 53. With port 0 one is chosen.
    pub listen: Vec<SocketAddr>,
    /// Usually `cluster.local`.
    pub domain: String,
    /// The network whose addresses are served, besides the node's loopback and the addresses listened on.
    pub pods: Cidr,
    /// The network of the Services' own addresses.
    pub services: Cidr,
    /// Who is asked for all other names; those that are listened on are left out. Without any, other names are refused.
    pub upstreams: Vec<SocketAddr>,
}

/// The server can't start.
#[derive(Debug, Error)]
pub enum DnsError {
    #[error("listening on {address} for DNS: {source}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

impl Config {
    /// Whether a client may ask.
    fn serves(&self, client: IpAddr) -> bool {
        let pod = matches!(client, IpAddr::V4(address) if self.pods.contains(address));
        pod || client.is_loopback() || self.listen.iter().any(|listened| listened.ip() == client)
    }
}
