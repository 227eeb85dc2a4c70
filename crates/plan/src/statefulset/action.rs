//! What a plan may ask for: each variant is one request to the API server.

use std::fmt;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kinds::Ordinal;
use kinds::gate::Reason;

use super::gate::HookRun;

/// One request. Repeated, it fails by its precondition or changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Makes the set the controller of a revision without one.
    AdoptRevision {
        name: String,
        resource_version: String,
        owners: Vec<OwnerReference>,
    },
    CreateRevision(Box<ControllerRevision>),
    /// Makes an older revision the newest.
    RenumberRevision {
        name: String,
        resource_version: String,
        number: i64,
    },
    /// Forgets a revision that no pod has, beyond the history limit.
    DeleteRevision {
        name: String,
        uid: String,
    },
    /// Sets the template of the set back to the one of an earlier revision.
    RollBack {
        from: String,
        to: String,
        resource_version: String,
        template: Box<PodTemplateSpec>,
        because: String,
    },
    /// Makes the set the controller of a pod without one.
    AdoptPod {
        name: String,
        uid: String,
        resource_version: String,
        owners: Vec<OwnerReference>,
    },
    /// Gives up a pod that isn't the set's any more.
    ReleasePod {
        name: String,
        uid: String,
        resource_version: String,
        owners: Vec<OwnerReference>,
    },
    CreateClaim {
        ordinal: Ordinal,
        claim: Box<PersistentVolumeClaim>,
    },
    /// Sets the owners of a claim, as the retention policy asks.
    UpdateClaim {
        ordinal: Ordinal,
        name: String,
        resource_version: String,
        owners: Vec<OwnerReference>,
    },
    CreatePod {
        ordinal: Ordinal,
        pod: Box<Pod>,
    },
    /// Repairs the labels that make a pod's identity. The pod is given whole, with the version it was derived from.
    UpdatePod {
        ordinal: Ordinal,
        pod: Box<Pod>,
    },
    DeletePod {
        ordinal: Ordinal,
        name: String,
        uid: String,
        reason: DeleteReason,
    },
    /// Begins a try of the hook that has to succeed before the pod may go, and puts that on record. It is not waited for:
    /// how it ends is put on record as [`HookRun::marks`].
    RunGate {
        ordinal: Ordinal,
        name: String,
        uid: String,
        resource_version: String,
        run: Box<HookRun>,
    },
    /// Begins a try of a hook that is a pod of its own. How it ends is observed.
    CreateHookPod {
        ordinal: Ordinal,
        pod: Box<Pod>,
    },
    /// Takes away the pod of a hook that nothing asks for any more, or that has ended.
    DeleteHookPod {
        ordinal: Ordinal,
        name: String,
        uid: String,
    },
    /// Sets annotations that are the controller's own, or takes them off.
    MarkPod {
        ordinal: Ordinal,
        name: String,
        uid: String,
        resource_version: String,
        mark: Mark,
        annotations: Vec<Marking>,
    },
    /// Gives the containers of a living pod other images, and the pod the revision that has them.
    UpdateInPlace {
        ordinal: Ordinal,
        name: String,
        uid: String,
        resource_version: String,
        revision: String,
        /// Containers and their new images.
        images: Vec<(String, String)>,
        annotations: Vec<Marking>,
    },
}

/// An annotation, and its value if it is to have one.
pub type Marking = (&'static str, Option<String>);

/// What marks on a pod are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The hook, a pod of its own, is about to begin.
    GateBegun {
        reason: Reason,
    },
    GatePassed {
        reason: Reason,
    },
    /// It is tried again.
    GateFailed {
        reason: Reason,
        message: String,
    },
    /// The hook had its time; the pod goes without it.
    GateGivenUp {
        reason: Reason,
    },
    /// The pod has nothing to hand over.
    GateNotNeeded,
    /// Nothing asks for the pod to be taken away any more.
    GateStale,
    /// The pod is ready after its update.
    UpdatedInPlace,
}

/// Why a pod is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteReason {
    /// It has ended, and will be created anew.
    Ended,
    /// Its ordinal is not among the desired ones.
    ScaledDown,
    /// Its revision is not the wanted one.
    Outdated { revision: String, wanted: String },
    /// As `Outdated`, and it can't become available at the revision it has.
    Stuck { revision: String, wanted: String },
}

impl Action {
    /// The ordinal it is about. Actions of one ordinal depend on each other; those of different ordinals only when ordered.
    pub fn ordinal(&self) -> Option<Ordinal> {
        match self {
            Self::CreateClaim { ordinal, .. }
            | Self::UpdateClaim { ordinal, .. }
            | Self::CreatePod { ordinal, .. }
            | Self::UpdatePod { ordinal, .. }
            | Self::DeletePod { ordinal, .. }
            | Self::RunGate { ordinal, .. }
            | Self::CreateHookPod { ordinal, .. }
            | Self::DeleteHookPod { ordinal, .. }
            | Self::MarkPod { ordinal, .. }
            | Self::UpdateInPlace { ordinal, .. } => Some(*ordinal),
            Self::AdoptRevision { .. }
            | Self::CreateRevision(_)
            | Self::RenumberRevision { .. }
            | Self::DeleteRevision { .. }
            | Self::RollBack { .. }
            | Self::AdoptPod { .. }
            | Self::ReleasePod { .. } => None,
        }
    }

    /// Whether it creates a pod at this revision.
    pub(super) fn creates_at(&self, revision: &str) -> bool {
        matches!(self, Self::CreatePod { pod, .. } if revision_of(pod) == Some(revision))
    }

    /// Whether it can't be taken back, and is only right if the set still is what was observed: whoever carries it out asks
    /// the server itself first. A view may be older than it seems after a restart; an old number of replicas would cost
    /// pods, and an old policy claims.
    pub fn relies_on_set(&self) -> bool {
        match self {
            Self::AdoptRevision { .. }
            | Self::CreateRevision(_)
            | Self::RenumberRevision { .. }
            | Self::AdoptPod { .. }
            | Self::UpdateInPlace { .. }
            | Self::CreateHookPod { .. }
            | Self::RunGate { .. } => true,
            Self::DeletePod { reason, .. } => *reason != DeleteReason::Ended,
            Self::UpdateClaim { owners, .. } => !owners.is_empty(),
            // Rolling back carries the version of the set itself.
            Self::RollBack { .. }
            | Self::MarkPod { .. }
            | Self::DeleteHookPod { .. }
            | Self::DeleteRevision { .. }
            | Self::ReleasePod { .. }
            | Self::CreateClaim { .. }
            | Self::CreatePod { .. }
            | Self::UpdatePod { .. } => false,
        }
    }
}

fn revision_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(super::identity::REVISION_LABEL).map(String::as_str)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        match self {
            Self::AdoptRevision { name, .. } => write!(f, "adopt revision {name}"),
            Self::CreateRevision(revision) => write!(f, "create revision {}", name(&revision.metadata.name)),
            Self::RenumberRevision { name, number, .. } => write!(f, "make revision {name} number {number}"),
            Self::DeleteRevision { name, .. } => write!(f, "delete revision {name}"),
            Self::RollBack { from, to, because, .. } => write!(f, "set the template back from revision {from} to {to}: {because}"),
            Self::AdoptPod { name, .. } => write!(f, "adopt pod {name}"),
            Self::ReleasePod { name, .. } => write!(f, "release pod {name}"),
            Self::CreateClaim { claim, .. } => write!(f, "create claim {}", name(&claim.metadata.name)),
            Self::UpdateClaim { name, .. } => write!(f, "set the owners of claim {name}"),
            Self::CreatePod { pod, .. } => {
                write!(f, "create pod {} at {}", name(&pod.metadata.name), revision_of(pod).unwrap_or("no revision"))
            }
            Self::UpdatePod { pod, .. } => write!(f, "repair the labels of pod {}", name(&pod.metadata.name)),
            Self::DeletePod { name, reason, .. } => write!(f, "delete pod {name}: {reason}"),
            Self::RunGate { name, run, .. } => write!(f, "run the pre-delete hook of pod {name} for {}", run.progress.purpose),
            Self::CreateHookPod { pod, .. } => {
                let owner = super::hook_owner(pod).map(|owner| owner.name.as_str()).unwrap_or_default();
                write!(f, "run the pre-delete hook of pod {owner} as pod {}", name(&pod.metadata.name))
            }
            Self::DeleteHookPod { name, .. } => write!(f, "delete pod {name} of a pre-delete hook"),
            Self::MarkPod { name, mark, .. } => write!(f, "mark pod {name}: {mark}"),
            Self::UpdateInPlace { name, revision, images, .. } => {
                let images: Vec<_> = images.iter().map(|(container, image)| format!("{container}={image}")).collect();
                write!(f, "update pod {name} in place to {revision}: {}", images.join(" "))
            }
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GateBegun { reason } => write!(f, "its pre-delete hook for {reason} begins"),
            Self::GatePassed { reason } => write!(f, "its pre-delete hook for {reason} succeeded"),
            Self::GateFailed { reason, message } => write!(f, "its pre-delete hook for {reason} failed: {message}"),
            Self::GateGivenUp { reason } => write!(f, "its pre-delete hook for {reason} had its time"),
            Self::GateNotNeeded => f.write_str("it needs no pre-delete hook"),
            Self::GateStale => f.write_str("it is not to be taken away any more"),
            Self::UpdatedInPlace => f.write_str("it is ready after its update in place"),
        }
    }
}

impl fmt::Display for DeleteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("it has ended"),
            Self::ScaledDown => f.write_str("its ordinal is no longer wanted"),
            Self::Outdated { revision, wanted } => write!(f, "it is at {revision}, wanted is {wanted}"),
            Self::Stuck { revision, wanted } => write!(f, "it can't become available at {revision}, wanted is {wanted}"),
        }
    }
}
