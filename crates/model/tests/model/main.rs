//! The planner under everything that may happen.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod mutants;

use std::io::Write;

use model::{Configuration, Explored, configurations, explore, replay, walk};
use plan::statefulset::plan;

/// No configuration is larger.
const MOST_STATES: usize = 2_000_000;

/// Stories that are small enough for a fault in every run of the tests.
const WITH_A_FAULT: [&str; 12] = [
    "rollout/",
    "shrink/",
    "blind/ordered/rolling/retain-delete/",
    "min-ready/ordered/",
    "recreate/",
    "delete/",
    "start/ordered/",
    "gate/ordered/",
    "paused/ordered/",
    "roles/ordered/",
    "in-place/ordered/",
    "update/ordered/rolling/",
];

/// What was asked for by hand. The one place where the environment is read.
struct Asked {
    /// `STEADFAST_MODEL_SEED`: the seed to replay.
    seed: Option<String>,
    /// `STEADFAST_MODEL_FAULTS`: explore everything with so many faults.
    faults: Option<u8>,
    /// `STEADFAST_MODEL_WALKS`: how many random walks there are.
    walks: Option<u64>,
}

fn asked() -> Asked {
    let text = |name: &str| std::env::var(name).ok();
    Asked {
        seed: text("STEADFAST_MODEL_SEED"),
        faults: text("STEADFAST_MODEL_FAULTS").map(|faults| faults.parse().expect("STEADFAST_MODEL_FAULTS is a small number")),
        walks: text("STEADFAST_MODEL_WALKS").map(|walks| walks.parse().expect("STEADFAST_MODEL_WALKS is a number")),
    }
}

/// All that is explored: everything without faults, and the smaller stories with one; or what was asked for.
fn all() -> Vec<Configuration> {
    if let Some(faults) = asked().faults {
        return configurations(faults);
    }
    let small = |configuration: &Configuration| WITH_A_FAULT.iter().any(|story| configuration.name.starts_with(story));
    configurations(0).into_iter().chain(configurations(1).into_iter().filter(small)).collect()
}

/// Says something that is seen though the test passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Explores all configurations of a policy; prints how much there was.
fn explore_all(policy: &str) {
    let mut total = Explored::default();
    for configuration in all().iter().filter(|configuration| configuration.name.contains(policy)) {
        let explored = explore(configuration, plan, MOST_STATES).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(explored.complete, "{} is too large", configuration.name);
        say(&format!("model: {:>7} states, {:>8} steps: {}", explored.states, explored.steps, configuration.name));
        total.states += explored.states;
        total.steps += explored.steps;
    }
    assert!(total.states > 1_000);
    say(&format!("model: {} states and {} steps in all{policy}", total.states, total.steps));
}

#[test]
fn an_ordered_set_keeps_every_invariant_in_every_state_and_settles() {
    explore_all("/ordered/");
}

#[test]
fn a_parallel_set_keeps_every_invariant_in_every_state_and_settles() {
    explore_all("/parallel/");
}

#[test]
fn random_walks_keep_every_invariant_and_settle() {
    let steps: usize = (0..asked().walks.unwrap_or(2_000)).map(|seed| walk(seed, plan).unwrap_or_else(|failure| panic!("{failure}"))).sum();
    say(&format!("model: {steps} random steps"));
}

#[test]
fn a_seed_is_replayed() {
    if let Some(seed) = asked().seed {
        let steps = replay(&seed, plan).unwrap_or_else(|failure| panic!("{failure}"));
        say(&format!("model: {steps} steps of {seed} keep every invariant"));
    }
}
