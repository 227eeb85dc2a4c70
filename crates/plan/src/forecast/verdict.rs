//! How it ends.

use std::fmt;

use serde::Serialize;

use super::Refused;
use crate::statefulset::WaitingOn;

/// Where a forecast ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The set becomes as desired, or is it already.
    Completes,
    /// The rest is left as it is, as the set itself asks.
    #[serde(rename_all = "camelCase")]
    Held { waiting_on: String },
    /// It would never finish by itself.
    #[serde(rename_all = "camelCase")]
    NeverFinishes { waiting_on: String },
    /// A request of the controller would be refused.
    Refused { reason: String },
    /// The end is beyond what is looked at.
    BeyondSight { rounds: usize },
}

impl Verdict {
    pub(super) fn of(waiting_on: Option<WaitingOn>) -> Self {
        match waiting_on {
            None => Self::Completes,
            Some(held @ (WaitingOn::Partition { .. } | WaitingOn::Paused { .. } | WaitingOn::UserDeletion { .. })) => {
                Self::Held { waiting_on: held.to_string() }
            }
            Some(other) => Self::NeverFinishes { waiting_on: other.to_string() },
        }
    }

    pub(super) fn refused(refused: &Refused) -> Self {
        Self::Refused { reason: refused.to_string() }
    }

    /// Whether the set becomes what its manifest says, as far as the manifest itself wants it to.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Completes | Self::Held { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completes => f.write_str("then it is as desired"),
            Self::Held { waiting_on } => write!(f, "then it {waiting_on}"),
            Self::NeverFinishes { waiting_on } => write!(f, "it would never finish: it {waiting_on}"),
            Self::Refused { reason } => write!(f, "it would never finish: the API server would refuse a request, as {reason}"),
            Self::BeyondSight { rounds } => write!(f, "its end is not in sight after {rounds} rounds"),
        }
    }
}
