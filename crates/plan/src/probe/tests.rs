use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use proptest::prelude::*;

use super::{Kind, Outcome, Prober};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_000_000 + millis).unwrap()
}

fn probe(period: i32, success: i32, failure: i32) -> core::Probe {
    core::Probe {
        period_seconds: Some(period),
        success_threshold: Some(success),
        failure_threshold: Some(failure),
        ..core::Probe::default()
    }
}

/// Runs the probe whenever it is due; each run takes no time.
fn run(prober: &mut Prober, outcomes: &[Outcome]) -> Vec<(i64, Option<bool>)> {
    let step = |outcome: &Outcome| {
        let now = prober.next_at()?;
        prober.record(*outcome, now, now);
        Some((now.as_millisecond() - 1_000_000, prober.verdict()))
    };
    outcomes.iter().map_while(step).collect()
}

use Outcome::{Failure, Success};

#[test]
fn readiness_is_tried_at_once_and_soon_again_until_the_first_success() {
    let mut prober = Prober::new(Kind::Readiness, &probe(1, 1, 3), at(0), None);
    let seen = run(&mut prober, &[Failure, Failure, Failure, Success, Success]);
    assert_eq!(seen, [(0, Some(false)), (100, Some(false)), (300, Some(false)), (700, Some(true)), (1700, Some(true))]);
}

#[test]
fn pauses_never_exceed_the_period() {
    let mut prober = Prober::new(Kind::Readiness, &probe(1, 1, 3), at(0), None);
    let times: Vec<_> = run(&mut prober, &[Failure; 8]).into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, [0, 100, 300, 700, 1500, 2500, 3500, 4500]);
}

#[test]
fn after_the_first_success_readiness_needs_the_threshold_to_fall() {
    let mut prober = Prober::new(Kind::Readiness, &probe(1, 1, 3), at(0), None);
    let seen = run(&mut prober, &[Success, Failure, Failure, Failure, Success]);
    let verdicts: Vec<_> = seen.into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(verdicts, [Some(true), Some(true), Some(true), Some(false), Some(true)]);
}

#[test]
fn early_tries_of_a_startup_probe_do_not_use_up_its_threshold() {
    let mut prober = Prober::new(Kind::Startup, &probe(1, 1, 2), at(0), None);
    let seen = run(&mut prober, &[Failure; 10]);
    assert_eq!(seen.last(), Some(&(1500, Some(false))));
    assert_eq!(seen.iter().filter(|(_, verdict)| verdict.is_none()).count(), 4);
}

#[test]
fn liveness_counts_every_failure_and_keeps_its_period() {
    let mut prober = Prober::new(Kind::Liveness, &probe(5, 1, 3), at(0), None);
    assert_eq!(run(&mut prober, &[Failure; 3]), [(0, None), (5000, None), (10_000, Some(false))]);
}

#[test]
fn failures_are_told_ever_more_rarely() {
    let mut prober = Prober::new(Kind::Readiness, &probe(1, 1, 3), at(0), Some(true));
    let told = |outcome| {
        run(&mut prober, &[outcome]);
        prober.failures_to_tell()
    };
    let outcomes = [Failure, Failure, Failure, Failure, Failure, Success, Failure];
    assert_eq!(outcomes.map(told), [Some(1), Some(2), None, Some(4), None, None, Some(1)]);
}

#[test]
fn a_startup_probe_that_succeeded_never_runs_again() {
    let mut prober = Prober::new(Kind::Startup, &probe(5, 1, 3), at(0), None);
    run(&mut prober, &[Success]);
    assert_eq!(prober.next_at(), None);
}

#[test]
fn what_an_earlier_agent_knew_holds_until_the_threshold_says_otherwise() {
    let mut prober = Prober::new(Kind::Readiness, &probe(1, 1, 2), at(0), Some(true));
    assert_eq!(run(&mut prober, &[Failure, Failure]), [(0, Some(true)), (1000, Some(false))]);
}

#[test]
fn the_first_run_waits_for_the_initial_delay() {
    let probe = core::Probe { initial_delay_seconds: Some(7), ..probe(1, 1, 1) };
    assert_eq!(Prober::new(Kind::Liveness, &probe, at(0), None).next_at(), Some(at(7000)));
}

proptest! {
    #[test]
    fn runs_follow_each_other_by_a_tenth_of_a_second_at_least(
        outcomes in prop::collection::vec(prop_oneof![Just(Success), Just(Failure)], 1..50),
        took in 0..3000_i64, period in 1..5_i32, kind in prop_oneof![Just(Kind::Startup), Just(Kind::Readiness), Just(Kind::Liveness)],
    ) {
        let mut prober = Prober::new(kind, &probe(period, 1, 3), at(0), None);
        for outcome in outcomes {
            let Some(began) = prober.next_at() else { break };
            let ended = began.checked_add(SignedDuration::from_millis(took)).unwrap();
            prober.record(outcome, began, ended);
            let Some(next) = prober.next_at() else { break };
            let least = if outcome == Failure && took < 1000 { 100 } else { 0 };
            prop_assert!(next.duration_since(began) >= SignedDuration::from_millis(least));
            prop_assert!(next.duration_since(ended) <= SignedDuration::from_secs(period.into()).max(SignedDuration::from_millis(100)));
        }
    }
}
