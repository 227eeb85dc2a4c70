//! Where controllers take the time from.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The time as controllers see it. Planners get it as an argument; only shells ask.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    Wall,
    /// A clock that moves with the time of the async runtime, which a simulation may pause and turn forward.
    Runtime { start: Timestamp, at: Instant },
}

impl Clock {
    /// A clock that shows `start` now and then moves with the async runtime.
    pub fn runtime(start: Timestamp) -> Self {
        Self::Runtime { start, at: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Wall => Timestamp::now(),
            Self::Runtime { start, at } => {
                let since = SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::MAX);
                start.saturating_add(since).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// How long it is until `then`; nothing if that has passed.
    pub fn until(&self, then: Timestamp) -> std::time::Duration {
        std::time::Duration::try_from(then.duration_since(self.now())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_is_due_at_once() {
        assert_eq!(Clock::Wall.until(Timestamp::UNIX_EPOCH), std::time::Duration::ZERO);
        assert!(!Clock::Wall.until(Timestamp::MAX).is_zero());
    }
}
