//! How a failure is told, and replayed.

use std::fmt;

use thiserror::Error;

use crate::configuration::{Configuration, configurations};
use crate::controller::{Controller, Planner};
use crate::event::possible;
use crate::happen::happen;
use crate::invariants::Violation;
use crate::settle::Settling;
use crate::state::State;
use crate::walk::walk;

/// A violation, and how it came about.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct Failure {
    pub violation: Violation,
    /// What replays it: the name of a configuration and the choices, or a number.
    pub seed: String,
    /// One line per event, those of the controller followed by its plan.
    pub trace: Vec<String>,
}

impl Failure {
    pub(crate) fn of_trace(configuration: &Configuration, planner: Planner, choices: Vec<u16>, violation: Violation) -> Self {
        let numbers: Vec<_> = choices.iter().map(ToString::to_string).collect();
        let seed = format!("{}#{}", configuration.name, numbers.join("."));
        Self { violation, seed, trace: tell(configuration, planner, &choices) }
    }

    pub(crate) fn of_seed(configuration: &Configuration, planner: Planner, seed: u64, choices: Vec<u16>, violation: Violation) -> Self {
        Self { violation, seed: seed.to_string(), trace: tell(configuration, planner, &choices) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.violation)?;
        for (number, line) in self.trace.iter().enumerate() {
            writeln!(f, "{:>4}. {line}", number + 1)?;
        }
        write!(f, "replay it with:\n  STEADFAST_MODEL_SEED={} cargo test -p model --test model -- --exact a_seed_is_replayed", self.seed)
    }
}

/// Goes the way of a seed again.
///
/// # Errors
/// With what it was kept for, if it still fails.
pub fn replay(seed: &str, planner: Planner) -> Result<usize, Box<Failure>> {
    let Some((name, choices)) = seed.split_once('#') else {
        return walk(seed.parse().unwrap_or(0), planner);
    };
    let faults = name.rsplit_once('/').and_then(|(_, faults)| faults.parse().ok()).unwrap_or(0);
    let Some(configuration) = configurations(faults).into_iter().find(|configuration| configuration.name == name) else {
        return Ok(0);
    };
    let choices: Vec<u16> = choices.split('.').filter_map(|choice| choice.parse().ok()).collect();
    let (mut controller, mut settling) = (Controller::new(planner), Settling::default());
    let mut state = State::first(&configuration);
    for (done, choice) in choices.iter().enumerate() {
        let plan = controller.plan(&state);
        let Some(event) = possible(&configuration, &state, &plan).into_iter().nth(usize::from(*choice)) else { break };
        let verdict = happen(&mut controller, &mut state, &event);
        if let Err(violation) = verdict.and_then(|()| settling.check(&mut controller, &state)) {
            return Err(Box::new(Failure::of_trace(&configuration, planner, choices[..=done].to_vec(), violation)));
        }
    }
    Ok(choices.len())
}

/// One line per event.
fn tell(configuration: &Configuration, planner: Planner, choices: &[u16]) -> Vec<String> {
    let mut controller = Controller::new(planner);
    let mut state = State::first(configuration);
    let mut lines = vec![format!("{}: {}", configuration.name, serde_json::to_string(&configuration.set.spec).unwrap_or_default())];
    for choice in choices {
        let plan = controller.plan(&state);
        let Some(event) = possible(configuration, &state, &plan).into_iter().nth(usize::from(*choice)) else { break };
        lines.push(event.to_string());
        if matches!(event, crate::Event::Round | crate::Event::Crash { .. }) {
            lines.extend(plan.actions.iter().map(|action| format!("    {action}")));
            lines.extend(plan.waiting_on.iter().map(|waiting| format!("    {waiting}")));
        }
        if happen(&mut controller, &mut state, &event).is_err() {
            break;
        }
    }
    lines.extend(state.world.pods.iter().map(|(name, pod)| describe(name, pod)));
    lines
}

/// `web-1 at web-xyz: Running, ready, going`.
fn describe(name: &str, pod: &k8s_openapi::api::core::v1::Pod) -> String {
    use crate::invariants::{is_going, phase, revision_of};
    let ready = if plan::forecast::is_ready(pod) { ", ready" } else { "" };
    let going = if is_going(&pod.metadata) { ", going" } else { "" };
    format!("then {name} at {}: {}{ready}{going}", revision_of(pod), phase(pod))
}
