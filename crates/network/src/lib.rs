//! The pod network of one node: addresses that stay with an ordinal, a bridge with a veth pair per pod, masquerade for
//! what leaves, and the nftables rules that make Services work. All by netlink; no `ip`, `nft` or `iptables` is run.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use kinds::ObjectKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod address;
mod kernel;
mod links;
mod netlink;
mod nft;
pub mod pod;
#[cfg(test)]
mod sandbox;
pub mod service;

pub use plan::service::Cidr;

/// How this instance's network is called and where it lies. Two instances differ in all of it.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// At most 10 bytes; the bridge and the nftables table are called so, and veths begin with it.
    pub name: String,
    pub pod_cidr: Cidr,
    pub service_cidr: Cidr,
    /// Where addresses are kept across reboots.
    pub state_dir: PathBuf,
}

/// For how long an address belongs to a pod's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    /// Until the pod is gone.
    WhilePodExists,
    /// Until it is released by name: the pod is an ordinal of a StatefulSet.
    UntilReleased,
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    pub key: ObjectKey,
    pub uid: String,
    pub keep: Keep,
}

/// What a pod was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub address: Ipv4Addr,
    /// The bridge's address on the node.
    pub gateway: Ipv4Addr,
}

/// Why the network could not do it.
#[derive(Debug, Error)]
pub enum NetworkError {
    #[error("no address of {cidr} is left for pod {pod}; {used} are in use or kept for ordinals")]
    Exhausted { cidr: String, pod: ObjectKey, used: usize },
    #[error("{action}: {source}")]
    Kernel {
        action: String,
        #[source]
        source: std::io::Error,
    },
    #[error("addresses in {path}: {source}")]
    State {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{cidr} overlaps {other}, which this machine already uses: choose another with --pod-cidr")]
    Overlap { cidr: String, other: String },
    #[error("{action} did not finish within {seconds} s")]
    Deadline { action: String, seconds: u64 },
}

pub use pod::PodNetwork;

impl From<netlink::Refused> for NetworkError {
    fn from(refused: netlink::Refused) -> Self {
        Self::Kernel { action: refused.subject, source: refused.source }
    }
}
