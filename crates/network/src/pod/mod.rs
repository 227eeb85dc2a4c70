//! The bridge and the pods on it.

mod bridge;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod wire;

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use kinds::ObjectKey;

use crate::address::{self, Addresses};
use crate::{Attachment, NetworkConfig, NetworkError, PodIdentity, kernel, service};
use bridge::Bridge;
pub(crate) use rules::{in_network, name_bytes};
use wire::Wire;

/// A link's description, which holds the uid, may not be longer than 255 bytes.
const MOST_OF_UID: usize = 60;

/// The pod network of this instance on this node. Cheap to clone.
///
/// # Guarantees
/// * What running pods use is never taken down and made anew: [`PodNetwork::open`] adopts what an earlier process left.
/// * Everything in the kernel that belongs to the instance begins with its name, and [`PodNetwork::remove`] finds it all
///   without any file.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: NetworkConfig,
    bridge: Bridge,
    addresses: Addresses,
}

impl PodNetwork {
    /// Makes the bridge and the rules, or finds them; keeps what running pods use.
    pub async fn open(config: NetworkConfig) -> Result<Self, NetworkError> {
        check(&config)?;
        let addresses = Addresses::open(&config.state_dir, config.pod_cidr).await?;
        let of = config.clone();
        let bridge = kernel::call("making the pod network", move || {
            let bridge = bridge::establish(&of)?;
            rules::establish(&of)?;
            Ok(bridge)
        })
        .await?;
        Ok(Self { shared: Arc::new(Shared { config, bridge, addresses }) })
    }

    /// Chooses the pod's address, durably. The same pod gets the same answer again.
    pub async fn reserve(&self, pod: &PodIdentity) -> Result<Attachment, NetworkError> {
        let address = self.shared.addresses.reserve(pod).await?;
        Ok(Attachment { address, gateway: self.gateway() })
    }

    /// Gives the network namespace `netns` an `eth0` with the pod's reserved address and a default route. Idempotent.
    pub async fn attach(&self, pod: &PodIdentity, netns: BorrowedFd<'_>) -> Result<Attachment, NetworkError> {
        let action = format!("connecting pod {}", pod.key);
        let netns = netns.try_clone_to_owned().map_err(|source| NetworkError::Kernel { action: action.clone(), source })?;
        let attachment = self.reserve(pod).await?;
        let wire = self.wire(pod, attachment.address);
        kernel::call(&action, move || wire.connect(&netns)).await?;
        Ok(attachment)
    }

    /// The pod (this uid) is gone: frees what it alone had.
    pub async fn detach(&self, pod: &PodIdentity) -> Result<(), NetworkError> {
        let wire = self.wire(pod, Ipv4Addr::UNSPECIFIED);
        let key = pod.key.clone();
        // The kernel takes tens of milliseconds, nobody has to wait for it, and it dies with its namespace anyway.
        tokio::spawn(async move {
            if let Err(error) = kernel::call("disconnecting a pod", move || wire.disconnect()).await {
                tracing::warn!(pod = %key, %error, "the pod's link stays until its network namespace is gone");
            }
        });
        self.shared.addresses.detach(pod).await
    }

    /// The ordinal's set is gone: its address may be used by others.
    pub async fn release(&self, pod: &ObjectKey) -> Result<(), NetworkError> {
        self.shared.addresses.release(pod).await
    }

    /// All names an address is kept for.
    pub fn kept(&self) -> Vec<ObjectKey> {
        self.shared.addresses.kept()
    }

    /// All pods that have an address: who has just started detaches those that no longer exist.
    pub fn holders(&self) -> Vec<PodIdentity> {
        self.shared.addresses.holders()
    }

    /// The bridge's address: where the node is for its pods.
    pub fn gateway(&self) -> Ipv4Addr {
        gateway_of(&self.shared.config)
    }

    /// How the network is called and where it lies.
    pub fn config(&self) -> &NetworkConfig {
        &self.shared.config
    }

    /// Removes everything this instance made in the kernel. Addresses stay on disk unless `purge`.
    pub async fn remove(config: &NetworkConfig, purge: bool) -> Result<(), NetworkError> {
        let config = config.clone();
        kernel::call("removing the pod network", move || {
            rules::remove(&config)?;
            service::remove(&config)?;
            bridge::remove(&config)?;
            if purge { address::purge(&config.state_dir) } else { Ok(()) }
        })
        .await
    }

    fn wire(&self, pod: &PodIdentity, address: Ipv4Addr) -> Wire {
        Wire {
            prefix: self.shared.config.name.clone(),
            uid: pod.uid.chars().take(MOST_OF_UID).collect(),
            pod: pod.key.clone(),
            bridge: self.shared.bridge,
            address,
            gateway: self.gateway(),
        }
    }
}

/// The first address of the pods' network is the node's.
fn gateway_of(config: &NetworkConfig) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(config.pod_cidr.first()) + 1)
}

fn check(config: &NetworkConfig) -> Result<(), NetworkError> {
    let name = &config.name;
    let well_named =
        (1..=10).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let refused = |action: String| NetworkError::Kernel { action, source: std::io::ErrorKind::InvalidInput.into() };
    if !well_named {
        return Err(refused(format!("naming the bridge {name:?}: at most 10 lower-case letters, digits and dashes")));
    }
    if !(8..=29).contains(&config.pod_cidr.prefix) {
        return Err(refused(format!("using {} for pods: the prefix must be from 8 to 29", config.pod_cidr)));
    }
    if config.pod_cidr.overlaps(config.service_cidr) {
        let other = format!("the Services' network {}", config.service_cidr);
        return Err(NetworkError::Overlap { cidr: config.pod_cidr.to_string(), other });
    }
    Ok(())
}
