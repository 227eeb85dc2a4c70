//! The planner under everything that may happen.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod mutants;

use std::io::Write;

use model::{Configuration, Explored, configurations, explore, replay, walk};
use plan::statefulset::plan;

/// No configuration is larger.
const MOST_STATES: usize = 2_000_000;

/// What was asked for by hand. The one place where the environment is read.
struct Asked {
    /// `STEADFAST_MODEL_SEED`: the seed to replay.
    seed: Option<String>,
    /// `STEADFAST_MODEL_FAULTS`: how often something goes wrong in what is explored exhaustively.
    faults: u8,
    /// `STEADFAST_MODEL_WALKS`: how many random walks there are.
    walks: u64,
}

fn asked() -> Asked {
    let text = |name: &str| std::env::var(name).ok();
    let number = |name: &str| text(name).and_then(|text| text.parse().ok());
    Asked {
        seed: text("STEADFAST_MODEL_SEED"),
        faults: number("STEADFAST_MODEL_FAULTS").map_or(1, |faults: u64| faults as u8),
        walks: number("STEADFAST_MODEL_WALKS").unwrap_or(2_000),
    }
}

/// Says something that is seen though the test passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Explores all configurations that are wanted; prints how much there was.
fn explore_all(wanted: impl Fn(&Configuration) -> bool) {
    let mut total = Explored::default();
    for configuration in configurations(asked().faults).iter().filter(|configuration| wanted(configuration)) {
        let explored = explore(configuration, plan, MOST_STATES).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(explored.complete, "{} is too large", configuration.name);
        say(&format!("model: {:>7} states, {:>8} steps: {}", explored.states, explored.steps, configuration.name));
        total.states += explored.states;
        total.steps += explored.steps;
    }
    assert!(total.states > 1_000);
    say(&format!("model: {} states and {} steps in all", total.states, total.steps));
}

#[test]
fn an_ordered_set_keeps_every_invariant_in_every_state_and_settles() {
    explore_all(|configuration| configuration.name.contains("/ordered/"));
}

#[test]
fn a_parallel_set_keeps_every_invariant_in_every_state_and_settles() {
    explore_all(|configuration| configuration.name.contains("/parallel/"));
}

#[test]
fn random_walks_keep_every_invariant_and_settle() {
    let steps: usize = (0..asked().walks).map(|seed| walk(seed, plan).unwrap_or_else(|failure| panic!("{failure}"))).sum();
    say(&format!("model: {steps} random steps"));
}

#[test]
fn a_seed_is_replayed() {
    if let Some(seed) = asked().seed {
        let steps = replay(&seed, plan).unwrap_or_else(|failure| panic!("{failure}"));
        say(&format!("model: {steps} steps of {seed} keep every invariant"));
    }
}
