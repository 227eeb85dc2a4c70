//! The pre-delete gate.

use jiff::{SignedDuration, Timestamp};
use kinds::gate::{EVICTION_REQUESTED, PASSED, PRE_DELETE, PROGRESS, Progress};
use serde_json::json;

use super::super::{Action, HookRun, Observed, Plan, plan};
use super::builders::*;

const RUN: &str = "run the pre-delete hook of pod web-2 for Update rev-2";
const WAITS: &str = "waits for the pre-delete hook of web-2 for Update";
const DELETED: &str = "delete pod web-2: it is at rev-1, wanted is rev-2";

fn gated(more: &str) -> SetBuilder {
    set(3).annotated(PRE_DELETE, &format!(r#"{{"exec":{{"command":["leave","$(POD_NAME) $(ORDINAL)","$(REASON)/$(REPLICAS)"]}}{more}}}"#))
}

fn three(highest: PodBuilder) -> Vec<PodBuilder> {
    vec![pod("web-0"), pod("web-1"), highest]
}

fn progress(purpose: &str, failures: u32, seconds_ago: i64) -> String {
    let at = ago(seconds_ago).0;
    (0..failures).fold(Progress::begun(purpose.to_owned(), at), |progress, _| progress.failed("exit status 1".to_owned(), at)).text()
}

fn passed(purpose: &str) -> PodBuilder {
    pod("web-2").annotated(PROGRESS, &progress(purpose, 0, 5)).annotated(PASSED, "2029-12-31T23:59:59Z")
}

fn updating(set: SetBuilder, pods: Vec<PodBuilder>) -> Observed {
    observed(set.image("v2").at("rev-1", "rev-2"), vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")], pods)
}

fn run_of(plan: &Plan) -> HookRun {
    let run = plan.actions.iter().find_map(|action| match action {
        Action::RunGate { run, .. } => Some((**run).clone()),
        _ => None,
    });
    run.unwrap()
}

#[test]
fn a_pod_goes_only_after_its_hook_succeeded_for_what_it_goes_for() {
    let update = |highest| planned_update(gated(""), three(highest));
    assert_eq!(update(pod("web-2")), [RUN, WAITS]);
    assert_eq!(update(passed("Update rev-2")), [DELETED]);
    assert_eq!(update(passed("Update rev-1")), [RUN, WAITS]);
    assert_eq!(update(passed("ScaleDown")), [RUN, WAITS]);
    assert_eq!(update(pod("web-2").annotated(PASSED, "2029-12-31T23:59:59Z")), [RUN, WAITS], "a pass without what it is for");
    let scaled = planned(set(2).annotated(PRE_DELETE, r#"{"exec":{"command":["leave"]}}"#), three(passed("ScaleDown")));
    assert_eq!(scaled, ["delete pod web-2: its ordinal is no longer wanted"]);
}

#[test]
fn a_gate_holds_only_for_the_reasons_it_names() {
    assert_eq!(planned_update(gated(r#","on":["ScaleDown"]"#), three(pod("web-2"))), [DELETED]);
    assert_eq!(planned_update(gated(r#","on":["Update"]"#), three(pod("web-2"))), [RUN, WAITS]);
}

#[test]
fn the_hook_is_told_which_pod_goes_and_why() {
    let run = run_of(&plan(&updating(gated(""), three(pod("web-2"))), now()));
    assert_eq!(run.command, ["leave", "web-2 2", "Update/3"]);
    assert_eq!((run.timeout, run.progress.started_at.0), (SignedDuration::from_secs(60), now()));
    let begun = run.begun();
    assert_eq!((begun[0].0, begun[1].clone()), (PROGRESS, (PASSED, None)), "a pass for something else is none for this");
}

#[test]
fn a_running_hook_is_waited_for_and_not_run_twice() {
    let mut observed = updating(gated(""), three(pod("web-2").annotated(PROGRESS, &progress("Update rev-2", 0, 5))));
    observed.running_hooks.insert("uid-web-2".to_owned());
    assert_eq!(lines(&plan(&observed, now())), [WAITS]);
    // Whoever ran it has died.
    observed.running_hooks.clear();
    assert_eq!(lines(&plan(&observed, now())), [RUN, WAITS]);
}

#[test]
fn a_hook_that_fails_is_tried_again_later_and_the_trouble_is_told() {
    let at = |failures, seconds_ago| {
        let failed = pod("web-2").annotated(PROGRESS, &progress("Update rev-2", failures, seconds_ago));
        plan(&updating(gated(""), three(failed)), now())
    };
    let waits = |times: &str| format!("{WAITS}: the hook failed {times}: exit status 1");
    let early = at(3, 1);
    assert_eq!(lines(&early), [waits("3 times")]);
    assert_eq!(early.recheck_at, Some(now() + SignedDuration::from_secs(3)));
    assert_eq!(lines(&at(3, 4)), [RUN.to_owned(), waits("3 times")]);
    let run = run_of(&at(3, 4));
    assert_eq!(run.progress.failures, 3, "failures are counted on");
    let marks = run.marks(Err("exit status 2".to_owned()), now());
    let told: Progress = serde_json::from_str(marks[0].1.as_deref().unwrap()).unwrap();
    assert_eq!((told.failures, told.message.as_deref(), told.started_at), (4, Some("exit status 2"), ago(4)));
    // Without onTimeout it waits for ever.
    assert_eq!(lines(&at(1, 100_000)), [RUN.to_owned(), waits("once")]);
}

#[test]
fn where_the_set_asks_for_it_the_pod_goes_without_the_hook_after_its_time() {
    let at = |failures, seconds_ago| {
        let failed = pod("web-2").annotated(PROGRESS, &progress("Update rev-2", failures, seconds_ago));
        plan(&updating(gated(r#","onTimeout":"Proceed","timeoutSeconds":30"#), three(failed)), now())
    };
    assert_eq!(run_of(&at(2, 12)).timeout, SignedDuration::from_secs(18), "what is left");
    assert_eq!(at(9, 1).recheck_at, Some(now() + SignedDuration::from_secs(29)), "the deadline comes before the next try");
    let over = at(2, 30);
    assert_eq!(lines(&over)[0], "mark pod web-2: its pre-delete hook for Update had its time");
    let Action::MarkPod { annotations, .. } = &over.actions[0] else { panic!("{over:?}") };
    let marked = annotations.iter().fold(pod("web-2"), |pod, (name, value)| pod.annotated(name, value.as_deref().unwrap()));
    assert_eq!(planned_update(gated(r#","onTimeout":"Proceed","timeoutSeconds":30"#), three(marked)), [DELETED]);
}

#[test]
fn a_pod_with_nothing_to_hand_over_passes_without_the_hook() {
    let broken = |pod: PodBuilder| planned_update(gated("").parallel(), three(pod));
    assert_eq!(broken(pod("web-2").pending())[0], DELETED);
    assert_eq!(broken(pod("web-2").never_ready())[0], DELETED);
    assert_eq!(broken(pod("web-2").crashing())[0], DELETED);
    assert_eq!(
        broken(pod("web-2").failed()),
        ["delete pod web-2: it has ended", "waits for pods to become available: 1 are not, and at most 1 may be"]
    );
    assert_eq!(broken(pod("web-2").unready())[0], RUN, "it was ready once and may have something");
}

#[test]
fn a_pass_ends_when_the_pod_is_to_stay() {
    let stale = "mark pod web-2: it is not to be taken away any more";
    assert_eq!(planned(gated(""), three(passed("Update rev-2"))), [stale]);
    assert_eq!(planned(set(3), three(passed("Update rev-2"))), [stale]);
    // Another pod is waited for first: by then the pass may no longer be true.
    let held_up = vec![pod("web-0").unready(), pod("web-1"), passed("Update rev-2")];
    assert_eq!(planned_update(gated(""), held_up), [stale, "waits for web-0 to become Ready"]);
    let mut running = observed(gated("").at("rev-1", "rev-1"), vec![revision("rev-1", 1, "v1")], three(passed("Update rev-2")));
    running.running_hooks.insert("uid-web-2".to_owned());
    assert!(plan(&running, now()).actions.is_empty(), "its end comes first");
}

#[test]
fn only_as_many_hooks_run_for_an_update_as_pods_may_be_unavailable() {
    let parallel = planned_update(gated("").parallel(), three(pod("web-2")));
    assert_eq!(parallel, [RUN, WAITS]);
    let two = gated("").max_unavailable(json!(2));
    assert_eq!(planned_update(two, three(pod("web-2"))), [RUN, "run the pre-delete hook of pod web-1 for Update rev-2", WAITS]);
}

fn asked(name: &str, seconds_ago: i64) -> PodBuilder {
    pod(name).annotated(EVICTION_REQUESTED, &ago(seconds_ago).0.to_string())
}

#[test]
fn an_eviction_that_was_asked_for_runs_the_hook_of_one_pod_at_a_time() {
    let evict = "run the pre-delete hook of pod web-0 for Eviction";
    let waits = "waits for the pre-delete hook of web-0 for Eviction";
    assert_eq!(planned(gated(""), vec![asked("web-0", 5), asked("web-1", 5), pod("web-2")]), [evict, waits]);
    let update = planned_update(gated(""), vec![asked("web-0", 5), pod("web-1"), pod("web-2")]);
    assert_eq!(update, [RUN, WAITS], "not beside the hook of an update");
    let held_up = planned_update(gated(""), vec![asked("web-0", 5), pod("web-1").unready(), pod("web-2")]);
    assert_eq!(held_up, [evict, "waits for web-1 to become Ready"]);
    assert_eq!(planned(gated(r#","on":["Update"]"#), vec![asked("web-0", 5), pod("web-1"), pod("web-2")]), [""; 0]);
}

#[test]
fn a_pass_for_an_eviction_stays_until_the_wish_is_old() {
    let pods = |seconds_ago| {
        let evicted =
            asked("web-2", seconds_ago).annotated(PROGRESS, &progress("Eviction", 0, 5)).annotated(PASSED, "2029-12-31T23:59:59Z");
        three(evicted)
    };
    let fresh = plan(&observed(gated("").at("rev-1", "rev-1"), vec![revision("rev-1", 1, "v1")], pods(599)), now());
    assert_eq!((lines(&fresh).len(), fresh.recheck_at), (0, Some(now() + SignedDuration::from_secs(1))));
    assert_eq!(planned(gated(""), pods(600)), ["mark pod web-2: it is not to be taken away any more"]);
}

#[test]
fn an_eviction_of_a_pod_with_nothing_to_hand_over_gets_its_pass_at_once() {
    let broken = asked("web-2", 5).crashing();
    let lines = planned(gated("").parallel(), three(broken));
    assert_eq!(lines[0], "mark pod web-2: it needs no pre-delete hook");
}

#[test]
fn with_hooks_that_fail_now_and_then_every_pod_still_passes_its_gate_before_it_goes() {
    for pattern in 0..32_u32 {
        let mut world = World { now: now(), pods: vec![pod("web-0"), pod("web-1"), pod("web-2")], tries: 0, passes: Vec::new() };
        let gone = world.run(pattern);
        assert_eq!(gone, ["web-2", "web-1", "web-0"], "{pattern:b}");
        assert_eq!(world.passes, gone);
    }
}

/// A set on its way to `rev-2` whose hooks fail where the pattern has a bit.
struct World {
    now: Timestamp,
    pods: Vec<PodBuilder>,
    tries: u32,
    passes: Vec<String>,
}

impl World {
    fn run(&mut self, pattern: u32) -> Vec<String> {
        let mut gone = Vec::new();
        for _ in 0..200 {
            let plan = plan(&updating(gated(""), self.pods.clone()), self.now);
            if plan.actions.is_empty() && plan.waiting_on.is_none() {
                return gone;
            }
            for action in &plan.actions {
                self.apply(action, pattern, &mut gone);
            }
            self.now = plan.recheck_at.unwrap_or(self.now);
        }
        panic!("not settled")
    }

    fn apply(&mut self, action: &Action, pattern: u32, gone: &mut Vec<String>) {
        let index = action.ordinal().unwrap().0 as usize;
        let name = format!("web-{index}");
        match action {
            Action::RunGate { run, .. } => {
                let fails = pattern >> (self.tries % 32) & 1 == 1;
                self.tries += 1;
                let result = if fails { Err("no".to_owned()) } else { Ok(()) };
                if !fails {
                    self.passes.push(name);
                }
                crate::forecast::annotate(&mut self.pods[index].0, &run.marks(result, self.now));
            }
            Action::MarkPod { annotations, .. } => crate::forecast::annotate(&mut self.pods[index].0, annotations),
            Action::DeletePod { .. } => {
                gone.push(name.clone());
                self.pods[index] = pod(&name).at("rev-2");
            }
            other => panic!("{other}"),
        }
    }
}
