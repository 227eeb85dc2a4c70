//! The queue of keys that wait for a round.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Key, Outcome};

/// The first wait after a failure; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A key that is asked for again and again rests so many times longer, at most.
const MOST_RESTS: u32 = 20;

/// A set of keys, each of which waits, is worked on, or both. First come, first served; nothing on the way from
/// [`WorkQueue::add`] to a worker waits for a timer.
#[derive(Debug)]
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    /// A key is ready, or the queue was closed.
    ready: Notify,
    /// The earliest delay has changed, or the queue was closed.
    timing: Notify,
}

#[derive(Debug)]
struct State<K> {
    /// Every key that is not at rest.
    keys: HashMap<K, Slot>,
    ready: VecDeque<K>,
    /// Keys by the time they become ready. The number makes the times unique.
    delayed: BTreeMap<(Instant, u64), K>,
    delays: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Slot {
    phase: Phase,
    /// Failed rounds since the last good one.
    failures: u32,
    /// Rests one after the other.
    rests: u32,
    /// When to work on it after its rest, though nothing may have asked for it by then.
    recheck: Option<Instant>,
    delay: Option<(Instant, u64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Ready,
    Working,
    /// Worked on, and to be worked on again: it was added meanwhile.
    WorkingAgain,
    /// Not given out before its delay has passed.
    Resting,
    /// The same, and then to be worked on: it was added meanwhile.
    RestingAgain,
}

/// How the work on a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Done(Outcome),
    Failed,
}

impl<K> Default for WorkQueue<K> {
    fn default() -> Self {
        let state = State { keys: HashMap::new(), ready: VecDeque::new(), delayed: BTreeMap::new(), delays: 0, closed: false };
        Self { state: Mutex::new(state), ready: Notify::new(), timing: Notify::new() }
    }
}

impl<K: Key> WorkQueue<K> {
    /// Makes a key ready, unless it is already. If it is being worked on, it will be ready again after that.
    pub fn add(&self, key: K) {
        if self.state().make_ready(key) {
            self.ready.notify_one();
        }
    }

    /// The next key to work on; `None` once the queue is closed. To be followed by [`WorkQueue::finish`]. Cancel-safe.
    pub(super) async fn next(&self) -> Option<K> {
        loop {
            {
                let mut state = self.state();
                if state.closed {
                    self.ready.notify_one();
                    return None;
                }
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        // Wakes were merged; pass one on.
                        self.ready.notify_one();
                    }
                    return Some(key);
                }
            }
            self.ready.notified().await;
        }
    }

    /// Ends the work on a key.
    pub(super) fn finish(&self, key: K, finish: Finish) {
        let mut state = self.state();
        let (ready, delayed) = state.finish(key, finish);
        drop(state);
        if ready {
            self.ready.notify_one();
        }
        if delayed {
            self.timing.notify_one();
        }
    }

    /// Moves keys whose delay has passed, until the queue is closed.
    pub(super) async fn keep_time(&self) {
        loop {
            let (any, next) = {
                let mut state = self.state();
                if state.closed {
                    return;
                }
                (state.release_due(Instant::now()), state.delayed.keys().next().map(|(at, _)| *at))
            };
            if any {
                self.ready.notify_one();
            }
            match next {
                Some(at) => drop(tokio::time::timeout_at(at, self.timing.notified()).await),
                None => self.timing.notified().await,
            }
        }
    }

    /// Gives out no more keys.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.ready.notify_one();
        self.timing.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Key> State<K> {
    /// Whether the key has become ready by this.
    fn make_ready(&mut self, key: K) -> bool {
        let slot = self.keys.entry(key.clone()).or_default();
        match slot.phase {
            Phase::Idle => {
                slot.phase = Phase::Ready;
                self.ready.push_back(key);
                true
            }
            Phase::Working => {
                slot.phase = Phase::WorkingAgain;
                false
            }
            Phase::Resting => {
                slot.phase = Phase::RestingAgain;
                false
            }
            Phase::Ready | Phase::WorkingAgain | Phase::RestingAgain => false,
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        if let Some(slot) = self.keys.get_mut(&key) {
            slot.phase = Phase::Working;
        }
        Some(key)
    }

    /// Whether the key has become ready, and whether a delay has been set.
    fn finish(&mut self, key: K, finish: Finish) -> (bool, bool) {
        self.clear_delay(&key);
        let Entry::Occupied(mut entry) = self.keys.entry(key.clone()) else { return (false, false) };
        let slot = entry.get_mut();
        let again = slot.phase == Phase::WorkingAgain;
        slot.phase = Phase::Idle;
        let delay = match finish {
            Finish::Done(Outcome { recheck_after, rest: Some(rest) }) => {
                let rest = slot.rest(rest, recheck_after, again);
                self.delay(key, rest);
                return (false, true);
            }
            Finish::Done(Outcome { recheck_after, rest: None }) => {
                (slot.failures, slot.rests) = (0, 0);
                recheck_after
            }
            Finish::Failed => {
                slot.failures = slot.failures.saturating_add(1);
                Some(backoff(slot.failures))
            }
        };
        match delay {
            _ if again => return (self.make_ready(key), false),
            Some(delay) => self.delay(key, delay),
            None => drop(entry.remove()),
        }
        (false, delay.is_some())
    }

    /// The key has no delay yet.
    fn delay(&mut self, key: K, delay: Duration) {
        let Some(at) = Instant::now().checked_add(delay) else { return };
        self.delays += 1;
        let place = (at, self.delays);
        self.keys.entry(key.clone()).or_default().delay = Some(place);
        self.delayed.insert(place, key);
    }

    fn clear_delay(&mut self, key: &K) {
        if let Some(place) = self.keys.get_mut(key).and_then(|slot| slot.delay.take()) {
            self.delayed.remove(&place);
        }
    }

    /// Whether any key has become ready.
    fn release_due(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = entry.remove();
            any |= self.release(key, now);
        }
        any
    }

    /// Whether the key, whose delay has passed, has become ready.
    fn release(&mut self, key: K, now: Instant) -> bool {
        let Entry::Occupied(mut entry) = self.keys.entry(key.clone()) else { return false };
        let slot = entry.get_mut();
        slot.delay = None;
        let phase = std::mem::take(&mut slot.phase);
        match (phase, slot.recheck.take()) {
            (Phase::Resting, None) => {
                entry.remove();
                return false;
            }
            (Phase::Resting, Some(at)) if at > now => {
                slot.rests = 0;
                self.delay(key, at - now);
                return false;
            }
            (Phase::Resting | Phase::RestingAgain, _) => {}
            (other, _) => slot.phase = other,
        }
        self.make_ready(key)
    }
}

impl Slot {
    /// Begins a rest, and says how long it is: longer each time, while the key is asked for without a pause.
    fn rest(&mut self, rest: Duration, recheck_after: Option<Duration>, again: bool) -> Duration {
        self.failures = 0;
        self.rests = (self.rests + 1).min(MOST_RESTS);
        self.recheck = recheck_after.and_then(|delay| Instant::now().checked_add(delay));
        self.phase = if again { Phase::RestingAgain } else { Phase::Resting };
        rest.saturating_mul(self.rests)
    }
}

/// 5, 10, 20 ... milliseconds, at most half a minute.
fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn next(queue: &WorkQueue<String>) -> Option<String> {
        queue.next().now_or_never().flatten()
    }

    fn add(queue: &WorkQueue<String>, key: &str) {
        queue.add(key.to_owned());
    }

    const DONE: Finish = Finish::Done(Outcome::done());

    /// Longer than any test stands still.
    const UNIT: Duration = Duration::from_secs(1000);

    /// A round after which the key rests.
    const COSTLY: Finish = Finish::Done(Outcome::done().and_rest(UNIT));

    fn in_units(units: u32) -> Instant {
        Instant::now() + UNIT * units
    }

    #[test]
    fn a_key_added_twice_is_given_out_once() {
        let queue = WorkQueue::default();
        ["a", "b", "a"].into_iter().for_each(|key| add(&queue, key));
        assert_eq!([next(&queue), next(&queue), next(&queue)], [Some("a".into()), Some("b".into()), None]);
    }

    #[test]
    fn a_key_added_during_its_work_is_given_out_again_only_after_it() {
        let queue = WorkQueue::default();
        add(&queue, "a");
        assert_eq!(next(&queue).as_deref(), Some("a"));
        add(&queue, "a");
        add(&queue, "a");
        assert_eq!(next(&queue), None);
        queue.finish("a".into(), DONE);
        assert_eq!(next(&queue).as_deref(), Some("a"));
        queue.finish("a".into(), DONE);
        assert_eq!(next(&queue), None);
    }

    #[test]
    fn a_key_at_rest_takes_no_memory() {
        let queue = WorkQueue::default();
        add(&queue, "a");
        let key = next(&queue).unwrap();
        queue.finish(key, DONE);
        assert!(queue.state().keys.is_empty() && queue.state().delayed.is_empty());
    }

    #[test]
    fn a_failed_key_waits_longer_each_time_within_bounds() {
        let waits: Vec<_> = (1..40).map(backoff).collect();
        assert_eq!(waits[..3], [5, 10, 20].map(Duration::from_millis));
        assert!(waits.is_sorted() && waits[38] == LONGEST_BACKOFF);
    }

    #[test]
    fn who_asks_early_does_not_wait_and_a_finished_round_sets_the_delay_anew() {
        let queue = WorkQueue::default();
        add(&queue, "a");
        for units in [1, 60] {
            let key = next(&queue).unwrap();
            queue.finish(key, Finish::Done(Outcome::recheck_after(UNIT * units)));
            add(&queue, "a");
        }
        let key = next(&queue).unwrap();
        queue.finish(key, Finish::Done(Outcome::recheck_after(UNIT * 60)));
        assert_eq!(queue.state().delayed.len(), 1);
        assert!(!queue.state().release_due(in_units(5)) && queue.state().release_due(in_units(60)));
    }

    #[test]
    fn a_key_that_rests_is_given_out_once_for_all_that_asked_for_it() {
        let queue = WorkQueue::default();
        add(&queue, "a");
        let key = next(&queue).unwrap();
        queue.finish(key, COSTLY);
        add(&queue, "a");
        add(&queue, "a");
        assert_eq!(next(&queue), None);
        assert!(queue.state().release_due(in_units(2)));
        assert_eq!([next(&queue), next(&queue)], [Some("a".into()), None]);
    }

    #[test]
    fn each_rest_is_longer_until_a_round_without_one() {
        let queue = WorkQueue::default();
        add(&queue, "a");
        for rest in [1, 2, 3] {
            let key = next(&queue).unwrap();
            queue.finish(key, COSTLY);
            add(&queue, "a");
            assert!(!queue.state().release_due(in_units(rest - 1)) && queue.state().release_due(in_units(rest)));
        }
        let key = next(&queue).unwrap();
        add(&queue, "a");
        queue.finish(key, DONE);
        let key = next(&queue).unwrap();
        queue.finish(key, COSTLY);
        add(&queue, "a");
        assert!(queue.state().release_due(in_units(1)));
    }

    #[test]
    fn a_key_that_nobody_asked_for_while_it_rested_is_forgotten_or_looked_at_when_it_said() {
        let queue = WorkQueue::default();
        add(&queue, "a");
        let key = next(&queue).unwrap();
        queue.finish(key, COSTLY);
        assert!(!queue.state().release_due(in_units(2)) && queue.state().keys.is_empty());
        add(&queue, "b");
        let key = next(&queue).unwrap();
        queue.finish(key, Finish::Done(Outcome::recheck_after(UNIT * 60).and_rest(UNIT)));
        assert!(!queue.state().release_due(in_units(2)) && !queue.state().release_due(in_units(31)));
        assert!(queue.state().release_due(in_units(61)));
        assert_eq!(next(&queue).as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn a_delayed_key_becomes_ready_by_itself() {
        let queue = WorkQueue::default();
        add(&queue, "a");
        let key = next(&queue).unwrap();
        queue.finish(key, Finish::Done(Outcome::recheck_after(Duration::from_millis(2))));
        tokio::select! {
            () = queue.keep_time() => unreachable!("the queue is open"),
            key = queue.next() => assert_eq!(key.as_deref(), Some("a")),
        }
    }

    #[tokio::test]
    async fn a_closed_queue_ends_all_waits() {
        let queue = WorkQueue::<String>::default();
        let close = async { queue.close() };
        let (first, second, (), ()) = tokio::join!(queue.next(), queue.next(), queue.keep_time(), close);
        assert_eq!((first, second), (None, None));
    }
}
