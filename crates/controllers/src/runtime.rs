//! The loop every controller is: changes become keys, keys wait in a queue, and a worker reconciles one key at a time.
//!
//! ```no_run
//! # async fn doc(informers: controllers::Informers, controller: impl controllers::runtime::Controller<Key = kinds::ObjectKey>) {
//! controllers::runtime::Runner::new(controller)
//!     .watch(&informers.statefulsets, |change| vec![change.key.clone()])
//!     .run(std::future::pending())
//!     .await;
//! # }
//! ```
//!
//! # Guarantees
//! * A key that changed is reconciled after the change could be seen in the live view.
//! * One key is never reconciled twice at the same time; different keys are, up to the number of workers.
//! * A failed round is tried again, later each time. A panic is a failed round.
//!
//! # Assumptions
//! * A round may be dropped at any await point, and another may begin from what it left: as after a crash.

mod queue;
mod writes;

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use informer::{Change, Informer, Watched};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;

use queue::Finish;
pub use queue::WorkQueue;
pub use writes::Writes;

/// How long one request to the API server may take.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// How long one round may take before it counts as failed.
const ROUND_DEADLINE: Duration = Duration::from_secs(300);
/// How long rounds that run at shutdown may go on.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// As many keys as upstream's controllers reconcile side by side.
const WORKERS: usize = 5;

/// What identifies a unit of reconciliation, most often `kinds::ObjectKey`.
pub trait Key: Clone + Eq + Hash + Debug + Display + Send + Sync + 'static {}

impl<K> Key for K where K: Clone + Eq + Hash + Debug + Display + Send + Sync + 'static {}

/// One controller: brings what a key names to what it should be, one round at a time.
pub trait Controller: Send + Sync + 'static {
    type Key: Key;

    /// For logs.
    fn name(&self) -> &'static str;

    /// One round: observe, plan, execute. What isn't there any more is no error.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Outcome, ReconcileError>> + Send;
}

/// How a round ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When to look again though nothing may have changed by then.
    pub recheck_after: Option<Duration>,
    /// How long nothing brings another round, for one that cost much: so that one round answers many changes. It becomes longer
    /// while changes go on without a pause, and short again with a round that asks for no rest.
    pub rest: Option<Duration>,
}

impl Outcome {
    /// Nothing to do until something changes.
    pub const fn done() -> Self {
        Self { recheck_after: None, rest: None }
    }

    /// Nothing to do until something changes or this time has passed.
    pub const fn recheck_after(delay: Duration) -> Self {
        Self { recheck_after: Some(delay), rest: None }
    }

    /// The same, with a rest.
    pub const fn and_rest(self, rest: Duration) -> Self {
        Self { rest: Some(rest), ..self }
    }
}

/// Why a round failed. Every failed round is tried again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    #[error("{doing}: {source}")]
    Api { doing: String, source: kube::Error },
    #[error("{doing}: no answer within {} s", CALL_DEADLINE.as_secs())]
    NoAnswer { doing: String },
    #[error("the live view of {kind} is behind the server")]
    Behind { kind: String },
    #[error("the round did not end within {} s", ROUND_DEADLINE.as_secs())]
    Endless,
    #[error("the round panicked: {0}")]
    Panicked(String),
}

impl ReconcileError {
    /// Whether the live view was older than the server's state, so that the next round will likely see what happened.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => {
                status.is_conflict() || status.is_not_found() || status.is_already_exists()
            }
            _ => false,
        }
    }

    /// Whether there is nothing under the name, or no such kind.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.is_not_found())
    }

    /// Whether what was to be created is already there.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.is_already_exists())
    }
}

/// Makes one request to the API server, with a deadline. `doing` names it in the error.
pub async fn call<T>(doing: impl FnOnce() -> String, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ReconcileError> {
    match timeout(CALL_DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ReconcileError::Api { doing: doing(), source }),
        Err(_) => Err(ReconcileError::NoAnswer { doing: doing() }),
    }
}

/// Runs a [`Controller`] over its sources.
pub struct Runner<C: Controller> {
    controller: Arc<C>,
    queue: Arc<WorkQueue<C::Key>>,
    workers: usize,
    synced: Vec<BoxFuture<'static, ()>>,
    sources: Vec<BoxFuture<'static, ()>>,
}

impl<C: Controller> Runner<C> {
    /// A runner without sources.
    pub fn new(controller: C) -> Self {
        Self::with_queue(controller, Arc::default())
    }

    /// A runner without sources over a queue that the controller itself adds to.
    pub fn with_queue(controller: C, queue: Arc<WorkQueue<C::Key>>) -> Self {
        Self { controller: Arc::new(controller), queue, workers: WORKERS, synced: Vec::new(), sources: Vec::new() }
    }

    /// Reconciles the keys that `keys` names for each change of this kind, and for each object there is at the start.
    ///
    /// `keys` runs after all watched views are complete, so it may look into other informers.
    pub fn watch<K: Watched>(mut self, informer: &Informer<K>, keys: impl Fn(&Change<K>) -> Vec<C::Key> + Send + Sync + 'static) -> Self {
        self.synced.push(wait_for_sync(informer.clone()));
        self.sources.push(forward(informer.clone(), keys, self.queue.clone()).boxed());
        self
    }

    /// Waits for this view too before the first round, though its changes cause none.
    pub fn needs<K: Watched>(mut self, informer: &Informer<K>) -> Self {
        self.synced.push(wait_for_sync(informer.clone()));
        self
    }

    /// How many keys are reconciled side by side.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// The queue, for sources other than informers.
    pub fn queue(&self) -> Arc<WorkQueue<C::Key>> {
        self.queue.clone()
    }

    /// Reconciles until `shutdown` completes; then lets the rounds that run end, for a short time.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { controller, queue, workers, synced, sources } = self;
        tokio::pin!(shutdown);
        tokio::select! {
            () = &mut shutdown => return,
            _ = join_all(synced) => tracing::debug!(controller = controller.name(), "views complete"),
        }
        let mut feeding = JoinSet::new();
        sources.into_iter().for_each(|source| drop(feeding.spawn(source)));
        let mut working = JoinSet::new();
        for _ in 0..workers {
            working.spawn(work(controller.clone(), queue.clone()));
        }
        tokio::select! {
            () = shutdown => {}
            () = queue.keep_time() => {}
        }
        queue.close();
        // What still runs after this is dropped with the set, as a crash would drop it.
        let _ = timeout(SHUTDOWN_GRACE, async { while working.join_next().await.is_some() {} }).await;
    }
}

fn wait_for_sync<K: Watched>(informer: Informer<K>) -> BoxFuture<'static, ()> {
    async move { informer.synced().await }.boxed()
}

async fn forward<K: Watched, Q: Key>(
    informer: Informer<K>,
    keys: impl Fn(&Change<K>) -> Vec<Q> + Send + Sync + 'static,
    queue: Arc<WorkQueue<Q>>,
) {
    let mut subscription = informer.subscribe();
    loop {
        for change in subscription.changes().await {
            keys(&change).into_iter().for_each(|key| queue.add(key));
        }
    }
}

async fn work<C: Controller>(controller: Arc<C>, queue: Arc<WorkQueue<C::Key>>) {
    while let Some(key) = queue.next().await {
        let finish = match round(&*controller, &key).await {
            Ok(outcome) => Finish::Done(outcome),
            Err(error) if error.is_stale() => {
                tracing::debug!(controller = controller.name(), %key, %error, "the view was old; looking again");
                Finish::Failed
            }
            Err(error) => {
                tracing::warn!(controller = controller.name(), %key, %error, "round failed; it is tried again");
                Finish::Failed
            }
        };
        queue.finish(key, finish);
    }
}

/// One round with its deadline; a panic is an error like any other.
async fn round<C: Controller>(controller: &C, key: &C::Key) -> Result<Outcome, ReconcileError> {
    let guarded = AssertUnwindSafe(controller.reconcile(key)).catch_unwind();
    match timeout(ROUND_DEADLINE, guarded).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(ReconcileError::Panicked(message_of(&*panic))),
        Err(_) => Err(ReconcileError::Endless),
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests;
