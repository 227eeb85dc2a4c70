//! The bridge and the pods on it.

use std::os::fd::BorrowedFd;

use crate::{Attachment, NetworkConfig, NetworkError, PodIdentity};
use kinds::ObjectKey;

/// The pod network of this instance on this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PodNetwork {}

impl PodNetwork {
    /// Makes the bridge and the rules, or finds them; keeps what running pods use.
    pub async fn open(config: NetworkConfig) -> Result<Self, NetworkError> {
        Err(NetworkError::Deadline { action: config.name, seconds: 0 })
    }

    /// Chooses the pod's address, durably. The same pod gets the same answer again.
    pub async fn reserve(&self, pod: &PodIdentity) -> Result<Attachment, NetworkError> {
        Err(NetworkError::Deadline { action: pod.uid.clone(), seconds: 0 })
    }

    /// Gives the network namespace `netns` an `eth0` with the pod's reserved address and a default route. Idempotent.
    pub async fn attach(&self, pod: &PodIdentity, _netns: BorrowedFd<'_>) -> Result<Attachment, NetworkError> {
        self.reserve(pod).await
    }

    /// The pod (this uid) is gone: frees what it alone had.
    pub async fn detach(&self, _pod: &PodIdentity) -> Result<(), NetworkError> {
        Ok(())
    }

    /// The ordinal's set is gone: its address may be used by others.
    pub async fn release(&self, _pod: &ObjectKey) -> Result<(), NetworkError> {
        Ok(())
    }

    /// All names an address is kept for.
    pub fn kept(&self) -> Vec<ObjectKey> {
        Vec::new()
    }

    /// Removes everything this instance made in the kernel. Addresses stay on disk unless `purge`.
    pub async fn remove(config: &NetworkConfig, _purge: bool) -> Result<(), NetworkError> {
        let _ = config;
        Ok(())
    }
}
