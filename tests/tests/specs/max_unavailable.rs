//! Updates of several instances at once.

use serde_json::{Value, json};

use crate::history::Step;
use crate::workload::{Workload, in_parallel, is_ready, web};

fn with_budget(mut set: Value, budget: Value) -> Value {
    set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": budget}});
    set
}

/// How many of the first `replicas` ordinals served before a step.
fn serving(step: &Step, replicas: u32) -> usize {
    (0..replicas).filter(|ordinal| step.had_ready(*ordinal..ordinal + 1)).count()
}

/// Upstream: maxUnavailable in order.
#[test]
fn an_ordered_update_takes_as_many_as_it_may_and_no_more() {
    let Some(work) = Workload::new("budget-ordered") else { return };
    update(&work, &with_budget(web(4), json!(2)), 2);
}

/// Upstream: maxUnavailable in parallel.
#[test]
fn a_parallel_update_takes_as_many_as_it_may_and_no_more() {
    let Some(work) = Workload::new("budget-parallel") else { return };
    update(&work, &in_parallel(with_budget(web(4), json!("50%"))), 2);
}

/// Without a number it is one, and a percentage that comes to less is one as well.
#[test]
fn a_small_percentage_still_allows_one() {
    let Some(work) = Workload::new("budget-small") else { return };
    update(&work, &in_parallel(with_budget(web(3), json!("10%"))), 1);
}

fn update(work: &Workload, set: &Value, budget: usize) {
    let replicas = work.run(set)["spec"]["replicas"].as_u64().expect("a number") as u32;
    let mut history = work.history();
    work.change_image("busybox:2");
    work.rolled_out();
    let deleted = history.names("DELETED", replicas as usize);
    let mut first: Vec<_> = deleted[..budget].to_vec();
    first.sort();
    let highest: Vec<_> = (replicas - budget as u32..replicas).map(|ordinal| format!("ss-{ordinal}")).collect();
    assert_eq!(first, highest, "the highest go first");
    let steps = history.until_now(work);
    for step in steps.iter().filter(|step| step.condemns()) {
        let left = serving(step, replicas) - 1;
        assert!(left + budget >= replicas as usize, "{} was told to go and left {left} of {replicas}", step.name());
    }
    // The budget was used: two were away at one time.
    let fewest = steps.iter().map(|step| serving(step, replicas)).min().expect("steps");
    assert_eq!(fewest, replicas as usize - budget);
}

/// Upstream: maxUnavailable with minReadySeconds. What is ready and not yet available is not there.
#[test]
fn an_update_counts_what_is_not_yet_available_against_the_budget() {
    let Some(work) = Workload::new("budget-min-ready") else { return };
    let mut set = in_parallel(with_budget(web(3), json!(1)));
    set["spec"]["minReadySeconds"] = json!(1);
    work.run(&set);
    work.until("all are available", || work.set()["status"]["availableReplicas"] == 3);
    work.change(json!({"minReadySeconds": 3600}));
    work.until("none is available", || work.set()["status"]["availableReplicas"] == 0);
    work.change(json!({"minReadySeconds": 1}));
    work.until("all are available again", || work.set()["status"]["availableReplicas"] == 3);
    let mut history = work.history();
    work.change_image("busybox:2");
    work.rolled_out();
    history.names("ADDED", 3);
    for step in history.until_now(&work).iter().filter(|step| step.condemns()) {
        assert!(step.had_ready(0..3), "{} was told to go while another was not ready", step.name());
    }
}

/// Broken instances of an old revision cost nothing: they are replaced beyond the budget.
#[test]
fn a_first_revision_that_never_became_ready_is_left_in_parallel() {
    let Some(work) = Workload::new("budget-broken") else { return };
    let mut set = in_parallel(with_budget(web(3), json!(1)));
    let good = set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"].clone();
    set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] = json!("/absent");
    work.create("statefulsets", &set);
    work.until("three run and none is ready", || {
        let pods = work.list("pods");
        pods.len() == 3 && pods.iter().all(|pod| pod["status"]["phase"] == "Running" && !is_ready(pod))
    });
    let mut template = work.set()["spec"]["template"]["spec"].clone();
    template["containers"][0]["readinessProbe"] = good;
    work.change(json!({"template": {"spec": template}}));
    work.rolled_out();
}
