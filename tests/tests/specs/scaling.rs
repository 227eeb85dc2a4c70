//! How many, and in which order.

use serde_json::json;

use crate::workload::{Workload, in_parallel, is_ready, web};

/// Upstream: scaling happens in predictable order and halts if any pod is unhealthy.
#[test]
fn scaling_goes_in_order_and_halts_at_an_unready_pod() {
    let Some(work) = Workload::new("scaling") else { return };
    let mut history = work.history();
    work.run(&web(1));
    work.break_readiness(0);
    work.scale(3);
    assert_eq!(work.observed()["status"]["replicas"], 1);
    work.mend_readiness(0);
    work.settled();
    (0..3).for_each(|ordinal| work.break_readiness(ordinal));
    work.scale(0);
    assert_eq!(work.observed()["status"]["replicas"], 3);
    (0..3).for_each(|ordinal| work.mend_readiness(ordinal));
    work.settled();
    assert_eq!(history.names("ADDED", 3), ["ss-0", "ss-1", "ss-2"]);
    assert_eq!(history.names("DELETED", 3), ["ss-2", "ss-1", "ss-0"]);
    for step in history.until_now(&work) {
        if step.adds() {
            assert!(step.had_ready(0..step.ordinal()), "{} came while a pod before it was not ready", step.name());
        }
        if step.condemns() {
            let (own, lower) = (step.ordinal()..step.ordinal() + 1, 0..step.ordinal());
            assert!(step.had_ready(own) || step.had_ready(lower), "{} was told to go while it was not the only unready one", step.name());
            let highest = step.before.keys().next_back().map(String::as_str);
            assert_eq!(highest, Some(step.name()), "a pod was told to go before a higher one was gone");
        }
    }
}

/// Upstream: burst scaling runs to completion even with unhealthy pods.
#[test]
fn parallel_scaling_heeds_no_unready_pod() {
    let Some(work) = Workload::new("burst") else { return };
    work.run(&in_parallel(web(1)));
    work.break_readiness(0);
    work.scale(3);
    work.until("three pods run", || work.set()["status"]["readyReplicas"] == 2);
    work.mend_readiness(0);
    work.settled();
    work.break_readiness(0);
    work.break_readiness(2);
    work.scale(0);
    work.until("no pod is left", || work.pod_names().is_empty());
}

/// A pod that ends by itself is replaced under its name.
#[test]
fn a_pod_that_has_failed_is_deleted_and_created_anew() {
    let Some(work) = Workload::new("failed-pod") else { return };
    let mut set = web(2);
    set["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sleep", "100000"]);
    set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = json!(null);
    work.run(&set);
    for phase in ["Failed", "Succeeded"] {
        let before = work.pod(0);
        let mut history = work.history();
        work.cluster().call("PATCH", &work.path("pods/ss-0/status"), &json!({"status": {"phase": phase, "reason": "Evicted"}}));
        work.replaced(0, &before);
        let steps = history.until("another ss-0", |step| step.adds() && step.name() == "ss-0");
        let gone = steps.iter().find(|step| step.removes()).expect("the failed pod was deleted first");
        assert_eq!(gone.pod["metadata"]["uid"], before["metadata"]["uid"]);
        work.until_pod(0, "is ready", is_ready);
    }
}
