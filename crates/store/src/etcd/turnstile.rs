//! Many who want the same answer: those who come while it is asked for share the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::message::Number;

/// The answer, or why there is none.
pub(super) type Answer = Result<Number, Arc<str>>;

/// Shares answers. One question is under way at a time, and each caller gets the answer to one that was asked after it came.
pub(super) struct Turnstile {
    came: AtomicU64,
    /// How many had come before the last question was asked, and its answer.
    last: Mutex<(u64, Answer)>,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self { came: AtomicU64::new(0), last: Mutex::new((0, Ok(0))) }
    }
}

impl Turnstile {
    /// Asks, unless it was asked since this call began.
    pub(super) async fn pass(&self, ask: impl Future<Output = Answer>) -> Answer {
        let own = self.came.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.0 <= own {
            let covered = self.came.load(Ordering::SeqCst);
            *last = (covered, ask.await);
        }
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_share_an_answer_that_is_newer_than_they() {
        let (turnstile, asked) = (Turnstile::default(), AtomicU64::new(0));
        let ask = || async {
            let answer = asked.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::task::yield_now().await;
            Ok(answer)
        };
        let answers = join_all((0..10).map(|_| turnstile.pass(ask()))).await;
        // The first asks alone; the others came before its question was answered, but after it was asked, or with it.
        assert!(answers.iter().all(Result::is_ok));
        assert!(asked.load(Ordering::SeqCst) <= 2, "{answers:?}");
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(turnstile.pass(ask()).await, Ok(before + 1));
    }
}
