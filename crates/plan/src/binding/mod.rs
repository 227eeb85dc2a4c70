//! Which volume a claim gets, and what becomes of both.
//!
//! Binding writes two objects, so each plan is one step, decided from what both say at the moment: claim the volume, say so
//! in its status, name it in the claim, say so there. Whoever crashes between two steps finds the next one to do.
//!
//! # Guarantees
//! * A volume is bound to one claim, known by its uid; it never passes from one claim to another without a person's decision.
//! * A pair that is bound gives no step.

mod claim;
mod matching;
mod steps;
mod volume;

pub use claim::{ClaimPlan, ClaimView, plan_claim};
pub use matching::{bound_to, capacity, is_default_class, reach, suits, waits_for_consumer, wanted_volume};
pub use steps::{Note, Step, Waiting};
pub use volume::{ClaimState, VolumePlan, VolumeView, plan_volume};

/// Which node a claim's first consumer goes to: set by the scheduler, read by provisioners.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of classes whose volumes are made in advance, by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The provisioner of the nodes' own directories.
pub const LOCAL_PROVISIONER: &str = "steadfast.dev/local";
/// Which provisioner is to make a volume for a claim.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The claim names its volume, and the volume has agreed.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The binding was ours, so that we may take it back.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Who made a volume, and will delete it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Keeps a claim while a pod uses it.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while it is bound.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

#[cfg(test)]
mod tests;
