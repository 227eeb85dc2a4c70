//! The StatefulSet controller: the shell around [`plan::statefulset`].
//!
//! # Guarantees
//! * A round plans from views that show all writes of the round before.
//! * Every request is guarded by the uid or the version that was observed, so that a plan from an old view does nothing
//!   that a new one would not do.

mod batches;
mod execute;
mod hooks;
mod observe;
mod report;
mod sources;
pub(crate) mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::Recorder;
use informer::Informer;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kinds::{ObjectKey, SetKind};
use kube::Client;
use plan::statefulset::{Plan, plan};

use crate::runtime::{Controller, Outcome, ReconcileError, Runner, WorkQueue, Writes};
use crate::{Clock, Informers};
use hooks::Hooks;

/// After so many rounds in a row another set gets its turn.
const MOST_ROUNDS: usize = 64;
/// A set of fewer pods never rests: its rounds cost less than what it would gain.
const LARGE_SET: u64 = 500;

/// Runs the controller until `shutdown` completes.
pub async fn run(client: Client, informers: &Informers, shutdown: impl Future<Output = ()> + Send) {
    run_with_clock(client, informers, Clock::Wall, shutdown).await;
}

/// As [`run`], with the time from another clock.
pub async fn run_with_clock(client: Client, informers: &Informers, clock: Clock, shutdown: impl Future<Output = ()> + Send) {
    let Informers { statefulsets, pods, claims, revisions, .. } = informers;
    let (sets, other_sets, third_sets) = (statefulsets.clone(), statefulsets.clone(), statefulsets.clone());
    let queue = Arc::<WorkQueue<ObjectKey>>::default();
    Runner::with_queue(StatefulSets::new(client, informers, clock, Arc::clone(&queue)), queue)
        .watch(statefulsets, |change| vec![change.key.clone()])
        .watch(pods, move |change| sources::of_pod(&sets, change))
        .watch(claims, move |change| sources::of_claim(&other_sets, change))
        .watch(revisions, move |change| sources::of_revision(&third_sets, change))
        .run(shutdown)
        .await;
}

struct StatefulSets {
    client: Client,
    kind: SetKind,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
    events: Recorder,
    clock: Clock,
    hooks: Hooks,
    /// Writes that the views did not show in time, by set. They are waited for before the set is planned again.
    unseen: Mutex<HashMap<ObjectKey, Written>>,
}

/// What was written and is not yet known to be in the views.
#[derive(Debug, Default)]
struct Written {
    sets: Writes,
    pods: Writes,
    claims: Writes,
    revisions: Writes,
}

impl StatefulSets {
    fn new(client: Client, informers: &Informers, clock: Clock, queue: Arc<WorkQueue<ObjectKey>>) -> Self {
        let events = crate::recorder(client.clone(), "statefulset-controller", clock).about_sets_of(informers.set_kind);
        Self {
            hooks: Hooks::new(client.clone(), informers.pods.clone(), events.clone(), clock, queue),
            events,
            client,
            kind: informers.set_kind,
            sets: informers.statefulsets.clone(),
            pods: informers.pods.clone(),
            claims: informers.claims.clone(),
            revisions: informers.revisions.clone(),
            clock,
            unseen: Mutex::default(),
        }
    }

    /// One round: what was planned, or `None` if the set is gone.
    async fn round(&self, key: &ObjectKey) -> Result<Option<Plan>, ReconcileError> {
        self.see_writes(key, Written::default()).await?;
        let Some(set) = self.sets.get(key) else { return Ok(None) };
        let observed = self.observe(&set);
        let plan = plan(&observed, self.clock.now());
        if let Some(waiting) = &plan.waiting_on {
            tracing::debug!(set = %key, %waiting, "planned");
        }
        self.report_oddities(&set, &plan);
        let (written, result) = self.execute(&set, &plan).await;
        let seen = self.see_writes(key, written).await;
        result.and(seen)?;
        Ok(Some(plan))
    }

    /// Waits until the views show these writes and earlier ones; keeps them if they don't.
    async fn see_writes(&self, key: &ObjectKey, written: Written) -> Result<(), ReconcileError> {
        let mut all = self.unseen().remove(key).unwrap_or_default();
        all.merge(written);
        let seen = all.seen_by(self).await;
        if seen.is_err() {
            self.unseen().entry(key.clone()).or_default().merge(all);
        }
        seen
    }

    fn unseen(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, Written>> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    fn merge(&mut self, other: Self) {
        self.sets.merge(other.sets);
        self.pods.merge(other.pods);
        self.claims.merge(other.claims);
        self.revisions.merge(other.revisions);
    }

    async fn seen_by(&mut self, views: &StatefulSets) -> Result<(), ReconcileError> {
        self.revisions.seen_by(&views.revisions).await?;
        self.claims.seen_by(&views.claims).await?;
        self.pods.seen_by(&views.pods).await?;
        self.sets.seen_by(&views.sets).await
    }
}

impl Controller for StatefulSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "statefulset"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        for round in 0..MOST_ROUNDS {
            match self.round(key).await? {
                None => return Ok(Outcome::done()),
                Some(plan) if plan.actions.is_empty() => {
                    let next = plan.recheck_at.into_iter().chain(plan.deadline).min();
                    let rest = (round == 0).then(|| rest_after(&plan.status)).flatten();
                    return Ok(Outcome { recheck_after: next.map(|at| self.clock.until(at)), rest });
                }
                Some(_) => {}
            }
        }
        Ok(Outcome::recheck_after(Duration::ZERO))
    }
}

/// What a round costs grows with the number of pods. After one that only counts them a large set rests a moment, so that planning
/// takes a small part of the machine however fast its pods change.
fn rest_after(status: &StatefulSetStatus) -> Option<Duration> {
    let pods = u64::try_from(status.replicas).unwrap_or_default();
    (pods >= LARGE_SET).then(|| Duration::from_micros(pods))
}

#[cfg(test)]
mod tests;
