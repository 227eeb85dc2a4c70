//! How long to wait before a server that failed is asked again.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(5);
/// After so long without a failure, the next one is retried at once again.
const QUIET: Duration = Duration::from_secs(30);

/// A single failure, such as an expired watch, costs milliseconds; a server that keeps failing is asked less and less. A good
/// answer alone proves nothing: its list may work while its watch doesn't.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    failures: u32,
    failed: Option<Instant>,
}

impl Retry {
    /// The wait after one more failure.
    pub(crate) fn delay(&mut self) -> Duration {
        let now = Instant::now();
        if self.failed.is_none_or(|failed| now.duration_since(failed) > QUIET) {
            self.failures = 0;
        }
        self.failed = Some(now);
        let delay = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_keeps_failing_is_asked_less_and_less() {
        let mut retry = Retry::default();
        let waits: Vec<_> = std::iter::repeat_with(|| retry.delay()).take(20).collect();
        assert!(waits[0] == FIRST && waits.is_sorted() && waits[19] == LONGEST);
    }
}
