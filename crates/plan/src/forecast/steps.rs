//! What happens, one thing after the other.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::World;
use super::changes::changes;
use crate::statefulset::{Action, DeleteReason, Mark, template_in};

/// So many fields are named as a reason; more are only counted.
const MOST_FIELDS: usize = 3;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    CreateRevision {
        revision: String,
    },
    /// An older revision becomes the newest.
    ReuseRevision {
        revision: String,
    },
    ForgetRevision {
        revision: String,
    },
    CreateClaim {
        claim: String,
    },
    /// Somebody else, or nobody, takes the claim along from now on.
    OwnClaim {
        claim: String,
        owners: Vec<String>,
    },
    /// A claim goes with the pod or the set that owned it.
    LoseClaim {
        claim: String,
    },
    CreatePod {
        pod: String,
        revision: String,
    },
    DeletePod {
        pod: String,
        #[serde(flatten)]
        reason: Reason,
    },
    AwaitGone {
        pod: String,
    },
    AwaitReady {
        pod: String,
    },
    /// Pods have to stay ready for `minReadySeconds`.
    AwaitTime {
        seconds: i64,
    },
    /// What has no words of its own here.
    Other {
        what: String,
    },
}

/// Why a pod is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    Ended,
    ScaledDown,
    /// Its template is another one now: these fields differ.
    Outdated {
        from: String,
        to: String,
        fields: Vec<String>,
    },
    /// As `Outdated`, and it can't become available as it is.
    Stuck {
        from: String,
        to: String,
        fields: Vec<String>,
    },
}

impl Step {
    /// What an action does to a world that has not done it yet.
    ///
    /// `None` for what only keeps the books of a hook: that it runs is told.
    pub(super) fn of(action: &Action, world: &World) -> Option<Self> {
        let named = |name: &Option<String>| name.clone().unwrap_or_default();
        Some(match action {
            Action::MarkPod { mark: Mark::GateBegun { .. } | Mark::GatePassed { .. }, .. } | Action::DeleteHookPod { .. } => return None,
            Action::CreateRevision(revision) => Self::CreateRevision { revision: named(&revision.metadata.name) },
            Action::RenumberRevision { name, .. } => Self::ReuseRevision { revision: name.clone() },
            Action::DeleteRevision { name, .. } => Self::ForgetRevision { revision: name.clone() },
            Action::CreateClaim { claim, .. } => Self::CreateClaim { claim: named(&claim.metadata.name) },
            Action::UpdateClaim { name, owners, .. } => {
                let owners = owners.iter().map(|owner| format!("{} {}", owner.kind, owner.name)).collect();
                Self::OwnClaim { claim: name.clone(), owners }
            }
            Action::CreatePod { pod, .. } => {
                let revision = pod.metadata.labels.as_ref().and_then(|labels| labels.get("controller-revision-hash"));
                Self::CreatePod { pod: named(&pod.metadata.name), revision: revision.cloned().unwrap_or_default() }
            }
            Action::DeletePod { name, reason, .. } => Self::DeletePod { pod: name.clone(), reason: Reason::of(reason, world) },
            other => Self::Other { what: other.to_string() },
        })
    }
}

impl Reason {
    fn of(reason: &DeleteReason, world: &World) -> Self {
        match reason {
            DeleteReason::Ended => Self::Ended,
            DeleteReason::ScaledDown => Self::ScaledDown,
            DeleteReason::Outdated { revision, wanted } => {
                Self::Outdated { from: revision.clone(), to: wanted.clone(), fields: fields(world, revision, wanted) }
            }
            DeleteReason::Stuck { revision, wanted } => {
                Self::Stuck { from: revision.clone(), to: wanted.clone(), fields: fields(world, revision, wanted) }
            }
        }
    }
}

/// The names of the fields in which the templates of two revisions differ.
fn fields(world: &World, from: &str, to: &str) -> Vec<String> {
    let template = |name: &str| world.revisions.get(name).and_then(|revision| template_in(revision));
    let (Some(from), Some(to)) = (template(from), template(to)) else { return Vec::new() };
    let names: BTreeSet<String> = changes("", from, to).iter().map(|change| change.field().to_owned()).collect();
    names.into_iter().collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateRevision { revision } => write!(f, "record revision {revision}"),
            Self::ReuseRevision { revision } => write!(f, "go back to revision {revision}"),
            Self::ForgetRevision { revision } => write!(f, "forget revision {revision}"),
            Self::CreateClaim { claim } => write!(f, "create claim {claim}"),
            Self::OwnClaim { claim, owners } if owners.is_empty() => write!(f, "let claim {claim} stay whatever goes"),
            Self::OwnClaim { claim, owners } => write!(f, "let claim {claim} go with {}", owners.join(" and ")),
            Self::LoseClaim { claim } => write!(f, "claim {claim} is deleted"),
            Self::CreatePod { pod, revision } => write!(f, "create {pod} at revision {revision}"),
            Self::DeletePod { pod, reason } => write!(f, "delete {pod}: {reason}"),
            Self::AwaitGone { pod } => write!(f, "wait for {pod} to be gone"),
            Self::AwaitReady { pod } => write!(f, "wait for {pod} to become Ready"),
            Self::AwaitTime { seconds } => write!(f, "wait {seconds} s for it to stay Ready"),
            Self::Other { what } => f.write_str(what),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("it has ended"),
            Self::ScaledDown => f.write_str("its ordinal is no longer wanted"),
            Self::Outdated { from, to, fields } => f.write_str(&difference(from, to, fields)),
            Self::Stuck { from, to, fields } => write!(f, "it can't become Ready as it is, and {}", difference(from, to, fields)),
        }
    }
}

fn difference(from: &str, to: &str, fields: &[String]) -> String {
    match fields {
        [] => format!("it is at revision {from}, and {to} is wanted"),
        [field] => format!("its {field} changes"),
        many if many.len() <= MOST_FIELDS => format!("its {} change", many.join(", ")),
        many => format!("{} fields of its template change", many.len()),
    }
}
