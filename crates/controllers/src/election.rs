//! Leads and follows: the shell around [`plan::election`].
//!
//! # Guarantees
//! * The work gets a [`Fence`]: the writes of clients behind it pass only while this process leads.
//! * When leadership is lost, the work is dropped as a crash would drop it, and may be begun anew later.
//! * At shutdown the work is let end, and then the Lease is let go, so that another need not wait for it.

use std::fmt;
use std::time::Duration;

use informer::source::Source;
use informer::{Api, Informer, Subscription};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kinds::ObjectKey;
use kube::Client;
use kube::api::PostParams;
use plan::election::{Elapsed, Election, Step, Timing};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::fence::Fence;
use crate::runtime::{ReconcileError, call};

/// How often a Lease that changes is tried to be let go.
const RELEASES: usize = 3;

/// Which Lease is stood for, and as whom.
#[derive(Clone, Debug)]
pub struct Candidacy {
    pub namespace: String,
    pub name: String,
    /// No other candidate may have it, ever.
    pub identity: String,
    pub timing: Timing,
}

/// What happens in an election, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// This process leads since then.
    Leading(Timestamp),
    /// Another leads.
    Following(String),
    /// This process led, and leads no more.
    Lost,
    /// The Lease was let go.
    Released,
    /// The Lease could not be let go; the others wait for its end.
    Kept(String),
    /// The Lease could not be read or written; it is tried again.
    Trouble(String),
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leading(since) => write!(f, "leading since {since:.0}"),
            Self::Following(holder) => write!(f, "following {holder}"),
            Self::Lost => f.write_str("lost the lease; all work has stopped"),
            Self::Released => f.write_str("released the lease"),
            Self::Kept(reason) => write!(f, "the lease was not released: {reason}; others wait until it is over"),
            Self::Trouble(reason) => write!(f, "the lease is not within reach: {reason}; trying again"),
        }
    }
}

/// Stands for the Lease until `shutdown`, and works whenever this process leads.
///
/// `work` gets the fence for its clients, and what completes when it is to end; it should not end before.
pub async fn run<W: Future<Output = ()>>(
    client: Client,
    candidacy: Candidacy,
    tell: impl Fn(News),
    work: impl Fn(Fence, tokio::sync::watch::Receiver<bool>) -> W,
    shutdown: impl Future<Output = ()>,
) {
    let mut candidate = Candidate::new(client, candidacy, tell);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = candidate.win() => {}
            () = &mut shutdown => return,
        }
        let (end, ended) = tokio::sync::watch::channel(false);
        let working = work(candidate.fence.clone(), ended);
        tokio::pin!(working);
        tokio::select! {
            () = candidate.keep() => {}
            () = &mut working => return candidate.resign().await,
            () = &mut shutdown => {
                end.send_replace(true);
                tokio::select! {
                    () = working => {}
                    () = candidate.keep() => {}
                }
                return candidate.resign().await;
            }
        }
    }
}

struct Candidate<T> {
    api: Api<Lease>,
    key: ObjectKey,
    view: Informer<Lease>,
    changes: Subscription<Lease>,
    election: Election,
    /// How long a request may take.
    patience: Duration,
    start: Instant,
    /// Of this reign. What is left of an earlier one stays behind another, which is closed.
    fence: Fence,
    tell: T,
    /// Whom the last news was about.
    told: Option<String>,
}

impl<T: Fn(News)> Candidate<T> {
    fn new(client: Client, candidacy: Candidacy, tell: T) -> Self {
        let Candidacy { namespace, name, identity, timing } = candidacy;
        let api: Api<Lease> = Api::namespaced(client.clone(), &namespace);
        let source = Source { fields: Some(format!("metadata.name={name}")), ..Source::of("leases", api.resource_url()) };
        let view = Informer::start_at(client, source, |text| serde_json::from_slice(text.as_bytes()));
        Self {
            api,
            key: ObjectKey::new(namespace.as_str(), name.as_str()),
            changes: view.subscribe(),
            view,
            election: Election::new(&identity, &namespace, &name, timing),
            patience: timing.renew_deadline,
            start: Instant::now(),
            fence: Fence::default(),
            tell,
            told: None,
        }
    }

    fn elapsed(&self) -> Elapsed {
        self.start.elapsed()
    }

    /// Follows until this process leads.
    async fn win(&mut self) {
        self.fence = Fence::default();
        while self.election.leading_until(self.elapsed()).is_none() {
            self.step().await;
        }
        (self.tell)(News::Leading(Timestamp::now()));
        self.told = None;
    }

    /// Renews until this process leads no more.
    async fn keep(&mut self) {
        while let Some(until) = self.election.leading_until(self.elapsed()) {
            // A request that hangs does not prolong the reign.
            let _ = timeout_at(self.start + until, self.step()).await;
        }
        self.fence.close();
        (self.tell)(News::Lost);
    }

    async fn step(&mut self) {
        match self.election.decide(self.elapsed(), Timestamp::now()) {
            Step::Look => self.look().await,
            Step::Write(lease) => self.write(&lease).await,
            Step::Wait(until) => self.wait(until).await,
        }
    }

    /// Waits for the time or, while following, for a change of the Lease: a leader's own writes tell it enough.
    async fn wait(&mut self, until: Elapsed) {
        let until = self.start + until;
        if self.election.leading_until(self.elapsed()).is_some() {
            return sleep_until(until).await;
        }
        self.tell_holder();
        tokio::select! {
            () = sleep_until(until) => {}
            _ = self.changes.changes() => {
                let seen = self.view.get(&self.key);
                self.election.observe(seen.as_deref(), self.elapsed());
            }
        }
    }

    async fn look(&mut self) {
        match self.ask("reading", self.api.get_opt(&self.key.name)).await {
            Ok(lease) => self.election.observe(lease.as_ref(), self.elapsed()),
            Err(error) => self.failed(&error),
        }
    }

    async fn write(&mut self, lease: &Lease) {
        let sent = self.elapsed();
        let params = PostParams::default();
        let new = lease.metadata.resource_version.is_none();
        let answer = match new {
            true => self.ask("creating", self.api.create(&params, lease)).await,
            false => self.ask("taking or renewing", self.api.replace(&self.key.name, &params, lease)).await,
        };
        match answer {
            Ok(answer) => {
                self.election.wrote(answer, sent);
                if let Some(until) = self.election.leading_until(self.elapsed()) {
                    self.fence.open_until(self.start + until);
                }
            }
            // That a new one has no place is no news about the Lease: the namespace is missing.
            Err(error) if error.is_stale() && (!new || error.is_already_exists()) => self.election.outdated(),
            Err(error) => self.failed(&error),
        }
    }

    /// Makes a request about the Lease, within the time that a leader has.
    async fn ask<R>(&self, doing: &str, request: impl Future<Output = kube::Result<R>>) -> Result<R, ReconcileError> {
        let doing = || format!("{doing} lease {}", self.key);
        let late = |_| Err(ReconcileError::NoAnswer { doing: doing() });
        tokio::time::timeout(self.patience, call(doing, request)).await.unwrap_or_else(late)
    }

    fn failed(&mut self, error: &ReconcileError) {
        self.election.failed(self.elapsed());
        self.tell_once(error.to_string(), News::Trouble);
    }

    fn tell_holder(&mut self) {
        if let Some(holder) = self.election.holder().map(str::to_owned) {
            self.tell_once(holder, News::Following);
        }
    }

    fn tell_once(&mut self, what: String, news: impl Fn(String) -> News) {
        if self.told.as_ref() != Some(&what) {
            (self.tell)(news(what.clone()));
            self.told = Some(what);
        }
    }

    /// Lets the Lease go, if this process has it. A renewal that was under way when the work ended may have made another
    /// version of it than is known, so it is looked at first.
    async fn resign(&mut self) {
        self.fence.close();
        for _ in 0..RELEASES {
            self.look().await;
            let Some(lease) = self.election.release(self.elapsed(), Timestamp::now()) else { return };
            match self.ask("releasing", self.api.replace(&self.key.name, &PostParams::default(), &lease)).await {
                Ok(_) => return (self.tell)(News::Released),
                Err(error) if error.is_stale() => {}
                Err(error) => return (self.tell)(News::Kept(error.to_string())),
            }
        }
        (self.tell)(News::Kept(format!("lease {} changes all the time", self.key)));
    }
}

#[cfg(test)]
mod tests;
