//! Every state, breadth first: the first failure found has the shortest trace.

use std::collections::VecDeque;

use crate::canonical::Sums;
use crate::configuration::Configuration;
use crate::controller::{Controller, Planner};
use crate::event::possible;
use crate::failure::Failure;
use crate::happen::happen;
use crate::settle::Settling;
use crate::state::State;

/// How much was visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explored {
    /// States, each visited once.
    pub states: usize,
    /// Events that were tried in them.
    pub steps: usize,
    /// Whether no state was left out.
    pub complete: bool,
}

/// Where a state was reached from, and by which of the possible events.
struct Origin {
    parent: u32,
    choice: u16,
}

/// Visits every state of a configuration, up to `most`.
///
/// # Errors
/// With the shortest trace to the first violation.
pub fn explore(configuration: &Configuration, planner: Planner, most: usize) -> Result<Explored, Box<Failure>> {
    let mut controller = Controller::new(planner);
    let mut settling = Settling::default();
    let first = State::first(configuration);
    let mut visited = Sums::from_iter([first.sum()]);
    let mut origins = vec![Origin { parent: 0, choice: 0 }];
    let mut queue = VecDeque::from([(first, 0_u32)]);
    let mut explored = Explored { states: 1, steps: 0, complete: true };
    while let Some((state, at)) = queue.pop_front() {
        let plan = controller.plan(&state);
        for (choice, event) in possible(configuration, &state, &plan).iter().enumerate() {
            let mut next = state.clone();
            let verdict = happen(&mut controller, &mut next, event);
            explored.steps += 1;
            let is_new = verdict.is_ok() && visited.insert(next.sum());
            let verdict = verdict.and_then(|()| if is_new { settling.check(&mut controller, &next) } else { Ok(()) });
            if let Err(violation) = verdict {
                let mut choices = path(&origins, at);
                choices.push(choice as u16);
                return Err(Box::new(Failure::of_trace(configuration, planner, choices, violation)));
            }
            if is_new {
                if visited.len() > most {
                    return Ok(Explored { states: visited.len(), complete: false, ..explored });
                }
                origins.push(Origin { parent: at, choice: choice as u16 });
                queue.push_back((next, (origins.len() - 1) as u32));
            }
        }
    }
    explored.states = visited.len();
    Ok(explored)
}

/// The choices that lead from the first state to one.
fn path(origins: &[Origin], mut at: u32) -> Vec<u16> {
    let mut choices = Vec::new();
    while at != 0 {
        let origin = &origins[at as usize];
        choices.push(origin.choice);
        at = origin.parent;
    }
    choices.reverse();
    choices
}
