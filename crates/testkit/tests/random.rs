//! Random use of the real API server over the real store, judged by a model: several clients at once, with kills and compactions.
//!
//! A seed decides what is asked, how requests meet, and when the server dies; but for timers, which are the clock's. `STEADFAST_SEED=n`
//! runs one seed only, several times; `STEADFAST_SEEDS=n` so many seeds.

use testkit::random::{Disturbances, Fault, KINDS, Shown, Verdict, Workload, in_process, judge};

/// How many seeds run when nobody says.
const SEEDS: u64 = 6;
/// How often the one seed runs that is asked for.
const REPEATED: usize = 20;
const DISTURBANCES: Disturbances = Disturbances { kills: 3, compactions: 24 };

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn seeds() -> Vec<u64> {
    match number("STEADFAST_SEED") {
        Some(seed) => vec![seed; REPEATED],
        None => (0..number("STEADFAST_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

fn judged(seed: u64, disturbances: Disturbances, fault: Fault) -> Verdict {
    let workload = Workload { seed, kinds: &KINDS, writers: 5, calls: 80, readers: 2, watchers: 6 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    judge(&runtime.block_on(in_process(&workload, disturbances, fault)))
}

#[test]
fn random_use_is_as_the_model_says_through_kills_and_compactions() {
    let mut all = Shown::default();
    for seed in seeds() {
        match judged(seed, DISTURBANCES, Fault::None) {
            Ok(shown) => all = all.and(shown),
            Err(faults) => panic!(
                "seed {seed}:\n  {}\nagain: STEADFAST_SEED={seed} cargo test --workspace --test random random_use",
                faults.join("\n  ")
            ),
        }
    }
    println!("{all:?}");
    assert!(all.commits > 0 && all.conflicts > 0 && all.lists > 0 && all.events > 0, "{all:?}");
    assert!(all.unknown > 0 && all.expired > 0, "{all:?}");
}

/// For each way to be wrong: the model notices within a few seeds.
#[test]
fn whatever_a_store_does_wrong_is_noticed() {
    for fault in [
        Fault::LostEvent,
        Fault::DoubledEvent,
        Fault::SwappedEvents,
        Fault::EarlyProgress,
        Fault::LostWrite,
        Fault::FalseConflict,
        Fault::IgnoredCondition,
        Fault::OldRead,
        Fault::MixedPage,
        Fault::LostAtKill,
    ] {
        let disturbances = Disturbances { kills: if fault == Fault::LostAtKill { 2 } else { 0 }, compactions: 0 };
        let noticed = (0..16).find_map(|seed| judged(seed, disturbances, fault).err());
        let faults = noticed.unwrap_or_else(|| panic!("{fault:?} passes"));
        println!("{fault:?}: {}", faults[0].chars().take(200).collect::<String>());
    }
}
