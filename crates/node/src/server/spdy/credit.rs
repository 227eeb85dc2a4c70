//! How much may be sent: windows, for those who keep them.
//!
//! Clients of Kubernetes don't: they never give credit, and what they can't take stays in the connection, which holds us back. Others say
//! by a setting that they will. Theirs are the only windows.

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// A window never has more room than this.
const MAX_WINDOW: usize = 0x7fff_ffff;

/// The room that is left in a window.
#[derive(Debug)]
pub(super) struct Credit {
    room: Semaphore,
    limited: bool,
    over: CancellationToken,
}

impl Credit {
    /// Room for so many bytes; without a limit, for any number.
    pub(super) fn new(limit: Option<u32>) -> Self {
        let room = limit.map_or(0, |limit| (limit as usize).min(MAX_WINDOW));
        Self { room: Semaphore::new(room), limited: limit.is_some(), over: CancellationToken::new() }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    /// Waits for the end.
    pub(super) async fn closed(&self) {
        self.over.cancelled().await;
    }

    /// Nobody wants anything any more.
    pub(super) fn close(&self) {
        self.room.close();
        self.over.cancel();
    }

    /// More room. False if it is more than there can be.
    pub(super) fn give(&self, bytes: u32) -> bool {
        let fits = self.room.available_permits() + bytes as usize <= MAX_WINDOW;
        if fits && self.limited {
            self.room.add_permits(bytes as usize);
        }
        fits
    }

    /// Takes room for some bytes, at most so many: how many there was room for. Waits for the first; `None` once it is closed.
    pub(super) async fn take(&self, wanted: usize) -> Option<usize> {
        if !self.limited {
            return (!self.is_closed()).then_some(wanted);
        }
        self.room.acquire().await.ok()?.forget();
        let more = u32::try_from(self.room.available_permits().min(wanted.saturating_sub(1))).unwrap_or(0);
        match self.room.try_acquire_many(more) {
            Ok(permits) => {
                permits.forget();
                Some(1 + more as usize)
            }
            // Another stream was faster.
            Err(_) => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_taken_than_was_given() {
        let credit = Credit::new(Some(10));
        assert_eq!(credit.take(4).await, Some(4));
        assert_eq!(credit.take(100).await, Some(6));
        let (taken, given) = tokio::join!(credit.take(100), async { credit.give(3) });
        assert_eq!((taken, given), (Some(3), true));
        assert!(!credit.give(u32::MAX));
        credit.close();
        assert_eq!(credit.take(1).await, None);
    }

    #[tokio::test]
    async fn without_windows_only_the_end_is_a_limit() {
        let credit = Credit::new(None);
        assert_eq!(credit.take(1 << 20).await, Some(1 << 20));
        credit.close();
        assert_eq!(credit.take(1).await, None);
    }
}
