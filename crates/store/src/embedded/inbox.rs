//! The writer's inbox: requests wait here while the ones before them go to disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::{Change, CommitError, Event, Expected, Guard, ReadError, Revision};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Request {
    Commit {
        key: Arc<str>,
        expected: Expected,
        change: Change,
        guards: Vec<Guard>,
        reply: oneshot::Sender<Result<Arc<Event>, CommitError>>,
    },
    Compact {
        before: Revision,
        reply: oneshot::Sender<Result<(), ReadError>>,
    },
}

/// Why the writer wakes.
#[derive(Debug)]
pub(super) enum Wake {
    /// All requests that have come in.
    Requests(Vec<Request>),
    /// The deadline has passed.
    Due,
    /// The store is being dropped and nothing waits any more.
    Closed,
}

/// Bounded by the permits that senders hold while they wait for the answer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    requests: Vec<Request>,
    closed: bool,
}

impl Inbox {
    // A panic can't leave the queue half changed.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a request for the writer. When it is gone the request is dropped, which the asker notices.
    pub(super) fn send(&self, request: Request) {
        {
            let mut queue = self.lock();
            if queue.closed {
                return;
            }
            queue.requests.push(request);
        }
        // Without the lock, which the writer needs as soon as it wakes.
        self.arrived.notify_one();
    }

    /// No further requests.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// No further requests, and none of those that wait.
    pub(super) fn abandon(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.requests.clear();
    }

    /// Waits until there is something to do.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Wake {
        let mut queue = self.lock();
        loop {
            if !queue.requests.is_empty() {
                return Wake::Requests(std::mem::take(&mut queue.requests));
            }
            if queue.closed {
                return Wake::Closed;
            }
            queue = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Wake::Due,
                Some(left) => self.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}
