//! What the planner looks at.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Pod, PodSpec};

use super::{Action, Rejection, after};

/// All that is known of a pod on its node.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    pub pod: &'a Pod,
    /// The object is no longer in the API; only the clean-up is left. `pod` is what was seen last.
    pub gone: bool,
    /// The node's addresses.
    pub host_addresses: &'a [String],
    pub rejection: Option<&'a Rejection>,
    pub sandbox: Sandbox,
    /// The pod's own address, as soon as it is reserved.
    pub address: Option<&'a str>,
    /// The sandbox has the address, or needs none.
    pub attached: bool,
    /// The volumes can be mounted.
    pub volumes_ready: bool,
    /// Volumes were torn down.
    pub volumes_removed: bool,
    /// The network was detached.
    pub detached: bool,
    /// Those of the pod that were added while it runs, as containers.
    pub ephemeral: &'a [core::Container],
    /// By the containers' names, of all roles.
    pub containers: &'a BTreeMap<String, Container>,
    /// Actions whose last run failed.
    pub failures: &'a BTreeMap<Action, Failure>,
    /// When the agent saw the pod first.
    pub seen_at: Timestamp,
}

/// The process that holds the pod's namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Absent,
    Ready,
    /// It ended, and all containers with it; what it left is to be removed.
    Lost,
}

/// What is known of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// Ascending; at most the last can be running.
    pub attempts: Vec<Attempt>,
    /// The number that the first attempt in this sandbox gets, if there is none in `attempts`.
    pub first_attempt: u32,
    /// Restarts in a row without ten good minutes between.
    pub crashes: u32,
    /// A root is mounted for the attempt of this number.
    pub image_for: Option<u32>,
    /// What the probes of the running attempt found; `None` before the first verdict.
    pub startup: Option<bool>,
    pub readiness: Option<bool>,
    pub liveness: Option<bool>,
    /// What the probe that keeps the running attempt from being ready said: `readiness probe failed 4 times: ...`.
    pub probe_failure: Option<String>,
    pub post_start: Hook,
    /// The running attempt is being stopped.
    pub stop: Option<Stop>,
}

/// A hook of the running attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// It has not ended yet.
    #[default]
    Pending,
    Done,
    Failed,
}

/// One start of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// 0 for the first; `restartCount` is the newest.
    pub number: u32,
    pub state: AttemptState,
    /// The image as the specification named it when the attempt began; empty if that is not known.
    pub image: String,
    /// The digest of the image.
    pub image_id: String,
    /// It ran in an earlier sandbox.
    pub earlier_sandbox: bool,
}

/// What an attempt is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptState {
    Running { started_at: Timestamp },
    Ended(Ended),
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub out_of_memory: bool,
    /// Nobody saw how it ended: its sandbox was lost.
    pub unknown: bool,
    /// What it left in its termination message file.
    pub message: Option<String>,
}

/// A stop that is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    pub began: Timestamp,
    pub grace_seconds: i64,
    /// When the preStop hook ended.
    pub pre_stop_over: Option<Timestamp>,
    pub terminated: bool,
    pub killed: bool,
}

/// The last run of an action failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// As in a container's waiting state, for example `ErrImagePull`.
    pub reason: String,
    pub message: String,
    /// Failures in a row.
    pub count: u32,
    pub at: Timestamp,
}

impl Failure {
    /// Images and starts wait like crashed containers (10 s, doubling to 5 min); the rest 0.5 s, doubling to 2 min.
    pub fn retry_at(&self, action: &Action) -> Timestamp {
        let doublings = self.count.saturating_sub(1).min(10);
        match action {
            Action::PrepareImage { .. } | Action::StartContainer { .. } => after(self.at, (10 << doublings).min(300)),
            _ => self.at.checked_add(SignedDuration::from_millis((500 << doublings).min(120_000))).unwrap_or(Timestamp::MAX),
        }
    }
}

impl Observed<'_> {
    pub(super) fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// The terminal phase that the API already has.
    pub(super) fn recorded_end(&self) -> Option<&str> {
        let phase = self.pod.status.as_ref()?.phase.as_deref()?;
        matches!(phase, "Succeeded" | "Failed").then_some(phase)
    }

    /// `status.startTime`: as recorded, else when the agent saw the pod first.
    pub(super) fn started_at(&self) -> Timestamp {
        let recorded = self.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        recorded.map_or(self.seen_at, |time| time.0)
    }

    pub(super) fn host_network(&self) -> bool {
        self.spec().is_some_and(|spec| spec.host_network == Some(true))
    }
}

impl Container {
    /// The newest attempt.
    pub fn latest(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The number the next attempt gets.
    pub fn next_attempt(&self) -> u32 {
        self.latest().map_or(self.first_attempt, |latest| latest.number + 1)
    }

    /// The attempt that runs.
    pub fn running(&self) -> Option<&Attempt> {
        self.latest().filter(|latest| matches!(latest.state, AttemptState::Running { .. }))
    }

    /// How the newest attempt ended, if it did.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.latest()?.state {
            AttemptState::Ended(ended) => Some(ended),
            AttemptState::Running { .. } => None,
        }
    }

    /// How long a restart waits after the end: not at all the first time, then 10 s, doubling to 5 min; ten good minutes
    /// begin anew.
    pub(super) fn back_off_seconds(&self) -> i64 {
        let crashes = self.crashes_so_far();
        if crashes == 0 { 0 } else { (10 << (crashes - 1).min(10)).min(300) }
    }

    /// `crashes`, forgotten when the last run lasted.
    pub fn crashes_so_far(&self) -> u32 {
        let lasted = |ended: &Ended| ended.started_at.is_some_and(|started| after(started, 600) <= ended.finished_at);
        if self.ended().is_some_and(lasted) { 0 } else { self.crashes }
    }
}
