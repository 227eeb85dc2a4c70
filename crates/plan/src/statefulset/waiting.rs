//! What a set waits for, as a value.

use std::fmt;

use jiff::Timestamp;
use kinds::gate::Reason;

/// Why a plan does no more than it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingOn {
    /// The selector can't be used.
    InvalidSelector { reason: String },
    /// The update strategy is none that is supported.
    UnknownStrategy { strategy: String },
    /// The set itself is being deleted.
    Deletion,
    /// A pod is to become ready. `trouble` is what keeps it from that, as far as it is known.
    PodReady { pod: String, trouble: Option<String> },
    /// A ready pod is to stay so for `minReadySeconds`.
    PodAvailable { pod: String, at: Option<Timestamp> },
    /// A pod that ended right after it was created is not replaced before a while has passed.
    EarlyEnd { pod: String, at: Timestamp, why: Option<String> },
    /// A pod that was told to stop is to be gone.
    PodGone { pod: String },
    /// A pod that isn't the set's has the name of one that is to be created.
    NameTaken { pod: String },
    /// A claim that belongs to the past of an ordinal is to be gone.
    ClaimGone { claim: String },
    /// A pod doesn't mount a claim that its template asks for, and a living pod's volumes can't be changed.
    StorageDiffers { pod: String, claim: String },
    /// As many pods are unavailable as an update allows.
    Budget { unavailable: usize, most: u32 },
    /// Pods at an old revision are to be deleted by the user.
    UserDeletion { pod: String, others: usize },
    /// Pods below the partition stay at the current revision.
    Partition { pods: usize },
    /// Rollouts are paused, and so many pods are not at the update revision.
    Paused { pods: usize },
    /// A revision that pods are to be created from can't be read.
    UnreadableRevision { revision: String },
    /// The pre-delete hook of a pod is to succeed before the pod is taken away. `trouble` is why it has not so far.
    Gate { pod: String, reason: Reason, trouble: Option<String> },
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidSelector { reason } => write!(f, "waits for a valid selector: {reason}"),
            Self::UnknownStrategy { strategy } => write!(f, "waits for an update strategy it knows: {strategy:?} is none"),
            Self::Deletion => f.write_str("is being deleted"),
            Self::PodReady { pod, trouble: None } => write!(f, "waits for {pod} to become Ready"),
            Self::PodReady { pod, trouble: Some(trouble) } => write!(f, "waits for {pod} to become Ready: {trouble}"),
            Self::PodAvailable { pod, at: None } => write!(f, "waits for {pod} to stay Ready long enough"),
            Self::PodAvailable { pod, at: Some(at) } => write!(f, "waits for {pod} to stay Ready until {at}"),
            Self::EarlyEnd { pod, at, why } => {
                let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                write!(f, "waits until {at} to replace {pod}, which ended right after it was created{why}")
            }
            Self::PodGone { pod } => write!(f, "waits for {pod} to be gone"),
            Self::NameTaken { pod } => write!(f, "waits for the name {pod}: a pod that does not match the selector has it"),
            Self::ClaimGone { claim } => write!(f, "waits for claim {claim} of an earlier pod to be gone"),
            Self::StorageDiffers { pod, claim } => {
                write!(f, "waits for {pod} to be deleted by hand: it does not mount claim {claim}")
            }
            Self::Budget { unavailable, most } => {
                write!(f, "waits for pods to become available: {unavailable} are not, and at most {most} may be")
            }
            Self::UserDeletion { pod, others: 0 } => write!(f, "waits for {pod} to be deleted by hand, as updateStrategy OnDelete asks"),
            Self::UserDeletion { pod, others } => {
                write!(f, "waits for {pod} and {others} more to be deleted by hand, as updateStrategy OnDelete asks")
            }
            Self::Partition { pods } => write!(f, "keeps {pods} pods below the partition at the current revision"),
            Self::Paused { pods } => write!(f, "waits for the rollout to be resumed: {pods} pods are to be replaced"),
            Self::UnreadableRevision { revision } => write!(f, "waits for revision {revision} to hold a pod template"),
            Self::Gate { pod, reason, trouble: None } => write!(f, "waits for the pre-delete hook of {pod} for {reason}"),
            Self::Gate { pod, reason, trouble: Some(trouble) } => {
                write!(f, "waits for the pre-delete hook of {pod} for {reason}: {trouble}")
            }
        }
    }
}
