//! From the claim's side.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::api::storage::v1::StorageClass;

use super::matching::{bound_to, capacity, fits, reach, refers_to, suits, waits_for_consumer, wanted_volume};
use super::steps::{Note, Step, Waiting};
use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, CLAIM_PROTECTION, LOCAL_PROVISIONER, NO_PROVISIONER, PROVISIONER, SELECTED_NODE};

/// What is known about a claim.
pub struct ClaimView<'a> {
    pub claim: &'a PersistentVolumeClaim,
    /// The volume the claim names, if it exists: asked of the server itself before a bound claim is called lost.
    pub named: Option<Arc<PersistentVolume>>,
    /// All volumes; asked for only if the claim names none.
    pub volumes: &'a dyn Fn() -> Vec<Arc<PersistentVolume>>,
    /// The class the claim names, if it exists.
    pub class: Option<Arc<StorageClass>>,
    /// The name of the default class.
    pub default_class: Option<String>,
    /// Nodes that are ready, in the order they should be chosen.
    pub nodes: &'a dyn Fn() -> Vec<Arc<Node>>,
    /// Whether a pod that has a node uses the claim.
    pub used: bool,
}

/// What to do about a claim next.
#[derive(Debug, Default, PartialEq)]
pub struct ClaimPlan {
    pub step: Option<Step>,
    pub waiting: Option<Waiting>,
    pub note: Option<Note>,
}

impl ClaimPlan {
    fn step(step: Step) -> Self {
        Self { step: Some(step), ..Self::default() }
    }

    fn waiting(waiting: Waiting) -> Self {
        Self { note: Some(waiting.note()), waiting: Some(waiting), step: None }
    }
}

/// The next step for a claim.
pub fn plan_claim(view: &ClaimView<'_>) -> ClaimPlan {
    if let Some(finalizers) = protection(view) {
        return ClaimPlan::step(Step::claim(view.claim, |claim| claim.metadata.finalizers = Some(finalizers)));
    }
    match (bound_to(view.claim), wanted_volume(view.claim)) {
        (Some(_), _) => bound(view),
        (None, Some(name)) => named(view, name),
        (None, None) if view.claim.metadata.deletion_timestamp.is_some() => ClaimPlan::default(),
        (None, None) => unbound(view),
    }
}

/// The finalizers as they should be, if they are not.
fn protection(view: &ClaimView<'_>) -> Option<Vec<String>> {
    let meta = &view.claim.metadata;
    protected(meta.finalizers.as_deref().unwrap_or_default(), CLAIM_PROTECTION, meta.deletion_timestamp.is_some(), view.used)
}

/// Adds the protection to what lives, and takes it from what is to go and is not in use.
pub(super) fn protected(finalizers: &[String], protection: &str, deleting: bool, used: bool) -> Option<Vec<String>> {
    let has = finalizers.iter().any(|finalizer| finalizer == protection);
    match (has, deleting) {
        (false, false) => Some(finalizers.iter().cloned().chain([protection.to_owned()]).collect()),
        (true, true) if !used => Some(finalizers.iter().filter(|finalizer| *finalizer != protection).cloned().collect()),
        _ => None,
    }
}

/// A claim whose binding was complete: its volume must still be there and its own.
fn bound(view: &ClaimView<'_>) -> ClaimPlan {
    let Some(volume) = &view.named else {
        return lost(view, Note::warning("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"));
    };
    match claim_reference(volume) {
        Some(reference) if refers_to(reference, view.claim) => agree(view, volume),
        Some(_) => lost(view, Note::warning("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")),
        None => reserve(view, volume),
    }
}

fn lost(view: &ClaimView<'_>, note: Note) -> ClaimPlan {
    let phase = view.claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        return ClaimPlan::default();
    }
    ClaimPlan { step: Some(become_phase(view.claim, "Lost")), note: Some(note), waiting: None }
}

/// A claim that names a volume by hand, or whose binding was interrupted.
fn named(view: &ClaimView<'_>, name: &str) -> ClaimPlan {
    let waiting = || pending(view, Waiting::NamedVolume(name.to_owned()));
    let Some(volume) = &view.named else { return waiting() };
    match claim_reference(volume) {
        Some(reference) if refers_to(reference, view.claim) => agree(view, volume),
        Some(_) => waiting(),
        None if view.claim.spec.as_ref().is_some_and(|wanted| fits(wanted, volume)) => reserve(view, volume),
        None => waiting(),
    }
}

fn unbound(view: &ClaimView<'_>) -> ClaimPlan {
    let claim = view.claim;
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    if let (None, Some(default)) = (class, &view.default_class) {
        let class = default.clone();
        return ClaimPlan::step(Step::claim(claim, |claim| claim.spec.get_or_insert_default().storage_class_name = Some(class)));
    }
    let volumes = (view.volumes)();
    let reserved = volumes.iter().find(|volume| claim_reference(volume).is_some_and(|reference| refers_to(reference, claim)));
    if let Some(volume) = reserved.filter(|volume| suits(claim, volume)) {
        return agree(view, volume);
    }
    let delayed = view.class.as_ref().is_some_and(|class| waits_for_consumer(class));
    let selected = selected_node(view);
    if delayed && selected.is_none() {
        return pending(view, Waiting::Consumer);
    }
    match best_fit(claim, &volumes, selected.filter(|_| delayed), &(view.nodes)()) {
        Some(volume) => reserve(view, volume),
        None => provision(view, class.unwrap_or_default(), selected),
    }
}

fn selected_node<'a>(view: &'a ClaimView<'_>) -> Option<&'a str> {
    view.claim.metadata.annotations.as_ref()?.get(SELECTED_NODE).map(String::as_str)
}

/// The smallest volume that suits and that the selected node can reach; of equals, the first by name.
fn best_fit<'v>(
    claim: &PersistentVolumeClaim,
    volumes: &'v [Arc<PersistentVolume>],
    selected: Option<&str>,
    nodes: &[Arc<Node>],
) -> Option<&'v Arc<PersistentVolume>> {
    let node = selected.map(|name| nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name)));
    let reachable = |volume: &&Arc<PersistentVolume>| match (&node, reach(volume)) {
        (None, _) | (_, None) => true,
        (Some(None), Some(_)) => false,
        (Some(Some(node)), Some(rule)) => {
            rule.admits(node.metadata.name.as_deref().unwrap_or_default(), &node.metadata.labels.clone().unwrap_or_default())
        }
    };
    let suitable = volumes.iter().filter(|volume| suits(claim, volume) && is_available(volume)).filter(reachable);
    suitable.min_by_key(|volume| (capacity(volume), volume.metadata.name.clone()))
}

fn is_available(volume: &PersistentVolume) -> bool {
    matches!(volume.status.as_ref().and_then(|status| status.phase.as_deref()), None | Some("" | "Pending" | "Available"))
}

/// Asks the class's provisioner for a volume. A node's own directory needs a node first.
fn provision(view: &ClaimView<'_>, name: &str, selected: Option<&str>) -> ClaimPlan {
    let class = match &view.class {
        Some(class) if class.provisioner != NO_PROVISIONER => class,
        None if !name.is_empty() => return pending(view, Waiting::Class(name.to_owned())),
        _ => return pending(view, Waiting::Volume),
    };
    let mut wanted = BTreeMap::from([(PROVISIONER.to_owned(), class.provisioner.clone())]);
    if class.provisioner == LOCAL_PROVISIONER && selected.is_none() {
        let nodes = (view.nodes)();
        let Some(node) = nodes.first().and_then(|node| node.metadata.name.clone()) else { return pending(view, Waiting::Node) };
        wanted.insert(SELECTED_NODE.to_owned(), node);
    }
    let present = view.claim.metadata.annotations.clone().unwrap_or_default();
    if wanted.iter().all(|(key, value)| present.get(key) == Some(value)) {
        return pending(view, Waiting::Provisioner(class.provisioner.clone()));
    }
    ClaimPlan::step(Step::claim(view.claim, |claim| claim.metadata.annotations.get_or_insert_default().extend(wanted)))
}

/// A claim that waits is Pending.
fn pending(view: &ClaimView<'_>, waiting: Waiting) -> ClaimPlan {
    let phase = view.claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let mut plan = ClaimPlan::waiting(waiting);
    if !matches!(phase, Some("Pending")) {
        plan.step = Some(become_phase(view.claim, "Pending"));
    }
    plan
}

/// A claim that is not bound holds nothing.
fn become_phase(claim: &PersistentVolumeClaim, phase: &str) -> Step {
    Step::claim_status(claim, |status| {
        *status = PersistentVolumeClaimStatus { phase: Some(phase.to_owned()), ..PersistentVolumeClaimStatus::default() };
    })
}

/// Writes the claim into the volume. Who has not been told by hand which claim it is for can take it back.
fn reserve(view: &ClaimView<'_>, volume: &PersistentVolume) -> ClaimPlan {
    ClaimPlan::step(Step::volume(volume, |volume| {
        let before = volume.spec.get_or_insert_default().claim_ref.replace(reference_to(view.claim));
        if before.is_none() {
            volume.metadata.annotations.get_or_insert_default().insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
    }))
}

/// The volume is reserved for the claim: completes its reference, then the claim, then the claim's status.
fn agree(view: &ClaimView<'_>, volume: &PersistentVolume) -> ClaimPlan {
    let uid = claim_reference(volume).and_then(|reference| reference.uid.as_deref());
    if uid.is_none_or(str::is_empty) {
        return reserve(view, volume);
    }
    if bound_to(view.claim).is_none() {
        return ClaimPlan::step(Step::claim(view.claim, |claim| complete(claim, volume)));
    }
    let status = bound_status(view.claim, volume);
    if view.claim.status.as_ref() == Some(&status) {
        return ClaimPlan::default();
    }
    ClaimPlan::step(Step::claim_status(view.claim, |current| *current = status))
}

fn complete(claim: &mut PersistentVolumeClaim, volume: &PersistentVolume) {
    let ours = wanted_volume(claim).is_none();
    let annotations = claim.metadata.annotations.get_or_insert_default();
    annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
    if ours {
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    claim.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
}

fn bound_status(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> PersistentVolumeClaimStatus {
    let mut status = claim.status.clone().unwrap_or_default();
    let newly = status.phase.as_deref() != Some("Bound");
    status.phase = Some("Bound".to_owned());
    status.access_modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.clone());
    if newly || status.capacity.is_none() {
        status.capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.clone());
    }
    status
}

pub(super) fn claim_reference(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

fn reference_to(claim: &PersistentVolumeClaim) -> ObjectReference {
    let meta = &claim.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Whether the volume was reserved by us rather than by hand or by a provisioner.
pub(super) fn is_ours(volume: &PersistentVolume) -> bool {
    volume.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(BOUND_BY_CONTROLLER))
}
