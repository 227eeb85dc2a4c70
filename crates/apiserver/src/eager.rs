//! Connections that go on at once when they wake themselves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// How often a future is polled before others get their turn.
const TURNS: usize = 4;

const RESTS: u8 = 0;
const IS_POLLED: u8 = 1;
const WAS_WOKEN: u8 = 2;

/// A future that is polled again at once when it was woken while it was polled. A connection of hyper's wakes itself whenever a handler
/// begins to read the body of its request. A scheduler takes that for a task that steps back behind others: it wakes another thread to
/// look for it, which takes the connection away from the caches that hold its request.
pub struct Eager<F> {
    future: Pin<Box<F>>,
    waking: Arc<Waking>,
}

struct Waking {
    state: AtomicU8,
    task: AtomicWaker,
}

impl<F> Eager<F> {
    pub fn new(future: F) -> Self {
        Self { future: Box::pin(future), waking: Arc::new(Waking { state: AtomicU8::new(RESTS), task: AtomicWaker::new() }) }
    }
}

impl<F: Future> Future for Eager<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.waking.task.register(context.waker());
        let waker = Waker::from(Arc::clone(&self.waking));
        for _ in 0..TURNS {
            self.waking.state.store(IS_POLLED, Ordering::SeqCst);
            if let Poll::Ready(output) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
            if self.waking.state.swap(RESTS, Ordering::SeqCst) == IS_POLLED {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Who polls looks before it rests.
        if self.state.compare_exchange(IS_POLLED, WAS_WOKEN, Ordering::SeqCst, Ordering::SeqCst) == Err(RESTS) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::channel::mpsc;
    use futures::{SinkExt, StreamExt};

    use super::*;

    /// How often a future is polled until it ends.
    async fn polls(future: impl Future<Output = ()>) -> usize {
        let (mut future, mut count) = (std::pin::pin!(future), 0);
        std::future::poll_fn(|context| {
            count += 1;
            future.as_mut().poll(context)
        })
        .await;
        count
    }

    /// Wakes itself so many times.
    async fn awake(times: usize) {
        let mut left = times;
        std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn who_wakes_itself_goes_on_at_once_but_not_for_ever() {
        assert_eq!(polls(awake(3)).await, 4);
        assert_eq!(polls(Eager::new(awake(3))).await, 1);
        assert_eq!(polls(Eager::new(awake(4 * TURNS))).await, 5);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_wake_of_another_thread_is_lost() {
        const MESSAGES: usize = 20_000;
        let received = Arc::new(AtomicUsize::new(0));
        let (mut to, from) = mpsc::channel::<usize>(1);
        let count = Arc::clone(&received);
        let receiver = tokio::spawn(Eager::new(from.for_each(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        })));
        for number in 0..MESSAGES {
            to.send(number).await.unwrap();
        }
        drop(to);
        receiver.await.unwrap();
        assert_eq!(received.load(Ordering::Relaxed), MESSAGES);
    }
}
