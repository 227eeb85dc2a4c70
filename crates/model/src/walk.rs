//! A random way through what is too large to be visited whole.

use crate::configuration::random;
use crate::controller::{Controller, Planner};
use crate::event::{Event, possible};
use crate::failure::Failure;
use crate::happen::happen;
use crate::settle::Settling;
use crate::state::State;

/// How long a walk is.
const STEPS: usize = 90;
/// After so many steps it is tried whether the set would settle.
const CHECKED_EVERY: usize = 12;

/// A reproducible sequence of numbers.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    pub(crate) fn number(&mut self, bound: u8) -> i32 {
        self.below(usize::from(bound)) as i32
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// Walks the way of a seed; how many steps it took.
///
/// # Errors
/// With the steps to the first violation.
pub fn walk(seed: u64, planner: Planner) -> Result<usize, Box<Failure>> {
    let configuration = random(seed);
    let mut dice = Dice::new(seed ^ 0x5eed);
    let mut controller = Controller::new(planner);
    let mut settling = Settling::default();
    let mut state = State::first(&configuration);
    let mut choices = Vec::new();
    for step in 0..STEPS {
        let plan = controller.plan(&state);
        let events = possible(&configuration, &state, &plan);
        let choice = choose(&mut dice, &events);
        choices.push(choice as u16);
        let mut verdict = happen(&mut controller, &mut state, &events[choice]);
        if step % CHECKED_EVERY == CHECKED_EVERY - 1 {
            verdict = verdict.and_then(|()| settling.check(&mut controller, &state));
        }
        if let Err(violation) = verdict {
            return Err(Box::new(Failure::of_seed(&configuration, planner, seed, choices, violation)));
        }
    }
    Ok(STEPS)
}

/// Most of the time the usual goes on.
fn choose(dice: &mut Dice, events: &[Event]) -> usize {
    let rare = dice.below(5) == 0;
    let is_usual = |event: &Event| matches!(event, Event::Round | Event::Advance(_) | Event::Collect);
    let fitting: Vec<_> = events.iter().enumerate().filter(|(_, event)| is_usual(event) != rare).map(|(at, _)| at).collect();
    if fitting.is_empty() { dice.below(events.len()) } else { fitting[dice.below(fitting.len())] }
}
