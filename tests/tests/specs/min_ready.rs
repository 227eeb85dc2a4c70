//! How long a pod must be ready to count.

use serde_json::json;

use crate::workload::{Workload, web};

/// Upstream: minReadySeconds is honoured, and the status tells how many are available.
#[test]
fn a_ready_pod_is_available_only_after_the_time_that_is_asked_for() {
    let Some(work) = Workload::new("min-ready") else { return };
    let mut set = web(2);
    set["spec"]["minReadySeconds"] = json!(3600);
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    let set = work.run(&set);
    // Always told, also when there are none.
    assert_eq!(set["status"]["availableReplicas"], 0);
    assert!(work.kubectl(&["get", "statefulset", "ss", "--output=yaml"]).contains("availableReplicas: 0"));
    work.change(json!({"minReadySeconds": 1}));
    work.until("both are available", || work.set()["status"]["availableReplicas"] == 2);
    let probe = |pod: &str| work.get(&format!("pods/{pod}"))["metadata"]["uid"].clone();
    let before = [probe("ss-0"), probe("ss-1")];
    work.change(json!({"minReadySeconds": 3600}));
    work.until("none is available", || work.set()["status"]["availableReplicas"] == 0);
    assert_eq!(work.set()["status"]["readyReplicas"], 2);
    work.change(json!({"minReadySeconds": 0}));
    work.until("both are available again", || work.set()["status"]["availableReplicas"] == 2);
    assert_eq!([probe("ss-0"), probe("ss-1")], before);
}

/// In order, the next instance waits until the one before is available; when the time is no longer asked for, it comes.
#[test]
fn an_ordered_set_waits_for_availability_and_not_only_for_readiness() {
    let Some(work) = Workload::new("min-ready-ordered") else { return };
    let mut set = web(2);
    set["spec"]["minReadySeconds"] = json!(3600);
    work.create("statefulsets", &set);
    work.until("the first is ready", || work.set()["status"]["readyReplicas"] == 1);
    assert_eq!(work.pod_names(), ["ss-0"]);
    work.change(json!({"minReadySeconds": 0}));
    work.settled();
    // An update waits for it likewise.
    work.change(json!({"minReadySeconds": 2}));
    work.change_image("busybox:2");
    work.rolled_out();
    assert_eq!(work.images(), ["busybox:2"; 2]);
}
