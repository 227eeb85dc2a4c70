//! Watches: what was published, handed to those who wait for it.
//!
//! The hub holds the published state and the watchers under one lock, so a watcher that begins receives the past from the state's
//! history and everything after it from its queue, nothing twice and nothing left out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use imbl::Vector;
use tokio::sync::Notify;

use super::state::State;
use crate::{Event, Revision, Watch, WatchError, WatchMessage};

/// Events of the past looked at before other tasks get their turn.
const STRETCH: usize = 1024;

/// The published state and everyone who waits for the next.
pub(crate) struct Hub {
    published: ArcSwap<State>,
    watchers: Mutex<Watchers>,
    backlog: usize,
}

#[derive(Default)]
struct Watchers {
    by_prefix: HashMap<Arc<str>, Vec<Arc<Queue>>>,
    closed: bool,
}

/// What waits for one watcher.
struct Queue {
    waiting: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    /// Everything up to here is in the queue or was delivered.
    progress: Revision,
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    TooSlow,
    Closed,
}

/// Locks what a panic can't leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(crate) fn new(state: State, backlog: usize) -> Self {
        Self { published: ArcSwap::from_pointee(state), watchers: Mutex::default(), backlog }
    }

    /// The newest published state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.published.load_full()
    }

    /// Makes a state visible and tells the events that led to it.
    pub(crate) fn publish(&self, state: State, events: &[Arc<Event>]) {
        let mut watchers = lock(&self.watchers);
        self.published.store(Arc::new(state));
        if !events.is_empty() {
            watchers.by_prefix.retain(|prefix, queues| {
                tell(prefix, queues, events, self.backlog);
                !queues.is_empty()
            });
        }
    }

    /// Goes on from a state that is not what the events told so far lead to: all watchers are let go, and list again.
    pub(crate) fn restart(&self, state: State) {
        let mut watchers = lock(&self.watchers);
        self.published.store(Arc::new(state));
        for queue in std::mem::take(&mut watchers.by_prefix).into_values().flatten() {
            queue.end(End::TooSlow);
        }
    }

    /// Tells all watchers how far they are. False when there are none.
    pub(crate) fn tell_progress(&self) -> bool {
        let watchers = lock(&self.watchers);
        let revision = self.state().revision();
        for queue in watchers.by_prefix.values().flatten() {
            lock(&queue.waiting).progress = revision;
            queue.ready.notify_one();
        }
        !watchers.by_prefix.is_empty()
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut watchers = lock(&self.watchers);
        watchers.closed = true;
        for queue in std::mem::take(&mut watchers.by_prefix).into_values().flatten() {
            queue.end(End::Closed);
        }
    }

    /// Begins a watch.
    pub(crate) fn subscribe(self: Arc<Self>, prefix: &str, after: Revision) -> Result<Subscription, WatchError> {
        let prefix: Arc<str> = Arc::from(prefix);
        let mut watchers = lock(&self.watchers);
        if watchers.closed {
            return Err(WatchError::Closed);
        }
        let state = self.state();
        let past = state.events_after(after).map_err(|oldest| WatchError::Compacted { wanted: after, oldest })?;
        let waiting = Waiting { progress: state.revision(), ..Waiting::default() };
        let queue = Arc::new(Queue { waiting: Mutex::new(waiting), ready: Notify::new() });
        watchers.by_prefix.entry(Arc::clone(&prefix)).or_default().push(Arc::clone(&queue));
        drop(watchers);
        Ok(Subscription { hub: self, prefix, past, queue, seen: after, settled: false })
    }

    fn unsubscribe(&self, prefix: &str, queue: &Arc<Queue>) {
        let mut watchers = lock(&self.watchers);
        if let Some(queues) = watchers.by_prefix.get_mut(prefix) {
            queues.retain(|other| !Arc::ptr_eq(other, queue));
            if queues.is_empty() {
                watchers.by_prefix.remove(prefix);
            }
        }
    }
}

/// Queues what concerns a prefix; the watchers that are too far behind are let go.
fn tell(prefix: &str, queues: &mut Vec<Arc<Queue>>, events: &[Arc<Event>], backlog: usize) {
    let concerned: Vec<_> = events.iter().filter(|event| event.key.starts_with(prefix)).collect();
    if !concerned.is_empty() {
        queues.retain(|queue| queue.push(&concerned, backlog));
    }
}

impl Queue {
    /// False when the watcher fell too far behind, which ends it.
    fn push(&self, events: &[&Arc<Event>], backlog: usize) -> bool {
        let mut waiting = lock(&self.waiting);
        let fits = waiting.events.len() + events.len() <= backlog;
        if fits {
            waiting.events.extend(events.iter().copied().cloned());
            drop(waiting);
            self.ready.notify_one();
        } else {
            drop(waiting);
            self.end(End::TooSlow);
        }
        fits
    }

    /// A watcher that was too slow gets nothing more; one whose store closes gets what was published.
    fn end(&self, end: End) {
        let mut waiting = lock(&self.waiting);
        if matches!(end, End::TooSlow) {
            waiting.events = VecDeque::new();
        }
        waiting.end = Some(end);
        self.ready.notify_one();
    }
}

/// A watch.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    prefix: Arc<str>,
    /// What happened before the watch began and is still to be delivered.
    past: Vector<Arc<Event>>,
    /// What has happened since.
    queue: Arc<Queue>,
    /// Everything up to here has been delivered.
    seen: Revision,
    /// Whether the watcher knows that it has seen the past.
    settled: bool,
}

impl Subscription {
    fn concerns(&self, event: &Event) -> bool {
        event.revision > self.seen && event.key.starts_with(&*self.prefix)
    }

    /// The next event of the past.
    async fn next_past(&mut self) -> Option<Arc<Event>> {
        let mut looked = 0;
        while let Some(event) = self.past.pop_front() {
            if self.concerns(&event) {
                return Some(event);
            }
            looked += 1;
            if looked % STRETCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        None
    }

    /// What is there to deliver now, if anything.
    fn poll_queue(&mut self) -> Option<Result<WatchMessage, WatchError>> {
        let mut waiting = lock(&self.queue.waiting);
        while let Some(event) = waiting.events.pop_front() {
            if event.revision > self.seen {
                self.seen = event.revision;
                return Some(Ok(WatchMessage::Event(event)));
            }
        }
        if let Some(End::TooSlow) = waiting.end {
            return Some(Err(WatchError::TooSlow { seen: self.seen }));
        }
        if waiting.progress > self.seen || (!self.settled && waiting.progress == self.seen) {
            self.settled = true;
            self.seen = waiting.progress;
            return Some(Ok(WatchMessage::Progress(self.seen)));
        }
        waiting.end.map(|_| Err(WatchError::Closed))
    }
}

impl Watch for Subscription {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage, WatchError>> {
        async move {
            if let Some(event) = self.next_past().await {
                self.seen = event.revision;
                return Ok(WatchMessage::Event(event));
            }
            loop {
                if let Some(message) = self.poll_queue() {
                    return message;
                }
                self.queue.ready.notified().await;
            }
        }
        .boxed()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.prefix, &self.queue);
    }
}
