//! What is to be looked at, and when. Only the agent's task reads and writes it.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

const FIRST_RETRY: Duration = Duration::from_millis(10);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Keys that wait, each once, in their order; a key that is busy waits until it is finished.
#[derive(Debug)]
pub(super) struct Queue<K> {
    /// Every key that is not at rest.
    slots: HashMap<K, Slot>,
    ready: VecDeque<K>,
    /// Keys by the time they become ready. The number makes the times unique.
    timed: BTreeMap<(Instant, u64), K>,
    timers: u64,
}

#[derive(Debug, Default)]
struct Slot {
    phase: Phase,
    /// Since the last success.
    failures: u32,
    timer: Option<(Instant, u64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Waits for its time, if it has one.
    #[default]
    Resting,
    Ready,
    Busy,
    /// Busy, and added meanwhile.
    BusyAgain,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { slots: HashMap::new(), ready: VecDeque::new(), timed: BTreeMap::new(), timers: 0 }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Makes a key ready; one that is busy becomes so when it is finished.
    pub(super) fn add(&mut self, key: K) {
        let slot = self.slots.entry(key.clone()).or_default();
        match slot.phase {
            Phase::Resting => {
                slot.phase = Phase::Ready;
                self.ready.push_back(key);
            }
            Phase::Busy => slot.phase = Phase::BusyAgain,
            Phase::Ready | Phase::BusyAgain => {}
        }
    }

    /// The next key, which is busy from now on.
    pub(super) fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        let slot = self.slots.entry(key.clone()).or_default();
        slot.phase = Phase::Busy;
        if let Some(timer) = slot.timer.take() {
            self.timed.remove(&timer);
        }
        Some(key)
    }

    /// A busy key has come to its end; it is to be looked at again after this time, if any.
    pub(super) fn succeeded(&mut self, key: K, again_after: Option<Duration>) {
        self.finish(key, 0, again_after);
    }

    /// A busy key is to be tried again, later each time.
    pub(super) fn failed(&mut self, key: K) {
        let failures = self.slots.get(&key).map_or(0, |slot| slot.failures).saturating_add(1);
        self.finish(key, failures, Some(backoff(failures)));
    }

    /// When the next key becomes ready by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        self.timed.keys().next().map(|(at, _)| *at)
    }

    /// Makes keys ready whose time has come.
    pub(super) fn release(&mut self, now: Instant) {
        while let Some(first) = self.timed.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = first.remove();
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.timer = None;
            }
            self.add(key);
        }
    }

    fn finish(&mut self, key: K, failures: u32, again_after: Option<Duration>) {
        let Entry::Occupied(mut entry) = self.slots.entry(key.clone()) else { return };
        let slot = entry.get_mut();
        slot.failures = failures;
        let was = std::mem::take(&mut slot.phase);
        match again_after {
            // A failure is not forgotten for a change: a server in distress is not asked more often.
            _ if was == Phase::BusyAgain && failures == 0 => self.add(key),
            Some(delay) => {
                self.timers += 1;
                let timer = (Instant::now() + delay, self.timers);
                slot.timer = Some(timer);
                self.timed.insert(timer, key);
            }
            None => drop(entry.remove()),
        }
    }
}

/// 10, 20, 40 ... milliseconds, within bounds.
fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_given_out_once_and_again_if_it_was_added_meanwhile() {
        let mut queue = Queue::default();
        ["a", "b", "a"].into_iter().for_each(|key| queue.add(key));
        assert_eq!([queue.take(), queue.take(), queue.take()], [Some("a"), Some("b"), None]);
        queue.add("a");
        assert_eq!(queue.take(), None);
        queue.succeeded("a", None);
        assert_eq!(queue.take(), Some("a"));
    }

    #[tokio::test]
    async fn a_failed_key_waits_longer_each_time_within_bounds_though_it_changes() {
        let mut queue = Queue::default();
        queue.add("a");
        queue.take();
        queue.add("a");
        queue.failed("a");
        assert_eq!(queue.take(), None);
        queue.release(queue.due().unwrap());
        assert_eq!((queue.take(), queue.due()), (Some("a"), None));
        assert_eq!([1, 2, 3].map(backoff), [10, 20, 40].map(Duration::from_millis));
        assert_eq!(backoff(u32::MAX), LONGEST_RETRY);
    }

    #[tokio::test]
    async fn a_key_is_looked_at_early_if_it_changes_and_then_its_time_is_void() {
        let mut queue = Queue::default();
        queue.add("a");
        queue.take();
        queue.succeeded("a", Some(Duration::from_secs(9)));
        queue.add("a");
        assert_eq!((queue.take(), queue.due()), (Some("a"), None));
    }

    #[tokio::test]
    async fn a_key_at_rest_takes_no_memory() {
        let mut queue = Queue::default();
        queue.add("a");
        queue.take();
        queue.succeeded("a", None);
        assert!(queue.slots.is_empty() && queue.timed.is_empty() && queue.ready.is_empty());
    }
}
