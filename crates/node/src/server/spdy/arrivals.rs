//! What a client has said and nobody has taken yet: so many bytes, in however many pieces they came.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, mpsc};

use super::frame::Frame;

/// What waits of a stream, in bytes. It is the window that the protocol gives to every sender: who keeps to it waits for nobody.
const LIMIT: usize = 64 << 10;

/// Where what arrives is put.
#[derive(Debug)]
pub(in crate::server) struct Arrivals(Arc<Queue>);

/// Where it is taken.
#[derive(Debug)]
pub(in crate::server) struct Input {
    queue: Arc<Queue>,
    account: Option<Account>,
    /// Taken, and not yet given credit for.
    owed: usize,
}

/// How a client that keeps windows is given credit.
#[derive(Debug)]
pub(super) struct Account {
    pub stream: u32,
    /// Does not keep the connection open.
    pub frames: mpsc::WeakSender<Bytes>,
    pub keeps_windows: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Queue {
    held: Mutex<Held>,
    filled: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Held {
    bytes: BytesMut,
    /// Nothing more arrives.
    complete: bool,
    /// Nobody takes it any more.
    unwanted: bool,
}

/// A queue without windows.
pub(in crate::server) fn queue() -> (Arrivals, Input) {
    begin(None)
}

/// A queue whose taker gives the client credit.
pub(super) fn accounted(account: Account) -> (Arrivals, Input) {
    begin(Some(account))
}

fn begin(account: Option<Account>) -> (Arrivals, Input) {
    let queue = Arc::<Queue>::default();
    (Arrivals(queue.clone()), Input { queue, account, owed: 0 })
}

impl Queue {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing can panic while it is held.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    /// Adds bytes; waits while there is no room for all. False if nobody wants them.
    pub(in crate::server) async fn add(&self, mut bytes: Bytes) -> bool {
        loop {
            {
                let mut held = self.0.held();
                if held.unwanted {
                    return false;
                }
                let room = bytes.len().min(LIMIT - held.bytes.len());
                held.bytes.extend_from_slice(&bytes.split_to(room));
            }
            self.0.filled.notify_one();
            if bytes.is_empty() {
                return true;
            }
            self.0.taken.notified().await;
        }
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.0.held().unwanted
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.0.held().complete = true;
        self.0.filled.notify_one();
    }
}

impl Input {
    /// All that has arrived meanwhile; `None` at the end. Who comes back for more has dealt with what it took: the client may say as
    /// much again. Nothing is lost if the wait is given up.
    pub(in crate::server) async fn next(&mut self) -> Option<Bytes> {
        self.settle().await;
        loop {
            {
                let mut held = self.queue.held();
                if !held.bytes.is_empty() {
                    self.owed = held.bytes.len();
                    let bytes = std::mem::take(&mut held.bytes).freeze();
                    self.queue.taken.notify_one();
                    return Some(bytes);
                }
                if held.complete {
                    return None;
                }
            }
            self.queue.filled.notified().await;
        }
    }

    async fn settle(&mut self) {
        let owed = u32::try_from(self.owed).unwrap_or(0);
        let account = self.account.as_ref().filter(|account| owed > 0 && account.keeps_windows.load(Ordering::Relaxed));
        if let Some(account) = account
            && let Some(frames) = account.frames.upgrade()
            && let Ok(place) = frames.reserve().await
        {
            place.send(Frame::Window { stream: account.stream, credit: owed }.encode().into());
        }
        self.owed = 0;
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let mut held = self.queue.held();
        held.unwanted = true;
        held.bytes = BytesMut::new();
        drop(held);
        self.queue.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_waits_than_the_limit_in_however_many_pieces() {
        let (arrivals, mut input) = queue();
        let much: Vec<u8> = (0..3 * LIMIT).map(|byte| (byte % 251) as u8).collect();
        let all = Bytes::from(much.clone());
        let adding = tokio::spawn(async move {
            for piece in all.chunks(100) {
                assert!(arrivals.add(Bytes::copy_from_slice(piece)).await);
            }
        });
        let mut taken = Vec::new();
        while let Some(bytes) = input.next().await {
            assert!(bytes.len() <= LIMIT);
            taken.extend_from_slice(&bytes);
        }
        adding.await.unwrap();
        assert!(taken == much);
    }

    #[tokio::test]
    async fn what_nobody_wants_waits_for_nobody() {
        let (arrivals, input) = queue();
        let full = async { arrivals.add(Bytes::from(vec![0; LIMIT + 1])).await };
        let (added, ()) = tokio::join!(full, async {
            assert_eq!(input.queue.held().bytes.len(), LIMIT);
            drop(input);
        });
        assert!(!added && arrivals.is_unwanted());
    }
}
