//! Which of several candidates leads: the one that holds a Lease, until it lets go or no longer renews it.
//!
//! An [`Election`] is what one candidate knows. Its owner asks [`Election::decide`] for the next step, takes it, and tells how it
//! went. Two clocks enter: the candidate's own steady one, as the time [`Elapsed`] since it started, decides; the wall clock is
//! only written into the Lease, for people. A holder's clock is never compared with ours.
//!
//! # Guarantees
//! * A Lease is taken from another only after it was seen unchanged for the whole duration that its holder wrote into it.
//! * A leader stops leading [`Timing::renew_deadline`] after the last renewal that succeeded was *sent*. The others saw that
//!   renewal later, and wait [`Timing::lease`], which is longer: by then nobody leads.
//! * Every write carries the version that was looked at, so that of two candidates that see a free Lease one gets it.
//!
//! # Assumptions
//! * No clock runs faster than another by more than `lease` to `renew_deadline`, as 3 to 2.

mod lease;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

/// The time since a candidate started, by its own steady clock.
pub type Elapsed = Duration;

/// How long a leader leads without renewal, and how often it renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the others wait for a renewal, in whole seconds.
    pub lease: Duration,
    /// After how long without a renewal a leader gives up.
    pub renew_deadline: Duration,
    /// The time between renewals, and after a failure.
    pub retry: Duration,
}

impl Timing {
    /// Upstream's proportions, which are 15, 10 and 2 seconds. At least a second.
    pub fn of_lease(seconds: u32) -> Self {
        let lease = Duration::from_secs(u64::from(seconds.max(1)));
        Self { lease, renew_deadline: lease * 2 / 3, retry: lease * 2 / 15 }
    }
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask the server for the Lease; then [`Election::observe`].
    Look,
    /// Create the Lease if it has no resource version, else replace it; then tell how it went.
    Write(Box<Lease>),
    /// Nothing before this time, unless the Lease is seen to change.
    Wait(Elapsed),
}

/// One candidate's part in an election.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    namespace: String,
    name: String,
    timing: Timing,
    known: Known,
    /// When to stop leading. `None` while following.
    leading: Option<Elapsed>,
    /// Nothing is written before this.
    not_before: Elapsed,
}

/// What is known of the Lease.
#[derive(Clone, Debug)]
enum Known {
    Nothing,
    Absent,
    /// The Lease, and when it was first seen to say this.
    Present {
        lease: Box<Lease>,
        since: Elapsed,
    },
}

impl Election {
    /// A candidate that knows nothing yet. No other may have this identity, ever.
    pub fn new(identity: &str, namespace: &str, name: &str, timing: Timing) -> Self {
        let (identity, namespace, name) = (identity.to_owned(), namespace.to_owned(), name.to_owned());
        Self { identity, namespace, name, timing, known: Known::Nothing, leading: None, not_before: Elapsed::ZERO }
    }

    /// Until when this candidate may act as the leader, if it may now.
    pub fn leading_until(&self, at: Elapsed) -> Option<Elapsed> {
        self.leading.filter(|until| at < *until)
    }

    /// Who holds the Lease, as far as is known.
    pub fn holder(&self) -> Option<&str> {
        match &self.known {
            Known::Present { lease, .. } => lease::holder(lease),
            Known::Nothing | Known::Absent => None,
        }
    }

    /// Notes what the server, or a view of it, has. A leader that sees the Lease gone or with another leads no more.
    pub fn observe(&mut self, lease: Option<&Lease>, at: Elapsed) {
        let since = match (&self.known, lease) {
            (Known::Present { lease: before, since }, Some(now)) if lease::says_the_same(before, now) => *since,
            _ => at,
        };
        self.known = lease.map_or(Known::Absent, |lease| Known::Present { lease: Box::new(lease.clone()), since });
        if self.holder() != Some(self.identity.as_str()) {
            self.leading = None;
        }
    }

    /// The next step; `now` is what is written into the Lease.
    pub fn decide(&mut self, at: Elapsed, now: Timestamp) -> Step {
        if self.leading.is_some_and(|until| at >= until) {
            (self.leading, self.known) = (None, Known::Nothing);
        }
        let pause = self.leading.map_or(self.not_before, |until| self.not_before.min(until));
        if at < pause {
            return Step::Wait(pause);
        }
        match &self.known {
            Known::Nothing => Step::Look,
            Known::Absent => Step::Write(Box::new(lease::new(self, now))),
            Known::Present { lease, since } => match lease::holder(lease) {
                Some(holder) if holder == self.identity => Step::Write(Box::new(lease::renewed(lease, self, now))),
                Some(_) if at < *since + lease::duration(lease, self.timing.lease) => {
                    Step::Wait(*since + lease::duration(lease, self.timing.lease))
                }
                _ => Step::Write(Box::new(lease::taken(lease, self, now))),
            },
        }
    }

    /// The server took a write that was sent at this time.
    pub fn wrote(&mut self, answer: Lease, sent: Elapsed) {
        self.known = Known::Present { lease: Box::new(answer), since: sent };
        self.leading = Some(sent + self.timing.renew_deadline);
        self.not_before = sent + self.timing.retry;
    }

    /// The server has another version of the Lease than was known: it is looked at before anything else.
    pub fn outdated(&mut self) {
        self.known = Known::Nothing;
        self.not_before = Elapsed::ZERO;
    }

    /// The server could not be asked, or did not answer. A leader goes on until its time is over.
    pub fn failed(&mut self, at: Elapsed) {
        self.not_before = at + self.timing.retry;
    }

    /// The Lease as a leader leaves it to whoever comes first; `None` if this candidate does not lead.
    pub fn release(&self, at: Elapsed, now: Timestamp) -> Option<Lease> {
        match &self.known {
            Known::Present { lease, .. } if self.leading_until(at).is_some() => Some(lease::released(lease, now)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
