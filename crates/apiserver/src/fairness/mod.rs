//! Room for requests. Who is served next is decided in [`plan::fairness`]; here requests wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plan::fairness::{Arrival, Desk, Flow, Level, Refusal, Ticket};
use tokio::sync::oneshot;

use crate::config::Limits;
use crate::error::ApiError;

mod classify;
mod tally;
mod width;

pub use classify::flow;
pub use tally::{BOUNDS as TALLY_BOUNDS, Tally};
pub use width::of_call as width;

/// After how many seconds who is refused may come again.
const COME_AGAIN: i32 = 1;

/// Why a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    QueueFull,
    NoSeat,
    TimedOut,
}

impl Rejection {
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::NoSeat, Self::TimedOut];

    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::NoSeat => "concurrency-limit",
            Self::TimedOut => "time-out",
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSeat => Self::NoSeat,
            Refusal::QueueFull => Self::QueueFull,
        }
    }
}

impl From<Rejection> for ApiError {
    fn from(_: Rejection) -> Self {
        Self::TooManyRequests {
            message: "the server has received too many requests and has asked us to try again later".to_owned(),
            retry_after_seconds: COME_AGAIN,
        }
    }
}

/// The seats of a server, by what they are for.
#[derive(Debug)]
pub struct Gate {
    pub reading: Arc<Pool>,
    pub mutating: Arc<Pool>,
    /// Watches and streams: nobody waits for these, as nobody knows when one ends.
    pub long: Arc<Pool>,
}

impl Gate {
    /// Free seats.
    pub fn new(limits: &Limits) -> Self {
        let pool = |seats: u32| Pool::new(Desk::new(seats, |level| level.bounds(seats)), limits.patience);
        let long = Desk::new(limits.streams, |level| level.bounds_without_waiting(limits.streams));
        Self { reading: pool(limits.reading), mutating: pool(limits.mutating), long: Pool::new(long, limits.patience) }
    }

    /// The pools by the kind of requests they are for, as metrics name it.
    pub fn pools(&self) -> [(&'static str, &Pool); 3] {
        [("readOnly", &self.reading), ("mutating", &self.mutating), ("longRunning", &self.long)]
    }
}

/// Seats of one kind.
#[derive(Debug)]
pub struct Pool {
    state: Mutex<State>,
    /// How long a request waits.
    patience: Duration,
}

#[derive(Debug)]
struct State {
    desk: Desk,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    serial: u64,
    tallies: [Tally; Level::ALL.len()],
}

impl State {
    fn wake(&mut self, begun: Vec<Ticket>) {
        for ticket in begun {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                // Who is gone by now gives the seat back when their place is dropped.
                let _ = waiting.send(());
            }
        }
    }
}

impl Pool {
    fn new(desk: Desk, patience: Duration) -> Arc<Self> {
        let state = State { desk, waiting: HashMap::new(), serial: 0, tallies: Default::default() };
        Arc::new(Self { state: Mutex::new(state), patience })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seats for a request, as soon as it is its turn.
    pub async fn enter(self: &Arc<Self>, flow: Flow, seats: u32) -> Result<Seat, Rejection> {
        let (level, since) = (flow.level as usize, Instant::now());
        let mut place = Place { pool: Arc::clone(self), flow, seats, ticket: Ticket(0), is_over: true };
        let entered = match self.arrive(&mut place) {
            Ok(None) => Ok(()),
            Err(refusal) => Err(refusal.into()),
            Ok(Some(turn)) => match tokio::time::timeout(self.patience, turn).await {
                Ok(Ok(())) => Ok(()),
                _ => Err(Rejection::TimedOut),
            },
        };
        self.state().tallies[level].add(entered.err(), since.elapsed());
        entered.map(|()| place.seat())
    }

    /// `None` if the request begins at once.
    fn arrive(&self, place: &mut Place) -> Result<Option<oneshot::Receiver<()>>, Refusal> {
        let mut state = self.state();
        state.serial += 1;
        place.ticket = Ticket(state.serial);
        let arrival = state.desk.arrive(&place.flow, place.ticket, place.seats);
        place.is_over = matches!(arrival, Arrival::Refused(_));
        match arrival {
            Arrival::Begins => Ok(None),
            Arrival::Refused(refusal) => Err(refusal),
            Arrival::Waits => {
                let (sender, turn) = oneshot::channel();
                state.waiting.insert(place.ticket, sender);
                Ok(Some(turn))
            }
        }
    }

    /// What is to be told of each level: seats it may have, what of them is taken, and what has been counted.
    pub fn tell(&self, mut told: impl FnMut(Level, u32, plan::fairness::Occupancy, &Tally)) {
        let state = self.state();
        for level in Level::ALL {
            told(level, state.desk.limit(level), state.desk.occupancy(level), &state.tallies[level as usize]);
        }
    }
}

/// A request that waits, or whose turn it is.
struct Place {
    pool: Arc<Pool>,
    flow: Flow,
    seats: u32,
    ticket: Ticket,
    /// Whether there is nothing to give back.
    is_over: bool,
}

impl Place {
    fn seat(mut self) -> Seat {
        self.is_over = true;
        Seat { pool: Arc::clone(&self.pool), flow: self.flow.clone(), seats: self.seats }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.pool.state();
        state.waiting.remove(&self.ticket);
        let begun = state.desk.withdraw(&self.flow, self.ticket);
        let begun = begun.unwrap_or_else(|| state.desk.leave(&self.flow, self.seats));
        state.wake(begun);
    }
}

/// The right to be served, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    pool: Arc<Pool>,
    flow: Flow,
    seats: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        let begun = state.desk.leave(&self.flow, self.seats);
        state.wake(begun);
    }
}

#[cfg(test)]
mod tests;
