//! When a probe runs, and what its results mean: a state machine per probe and container start.
//!
//! A container's first moments decide how fast an ordered set starts, so until the first success a readiness or startup
//! probe that fails is tried again after 100 ms, then 200, 400 ... up to its period. Such early tries never count against
//! `failureThreshold`: at most one failure per period does. Everything else is as the kubelet does it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;

#[cfg(test)]
mod tests;

/// The first pause of an early try.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(100);

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Whether the container has started; the others wait for it.
    Startup,
    /// Whether it is to be restarted.
    Liveness,
    /// Whether it may get traffic.
    Readiness,
}

impl Kind {
    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The container's probe of this kind.
    pub fn of(self, container: &core::Container) -> Option<&core::Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// A probe's numbers, defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub initial_delay: SignedDuration,
    pub period: SignedDuration,
    pub timeout: SignedDuration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl Schedule {
    /// Reads a probe's numbers.
    pub fn of(probe: &core::Probe) -> Self {
        let at_least_one = |number: Option<i32>, default: i32| number.unwrap_or(default).max(1);
        let seconds = |number: i32| SignedDuration::from_secs(number.into());
        Self {
            initial_delay: seconds(probe.initial_delay_seconds.unwrap_or(0).max(0)),
            period: seconds(at_least_one(probe.period_seconds, 10)),
            timeout: seconds(at_least_one(probe.timeout_seconds, 1)),
            success_threshold: at_least_one(probe.success_threshold, 1).unsigned_abs(),
            failure_threshold: at_least_one(probe.failure_threshold, 3).unsigned_abs(),
        }
    }
}

/// What one run of a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
}

/// What to make of one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The verdict changed.
    pub changed: bool,
    /// It is a failure that counts, and is told in an event.
    pub unhealthy: bool,
}

/// One probe of one running container.
#[derive(Clone, Debug, PartialEq)]
pub struct Prober {
    pub kind: Kind,
    pub schedule: Schedule,
    next_at: Timestamp,
    verdict: Option<bool>,
    /// The last counted outcome, and how often it came in a row.
    row: Option<(Outcome, u32)>,
    /// When a failure was counted last.
    counted_at: Option<Timestamp>,
    succeeded: bool,
    early_tries: u32,
}

impl Prober {
    /// A probe of a container that started then. `known` is the verdict an earlier agent had reached.
    pub fn new(kind: Kind, probe: &core::Probe, started_at: Timestamp, known: Option<bool>) -> Self {
        let schedule = Schedule::of(probe);
        Self {
            kind,
            schedule,
            next_at: later(started_at, schedule.initial_delay),
            verdict: known,
            row: None,
            counted_at: None,
            succeeded: known == Some(true),
            early_tries: 0,
        }
    }

    /// When to run it next; never again once a startup probe has decided.
    pub fn next_at(&self) -> Option<Timestamp> {
        (self.kind != Kind::Startup || self.verdict.is_none()).then_some(self.next_at)
    }

    /// What was found so far, thresholds applied.
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    /// How many failures came in a row, when that is news: after 1, 2, 4, 8 ... of them.
    pub fn failures_to_tell(&self) -> Option<u32> {
        self.row.and_then(|(outcome, times)| (outcome == Outcome::Failure && times.is_power_of_two()).then_some(times))
    }

    /// Takes the result of the run that began at `began` and ended `now`.
    pub fn record(&mut self, outcome: Outcome, began: Timestamp, now: Timestamp) -> Effect {
        let counts = outcome == Outcome::Success || self.counted_at.is_none_or(|last| later(last, self.schedule.period) <= now);
        self.next_at = self.after_run(outcome, began, now);
        if !counts {
            return Effect { changed: false, unhealthy: false };
        }
        if outcome == Outcome::Failure {
            self.counted_at = Some(now);
        }
        self.succeeded |= outcome == Outcome::Success;
        let row = match self.row {
            Some((last, times)) if last == outcome => times.saturating_add(1),
            _ => 1,
        };
        self.row = Some((outcome, row));
        let before = self.verdict;
        self.verdict = self.judge(outcome, row).or(before);
        Effect { changed: self.verdict != before, unhealthy: outcome == Outcome::Failure }
    }

    fn judge(&self, outcome: Outcome, row: u32) -> Option<bool> {
        match outcome {
            Outcome::Success => (row >= self.schedule.success_threshold).then_some(true),
            // Unready is what a container is before its first verdict, so one failure says so.
            Outcome::Failure if self.kind == Kind::Readiness && self.verdict.is_none() => Some(false),
            Outcome::Failure => (row >= self.schedule.failure_threshold).then_some(false),
        }
    }

    fn after_run(&mut self, outcome: Outcome, began: Timestamp, now: Timestamp) -> Timestamp {
        let regular = later(began, self.schedule.period).max(now);
        if self.kind == Kind::Liveness || self.succeeded || outcome == Outcome::Success {
            return regular;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.early_tries.min(20));
        self.early_tries = self.early_tries.saturating_add(1);
        later(now, pause).min(regular.max(later(now, FIRST_PAUSE)))
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
