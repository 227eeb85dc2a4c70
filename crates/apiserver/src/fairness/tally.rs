//! What is counted of the requests of a level.

use std::time::Duration;

use super::Rejection;

/// Upper bounds of the classes of waiting times, in seconds: upstream's.
pub const BOUNDS: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0];

/// What is counted of the requests of a level.
#[derive(Debug, Default)]
pub struct Tally {
    /// Served ones.
    pub dispatched: u64,
    /// Others, by [`Rejection`].
    pub rejected: [u64; Rejection::ALL.len()],
    /// How many waited how long; the last class has no bound.
    pub classes: [u64; BOUNDS.len() + 1],
    pub waited: Duration,
}

impl Tally {
    pub(super) fn add(&mut self, rejection: Option<Rejection>, waited: Duration) {
        match rejection {
            None => self.dispatched += 1,
            Some(rejection) => self.rejected[rejection as usize] += 1,
        }
        let seconds = waited.as_secs_f64();
        self.classes[BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len())] += 1;
        self.waited += waited;
    }
}
