//! From the volume's side.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::claim::{claim_reference, is_ours, protected};
use super::matching::wanted_volume;
use super::steps::{Note, Step};
use super::{BOUND_BY_CONTROLLER, PROVISIONED_BY, VOLUME_PROTECTION};

/// What is known of the claim a volume refers to.
#[derive(Clone, Debug)]
pub enum ClaimState {
    /// The volume refers to none.
    None,
    Present(Arc<PersistentVolumeClaim>),
    /// The server itself said that the claim with the uid of the reference does not exist.
    Gone,
}

/// What is known about a volume.
pub struct VolumeView<'a> {
    pub volume: &'a PersistentVolume,
    pub claim: ClaimState,
    pub now: Timestamp,
}

/// What to do about a volume next.
#[derive(Debug, Default, PartialEq)]
pub struct VolumePlan {
    pub step: Option<Step>,
    pub note: Option<Note>,
}

impl VolumePlan {
    fn step(step: Step) -> Self {
        Self { step: Some(step), note: None }
    }
}

/// The next step for a volume.
pub fn plan_volume(view: &VolumeView<'_>) -> VolumePlan {
    let meta = &view.volume.metadata;
    let bound = phase(view.volume) == "Bound";
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    if let Some(finalizers) = protected(finalizers, VOLUME_PROTECTION, meta.deletion_timestamp.is_some(), bound && !is_gone(view)) {
        return VolumePlan::step(Step::volume(view.volume, |volume| volume.metadata.finalizers = Some(finalizers)));
    }
    match &view.claim {
        ClaimState::None => become_phase(view, "Available", None),
        ClaimState::Gone => released(view),
        ClaimState::Present(claim) => with_claim(view, claim),
    }
}

fn is_gone(view: &VolumeView<'_>) -> bool {
    matches!(view.claim, ClaimState::Gone)
}

fn with_claim(view: &VolumeView<'_>, claim: &PersistentVolumeClaim) -> VolumePlan {
    let name = view.volume.metadata.name.as_deref();
    let complete = claim_reference(view.volume).and_then(|reference| reference.uid.as_deref()).is_some_and(|uid| !uid.is_empty());
    match wanted_volume(claim) {
        Some(wanted) if Some(wanted) == name && complete => become_phase(view, "Bound", None),
        // Reserved by hand for a claim that has still to agree.
        None if !complete => become_phase(view, "Available", None),
        // The claim's side names the volume next.
        None => VolumePlan::default(),
        Some(wanted) if Some(wanted) == name => VolumePlan::default(),
        Some(_) if is_ours(view.volume) => VolumePlan::step(Step::volume(view.volume, set_free)),
        Some(_) if is_provisioned(view.volume) => released(view),
        Some(_) => become_phase(view, "Available", None),
    }
}

/// The claim is gone. What comes of the data is the reclaim policy's decision; who made the volume carries a deletion out.
fn released(view: &VolumeView<'_>) -> VolumePlan {
    let policy = view.volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let current = phase(view.volume);
    if !matches!(current, "Released" | "Failed") {
        return become_phase(view, "Released", None);
    }
    let failure = match policy {
        Some("Recycle") => Some(Note::warning("VolumeFailedRecycle", "the reclaim policy Recycle is not supported; use Delete or Retain")),
        Some("Delete") if !is_provisioned(view.volume) => {
            let message = "no provisioner is responsible for the volume, so its data can't be deleted; use Retain, or delete it by hand";
            Some(Note::warning("VolumeFailedDelete", message))
        }
        _ => None,
    };
    match failure {
        Some(note) => become_phase(view, "Failed", Some(note)),
        None => VolumePlan::default(),
    }
}

/// Undoes a reservation of ours, for a claim that is bound elsewhere.
fn set_free(volume: &mut PersistentVolume) {
    volume.spec.get_or_insert_default().claim_ref = None;
    volume.metadata.annotations.get_or_insert_default().remove(BOUND_BY_CONTROLLER);
}

fn is_provisioned(volume: &PersistentVolume) -> bool {
    volume.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(PROVISIONED_BY))
}

fn become_phase(view: &VolumeView<'_>, phase_wanted: &str, note: Option<Note>) -> VolumePlan {
    if phase(view.volume) == phase_wanted {
        return VolumePlan::default();
    }
    let mut wanted = Box::new(view.volume.clone());
    wanted.status = Some(PersistentVolumeStatus {
        phase: Some(phase_wanted.to_owned()),
        message: note.as_ref().map(|note| note.message.clone()),
        reason: note.as_ref().map(|note| note.reason.to_owned()),
        last_phase_transition_time: Some(Time(view.now)),
    });
    VolumePlan { step: Some(Step::WriteVolumeStatus(wanted)), note }
}

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}
