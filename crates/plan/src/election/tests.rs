use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::*;

const TIMING: Timing = Timing { lease: seconds(15), renew_deadline: seconds(10), retry: seconds(2) };

const fn seconds(seconds: u64) -> Elapsed {
    Duration::from_secs(seconds)
}

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).unwrap()
}

fn candidate(identity: &str) -> Election {
    Election::new(identity, "kube-system", "steadfast", TIMING)
}

/// A Lease of a holder, as the server has it at a version, renewed at a second of the holder's clock.
fn lease(holder: &str, version: u32, renewed: i64) -> Lease {
    let metadata = ObjectMeta { resource_version: Some(version.to_string()), uid: Some("uid".to_owned()), ..ObjectMeta::default() };
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        acquire_time: Some(MicroTime(wall(0))),
        renew_time: Some(MicroTime(wall(renewed))),
        lease_transitions: Some(4),
        ..LeaseSpec::default()
    };
    Lease { metadata, spec: Some(spec) }
}

/// What a step writes: holder, version, transitions, whether it begins a new reign.
fn written(step: Step) -> (String, Option<String>, Option<i32>, bool) {
    let Step::Write(lease) = step else { panic!("{step:?}") };
    let spec = lease.spec.unwrap();
    let anew = spec.acquire_time == spec.renew_time;
    (spec.holder_identity.unwrap(), lease.metadata.resource_version, spec.lease_transitions, anew)
}

/// A candidate that has led since second 100.
fn leader() -> Election {
    let mut election = candidate("a");
    election.observe(None, seconds(100));
    election.wrote(lease("a", 7, 100), seconds(100));
    election
}

#[test]
fn who_knows_nothing_looks_and_who_finds_nothing_creates() {
    let mut election = candidate("a");
    assert_eq!(election.decide(seconds(0), wall(0)), Step::Look);
    election.observe(None, seconds(0));
    assert_eq!(written(election.decide(seconds(0), wall(0))), ("a".to_owned(), None, Some(0), true));
    assert_eq!(election.leading_until(seconds(0)), None);
}

#[test]
fn a_lease_that_was_let_go_is_taken_at_once() {
    let mut election = candidate("b");
    election.observe(Some(&lease("", 9, 5)), seconds(1));
    assert_eq!(written(election.decide(seconds(1), wall(1))), ("b".to_owned(), Some("9".to_owned()), Some(5), true));
}

#[test]
fn a_held_lease_is_waited_for_by_the_own_clock_whatever_the_holder_s_says() {
    for holders_clock in [-1_000_000, 0, 1_000_000] {
        let mut election = candidate("b");
        election.observe(Some(&lease("a", 9, holders_clock)), seconds(50));
        assert_eq!(election.decide(seconds(50), wall(0)), Step::Wait(seconds(65)));
        // Seen again with nothing new but a label: the time goes on.
        election.observe(Some(&lease("a", 10, holders_clock)), seconds(60));
        assert_eq!(election.decide(seconds(64), wall(0)), Step::Wait(seconds(65)));
        assert_eq!(written(election.decide(seconds(65), wall(0))), ("b".to_owned(), Some("10".to_owned()), Some(5), true));
    }
}

#[test]
fn each_renewal_that_is_seen_begins_the_wait_anew() {
    let mut election = candidate("b");
    for second in 0..100 {
        election.observe(Some(&lease("a", 9, second)), seconds(second.unsigned_abs()));
        assert!(
            matches!(election.decide(seconds(second.unsigned_abs()), wall(0)), Step::Wait(until) if until == seconds(15 + second.unsigned_abs()))
        );
    }
}

#[test]
fn the_duration_counts_that_the_holder_wrote() {
    let mut election = candidate("b");
    let mut long = lease("a", 9, 0);
    long.spec.as_mut().unwrap().lease_duration_seconds = Some(60);
    election.observe(Some(&long), seconds(0));
    assert_eq!(election.decide(seconds(20), wall(0)), Step::Wait(seconds(60)));
    long.spec.as_mut().unwrap().lease_duration_seconds = None;
    election.observe(Some(&long), seconds(20));
    assert_eq!(election.decide(seconds(20), wall(0)), Step::Wait(seconds(35)));
}

#[test]
fn a_leader_renews_before_its_time_is_over_and_keeps_its_reign() {
    let mut election = leader();
    assert_eq!(election.leading_until(seconds(100)), Some(seconds(110)));
    assert_eq!(election.decide(seconds(101), wall(101)), Step::Wait(seconds(102)));
    assert_eq!(written(election.decide(seconds(102), wall(102))), ("a".to_owned(), Some("7".to_owned()), Some(4), false));
    // The answer came late: the time of sending counts.
    election.wrote(lease("a", 8, 102), seconds(102));
    assert_eq!(election.leading_until(seconds(109)), Some(seconds(112)));
}

#[test]
fn a_leader_that_can_t_renew_stops_before_anyone_can_take_over() {
    let (mut election, mut other) = (leader(), candidate("b"));
    // The other sees the last renewal not before it was sent.
    other.observe(Some(&lease("a", 7, 100)), seconds(100));
    for at in (102..110).step_by(2) {
        assert!(matches!(election.decide(seconds(at), wall(0)), Step::Write(_)));
        election.failed(seconds(at));
    }
    assert_eq!(election.decide(seconds(109), wall(0)), Step::Wait(seconds(110)));
    assert!(election.leading_until(seconds(109)).is_some() && election.leading_until(seconds(110)).is_none());
    assert_eq!(election.decide(seconds(110), wall(0)), Step::Look);
    assert!(matches!(other.decide(seconds(114), wall(0)), Step::Wait(_)));
    assert!(matches!(other.decide(seconds(115), wall(0)), Step::Write(_)));
}

#[test]
fn a_leader_that_slept_through_its_time_looks_before_it_writes() {
    let mut election = leader();
    assert_eq!(election.leading_until(seconds(500)), None);
    assert_eq!(election.decide(seconds(500), wall(0)), Step::Look);
    election.observe(Some(&lease("b", 30, 490)), seconds(500));
    assert_eq!((election.decide(seconds(500), wall(0)), election.holder()), (Step::Wait(seconds(515)), Some("b")));
}

#[test]
fn a_leader_leads_no_more_when_the_lease_is_with_another_or_gone() {
    for seen in [Some(lease("b", 8, 101)), None] {
        let mut election = leader();
        election.outdated();
        // It is not known yet whether somebody else took it, or merely labelled it.
        assert_eq!(election.decide(seconds(101), wall(0)), Step::Look);
        assert!(election.leading_until(seconds(101)).is_some());
        election.observe(seen.as_ref(), seconds(101));
        assert_eq!(election.leading_until(seconds(101)), None);
    }
    let mut election = leader();
    election.outdated();
    election.observe(Some(&lease("a", 8, 100)), seconds(101));
    assert!(election.leading_until(seconds(101)).is_some());
}

#[test]
fn of_two_that_see_a_free_lease_the_one_that_is_refused_looks_again() {
    let mut election = candidate("b");
    election.observe(Some(&lease("", 9, 5)), seconds(1));
    assert!(matches!(election.decide(seconds(1), wall(1)), Step::Write(_)));
    election.outdated();
    assert_eq!(election.decide(seconds(1), wall(1)), Step::Look);
    election.observe(Some(&lease("a", 10, 1)), seconds(1));
    assert_eq!(election.decide(seconds(1), wall(1)), Step::Wait(seconds(16)));
}

#[test]
fn a_write_whose_answer_was_lost_is_found_to_have_been_made() {
    let mut election = candidate("a");
    election.observe(Some(&lease("", 9, 5)), seconds(1));
    election.failed(seconds(1));
    assert_eq!(election.decide(seconds(2), wall(0)), Step::Wait(seconds(3)));
    election.observe(Some(&lease("a", 10, 1)), seconds(3));
    assert_eq!(election.leading_until(seconds(3)), None, "whether it was in time is not known");
    assert_eq!(written(election.decide(seconds(3), wall(3))), ("a".to_owned(), Some("10".to_owned()), Some(4), false));
}

#[test]
fn only_a_leader_releases_and_it_leads_no_more() {
    let mut election = leader();
    let released = election.release(seconds(105), wall(105)).unwrap();
    let spec = released.spec.as_ref().unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds, spec.lease_transitions), (Some(""), Some(1), Some(4)));
    assert_eq!(released.metadata.resource_version.as_deref(), Some("7"));
    election.observe(Some(&released), seconds(105));
    assert_eq!((election.leading_until(seconds(105)), election.release(seconds(105), wall(105))), (None, None));
    assert_eq!(leader().release(seconds(110), wall(110)), None, "its time is over: the lease may be another's");
}

#[test]
fn a_release_is_of_the_version_that_a_renewal_under_way_has_made() {
    let mut election = leader();
    election.observe(Some(&lease("a", 8, 104)), seconds(105));
    let released = election.release(seconds(105), wall(105)).unwrap();
    assert_eq!(released.metadata.resource_version.as_deref(), Some("8"));
    election.observe(Some(&lease("b", 9, 104)), seconds(105));
    assert_eq!(election.release(seconds(105), wall(105)), None);
}

#[test]
fn shorter_leases_keep_upstream_s_proportions() {
    assert_eq!(Timing::of_lease(15), TIMING);
    let short = Timing::of_lease(0);
    assert!(short.lease == seconds(1) && short.retry * 3 < short.renew_deadline && short.renew_deadline < short.lease);
}
