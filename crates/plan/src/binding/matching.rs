//! What claims ask of volumes.

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::api::storage::v1::StorageClass;
use kinds::{Quantity, Selector};

use super::BIND_COMPLETED;
use crate::schedule::NodeRule;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Whether volumes of this class wait for the first pod that uses them.
pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Whether claims that name no class get this one.
pub fn is_default_class(class: &StorageClass) -> bool {
    class.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
}

/// The volume that a claim names, bound or not.
pub fn wanted_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// The volume a claim is bound to.
pub fn bound_to(claim: &PersistentVolumeClaim) -> Option<&str> {
    let completed = claim.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(BIND_COMPLETED));
    wanted_volume(claim).filter(|_| completed)
}

/// The nodes that can reach a volume, if not all of them can.
pub fn reach(volume: &PersistentVolume) -> Option<NodeRule> {
    volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref().map(NodeRule::of)
}

/// How much a volume holds.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// Whether a claim may be given this volume: it is free or reserved for the claim, of its class, large enough, and so on.
pub fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let nothing = PersistentVolumeClaimSpec::default();
    let wanted = claim.spec.as_ref().unwrap_or(&nothing);
    let Some(offered) = &volume.spec else { return false };
    let free = offered.claim_ref.is_none() && volume.metadata.deletion_timestamp.is_none();
    let reserved = offered.claim_ref.as_ref().is_some_and(|reference| refers_to(reference, claim));
    let same_class = stated(&offered.storage_class_name) == stated(&wanted.storage_class_name);
    (free || reserved) && same_class && fits(wanted, volume) && (reserved || is_selected(wanted, volume))
}

/// Whether size, mode and access are right: what must hold even for a volume named by hand.
pub(super) fn fits(wanted: &PersistentVolumeClaimSpec, volume: &PersistentVolume) -> bool {
    let Some(offered) = &volume.spec else { return false };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let access = offered.access_modes.as_deref().unwrap_or_default();
    let requested = storage(wanted.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    mode(&offered.volume_mode) == mode(&wanted.volume_mode)
        && wanted.access_modes.iter().flatten().all(|mode| access.contains(mode))
        && capacity(volume) >= requested
}

/// Whether a volume's claim reference means this claim: one by hand may lack the uid.
pub(super) fn refers_to(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

fn is_selected(wanted: &PersistentVolumeClaimSpec, volume: &PersistentVolume) -> bool {
    let Some(selector) = &wanted.selector else { return true };
    Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches(volume.metadata.labels.as_ref()))
}

fn storage(list: Option<&std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>) -> Quantity {
    list.and_then(|list| list.get("storage")).and_then(|quantity| quantity.0.parse().ok()).unwrap_or_default()
}

fn stated(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}
