//! What to do for one pod on its node, and what to report: the kubelet's decisions as a function.
//!
//! ```text
//! sandbox ─┐
//! address ─┼─► network ─┐
//! volumes ──────────────┼─► init containers, one by one ─► containers, side by side ─► stop ─► clean up ─► delete
//! images ───────────────┘
//! ```
//!
//! # Guarantees
//! * A running container is never started again; an exit is removed from the runtime only after the API has recorded it.
//! * Planning a state that already matches gives no action. Actions that are under way are planned again; the executor
//!   knows which are.
//! * All memory that matters is in the runtime and in the recorded status: planning after a restart of the agent leads to
//!   the same end.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

pub mod admit;
mod conditions;
mod observed;
mod phase;
mod run;
mod status;
mod stop;
#[cfg(test)]
mod tests;
mod unit;

pub use admit::{Rejection, admit, request};
pub use observed::{Attempt, AttemptState, Container, Ended, Failure, Hook, Observed, Sandbox, Stop};
pub use phase::quality_of_service;
pub use unit::{Role, container, ephemeral, roles};

/// One operation of the executor. Each is idempotent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Choose the pod's address.
    ReserveAddress,
    CreateSandbox,
    /// Give the sandbox its network.
    AttachNetwork,
    PrepareVolumes,
    /// Find or pull the image and mount a root for this attempt.
    PrepareImage {
        container: String,
        attempt: u32,
    },
    StartContainer {
        container: String,
        attempt: u32,
    },
    RunPostStart {
        container: String,
        attempt: u32,
    },
    /// Remember that the container is being stopped from now on, and say so in an event.
    BeginStop {
        container: String,
        attempt: u32,
        grace_seconds: i64,
        why: StopReason,
    },
    /// Run the preStop hook, for at most what is left of the grace period.
    RunPreStop {
        container: String,
        attempt: u32,
    },
    /// Send the image's stop signal.
    Terminate {
        container: String,
        attempt: u32,
    },
    Kill {
        container: String,
        attempt: u32,
    },
    /// Forget an old attempt and unmount its root.
    RemoveContainer {
        container: String,
        attempt: u32,
    },
    RemoveSandbox,
    TearDownVolumes,
    DetachNetwork,
    /// Delete the API object, with this uid and without grace.
    DeletePod,
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    PodEnds,
    LivenessFailed,
    StartupFailed,
    PostStartFailed,
    /// Its specification names another image now.
    ImageChanged,
}

/// What to do now, what to report, and when to look again if nothing happens before.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: PodStatus,
    pub recheck_at: Option<Timestamp>,
}

/// Plans one pod.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut draft = Draft::new(observed, now);
    let stage = Stage::of(observed, now);
    match stage {
        Stage::Running => run::plan(&mut draft),
        Stage::Ending => stop::plan(&mut draft),
    }
    let status = status::status(observed, stage, now);
    Plan { actions: draft.actions, status, recheck_at: draft.recheck_at }
}

/// Whether the pod is to run or to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    Ending,
}

impl Stage {
    fn of(observed: &Observed<'_>, now: Timestamp) -> Self {
        let over = observed.is_deleting()
            || observed.gone
            || observed.rejection.is_some()
            || observed.recorded_end().is_some()
            || deadline_exceeded(observed, now)
            || phase::completed(observed);
        if over { Self::Ending } else { Self::Running }
    }
}

/// The pod was active longer than `activeDeadlineSeconds`.
fn deadline_exceeded(observed: &Observed<'_>, now: Timestamp) -> bool {
    deadline(observed).is_some_and(|at| at <= now)
}

fn deadline(observed: &Observed<'_>) -> Option<Timestamp> {
    let seconds = observed.spec()?.active_deadline_seconds?;
    Some(after(observed.started_at(), seconds))
}

/// A plan in the making.
struct Draft<'a> {
    observed: &'a Observed<'a>,
    now: Timestamp,
    actions: Vec<Action>,
    recheck_at: Option<Timestamp>,
}

impl<'a> Draft<'a> {
    fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        Self { observed, now, actions: Vec::new(), recheck_at: None }
    }

    /// Plans the action, unless it failed and is to wait.
    fn act(&mut self, action: Action) {
        match self.observed.failures.get(&action).map(|failure| failure.retry_at(&action)) {
            Some(at) if at > self.now => self.look_again(at),
            _ => self.actions.push(action),
        }
    }

    fn look_again(&mut self, at: Timestamp) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// So many seconds later; the end of time if that is beyond it.
fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// The grace period of the pod: what its deletion says, else what its specification says.
pub fn grace_seconds(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    pod.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30).max(0)
}
