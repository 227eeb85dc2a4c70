//! What binding does, one write at a time.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};

/// One write of a whole object, with the resource version of what was looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    WriteClaim(Box<PersistentVolumeClaim>),
    WriteClaimStatus(Box<PersistentVolumeClaim>),
    WriteVolume(Box<PersistentVolume>),
    WriteVolumeStatus(Box<PersistentVolume>),
}

impl Step {
    /// Writes the claim as `change` leaves it.
    pub(super) fn claim(claim: &PersistentVolumeClaim, change: impl FnOnce(&mut PersistentVolumeClaim)) -> Self {
        let mut wanted = Box::new(claim.clone());
        change(&mut wanted);
        Self::WriteClaim(wanted)
    }

    /// Writes the status of the claim as `change` leaves it.
    pub(super) fn claim_status(claim: &PersistentVolumeClaim, change: impl FnOnce(&mut PersistentVolumeClaimStatus)) -> Self {
        let mut wanted = Box::new(claim.clone());
        change(wanted.status.get_or_insert_default());
        Self::WriteClaimStatus(wanted)
    }

    /// Writes the volume as `change` leaves it.
    pub(super) fn volume(volume: &PersistentVolume, change: impl FnOnce(&mut PersistentVolume)) -> Self {
        let mut wanted = Box::new(volume.clone());
        change(&mut wanted);
        Self::WriteVolume(wanted)
    }
}

/// What there is to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Note {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: false, reason, message: message.into() }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: true, reason, message: message.into() }
    }
}

/// Why a claim has no next step though it is not bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// For a pod that uses it, and the node the pod goes to.
    Consumer,
    /// For a provisioner to make the volume.
    Provisioner(String),
    /// For a volume that suits.
    Volume,
    /// For the volume it names, which is not there or not free.
    NamedVolume(String),
    /// For its class.
    Class(String),
    /// For a node that is ready.
    Node,
}

impl Waiting {
    /// What users read about it, in upstream's words.
    pub fn note(&self) -> Note {
        match self {
            Self::Consumer => Note::normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
            Self::Provisioner(name) => Note::normal(
                "ExternalProvisioning",
                format!(
                    "Waiting for a volume to be created either by the external provisioner '{name}' or manually by the system administrator. \
                     If volume creation is delayed, please verify that the provisioner is running and correctly registered."
                ),
            ),
            Self::Volume => Note::normal("FailedBinding", "no persistent volumes available for this claim and no storage class is set"),
            Self::NamedVolume(name) => Note::warning(
                "FailedBinding",
                format!("the persistent volume {name:?} that the claim names is absent, taken or does not fit"),
            ),
            Self::Class(name) => Note::warning("ProvisioningFailed", format!("storageclass.storage.k8s.io {name:?} not found")),
            Self::Node => Note::warning("ProvisioningFailed", "no node is ready to hold the volume"),
        }
    }
}
