//! Who is served next when more ask than can be served at once.
//!
//! # Guarantees
//! * Seats are never more than there are, neither in all, nor of a level, nor of one client.
//! * Whoever has the fewest seats comes next, then whoever has waited longest: no client waits for all that another has sent.
//! * A request that needs many seats is not overtaken for ever by those that need one.
//! * All levels of users together have no more than the highest of them may have: the rest is kept for the system.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

mod level;

pub use level::{Bounds, Level};

/// A request that asks for seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Whose requests wait in one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    pub level: Level,
    pub client: Arc<str>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody may wait for this, and no seat is free.
    NoSeat,
    /// Too many wait already.
    QueueFull,
}

/// What becomes of a request that has just come.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    Begins,
    Waits,
    Refused(Refusal),
}

/// The requests of one client.
#[derive(Debug, Default)]
struct Line {
    taken: u32,
    /// Since when it is this line's turn.
    turn: u64,
    waiting: VecDeque<(Ticket, u32)>,
}

/// Where a line stands among those of its level: whoever has few seats first, then whoever waits longest.
type Place = (u32, u64, Arc<str>);

/// What a level has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    pub seats: u32,
    pub serving: usize,
    pub waiting: usize,
}

/// Who comes next of a level.
struct First {
    /// Seats that they have, and since when it is their turn.
    place: (u32, u64),
    flow: Flow,
    ticket: Ticket,
    /// Seats that they need.
    seats: u32,
}

/// Seats, who has them, and who waits for them.
#[derive(Debug)]
pub struct Desk {
    seats: u32,
    taken: u32,
    bounds: [Bounds; Level::ALL.len()],
    levels: [Occupancy; Level::ALL.len()],
    /// Who has seats or waits. Others are forgotten.
    lines: BTreeMap<Flow, Line>,
    /// Whose next request is within their own bound, by level.
    ready: [BTreeSet<Place>; Level::ALL.len()],
    turn: u64,
}

impl Desk {
    /// Free seats, and what each level may have of them.
    pub fn new(seats: u32, bounds: impl Fn(Level) -> Bounds) -> Self {
        let levels = Default::default();
        let ready = Default::default();
        Self { seats, taken: 0, bounds: Level::ALL.map(bounds), levels, lines: BTreeMap::new(), ready, turn: 0 }
    }

    /// A request comes. Others begin only when something ends, even if it comes before one that seats were kept for.
    pub fn arrive(&mut self, flow: &Flow, ticket: Ticket, seats: u32) -> Arrival {
        let seats = self.width(flow.level, seats);
        self.with(flow, |line| line.waiting.push_back((ticket, seats)));
        self.levels[flow.level as usize].waiting += 1;
        if let Some(first) = self.next().filter(|first| first.ticket == ticket) {
            self.begin(first);
            return Arrival::Begins;
        }
        let bounds = self.bounds[flow.level as usize];
        let in_line = self.lines.get(flow).map_or(0, |line| line.waiting.len());
        if in_line <= bounds.waiting_of_client && self.levels[flow.level as usize].waiting <= bounds.waiting {
            return Arrival::Waits;
        }
        self.forget(flow, ticket);
        Arrival::Refused(if bounds.waiting == 0 { Refusal::NoSeat } else { Refusal::QueueFull })
    }

    /// A request that was served ends; these begin.
    pub fn leave(&mut self, flow: &Flow, seats: u32) -> Vec<Ticket> {
        let seats = self.width(flow.level, seats);
        self.taken -= seats;
        let level = &mut self.levels[flow.level as usize];
        (level.seats, level.serving) = (level.seats - seats, level.serving - 1);
        self.with(flow, |line| line.taken -= seats);
        self.begin_all()
    }

    /// A request no longer waits; these begin. `None` if it does not wait: it has begun.
    pub fn withdraw(&mut self, flow: &Flow, ticket: Ticket) -> Option<Vec<Ticket>> {
        self.lines.get(flow)?.waiting.iter().find(|(own, _)| *own == ticket)?;
        self.forget(flow, ticket);
        Some(self.begin_all())
    }

    /// How much of a level is taken.
    pub fn occupancy(&self, level: Level) -> Occupancy {
        self.levels[level as usize]
    }

    /// How many seats a level may have.
    pub fn limit(&self, level: Level) -> u32 {
        self.bounds[level as usize].seats
    }

    fn forget(&mut self, flow: &Flow, ticket: Ticket) {
        self.with(flow, |line| line.waiting.retain(|(own, _)| *own != ticket));
        self.levels[flow.level as usize].waiting -= 1;
    }

    /// Nobody needs more than they may have.
    fn width(&self, level: Level, seats: u32) -> u32 {
        seats.clamp(1, self.bounds[level as usize].seats_of_client)
    }

    /// Changes a line, and its place among the others with it.
    fn with(&mut self, flow: &Flow, change: impl FnOnce(&mut Line)) {
        let (level, client) = (flow.level as usize, Arc::clone(&flow.client));
        self.turn += 1;
        let line = self.lines.entry(flow.clone()).or_insert_with(|| Line { turn: self.turn, ..Line::default() });
        self.ready[level].remove(&(line.taken, line.turn, Arc::clone(&client)));
        change(line);
        let most = self.bounds[level].seats_of_client;
        match line.waiting.front() {
            Some((_, seats)) if line.taken + seats <= most => drop(self.ready[level].insert((line.taken, line.turn, client))),
            None if line.taken == 0 => drop(self.lines.remove(flow)),
            _ => {}
        }
    }

    /// Everyone who can begin, in order.
    fn begin_all(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| self.next().map(|first| self.begin(first))).collect()
    }

    fn begin(&mut self, first: First) -> Ticket {
        let First { flow, ticket, seats, .. } = first;
        self.taken += seats;
        let level = &mut self.levels[flow.level as usize];
        *level = Occupancy { seats: level.seats + seats, serving: level.serving + 1, waiting: level.waiting - 1 };
        let turn = self.turn + 1;
        self.with(&flow, |line| {
            line.waiting.pop_front();
            (line.taken, line.turn) = (line.taken + seats, turn);
        });
        ticket
    }

    /// Whose turn it is of those whose bounds allow it. `None` if that is nobody, or what is free is kept for them.
    fn next(&self) -> Option<First> {
        let [system, users @ ..] = Level::ALL.map(|level| self.first(level));
        let users = users.into_iter().flatten().min_by_key(|first| first.place);
        // What is free of the users' part is kept for whoever of them comes next, whatever the others need.
        let users = users.filter(|first| self.taken_by_users() + first.seats <= self.limit(Level::WorkloadHigh));
        let first = system.into_iter().chain(users).min_by_key(|first| first.place)?;
        (self.taken + first.seats <= self.seats).then_some(first)
    }

    /// Who comes next of a level, if its bound allows it.
    fn first(&self, level: Level) -> Option<First> {
        let (taken, turn, client) = self.ready[level as usize].first()?;
        let flow = Flow { level, client: Arc::clone(client) };
        let (ticket, seats) = *self.lines.get(&flow)?.waiting.front()?;
        let fits = self.occupancy(level).seats + seats <= self.limit(level);
        fits.then_some(First { place: (*taken, *turn), flow, ticket, seats })
    }

    fn taken_by_users(&self) -> u32 {
        self.taken - self.occupancy(Level::System).seats
    }
}

#[cfg(test)]
mod tests;
