//! Pods that their node does not take.

use serde_json::{Value, json};

use crate::workload::{Workload, is_ready, uid, web};

/// A port of the node that only this test uses.
const PORT: u16 = 21_017;

fn with_port(container: &mut Value) {
    container["ports"] = json!([{"containerPort": PORT, "hostPort": PORT}]);
}

/// Upstream: a set whose pod was evicted gets it back.
#[test]
fn a_pod_that_its_node_refuses_is_deleted_and_tried_again_until_it_is_taken() {
    let Some(work) = Workload::new("refused") else { return };
    let mut container = json!({"name": "blocker", "image": "busybox:1", "command": ["sleep", "100000"]});
    with_port(&mut container);
    let spec = json!({"nodeName": "node-a", "terminationGracePeriodSeconds": 0, "containers": [container]});
    work.create("pods", &json!({"metadata": {"name": "blocker"}, "spec": spec}));
    work.until("the blocker runs", || is_ready(&work.get("pods/blocker")));
    let mut set = web(1);
    // Bound past the scheduler, which would have waited for the port.
    set["spec"]["template"]["spec"]["nodeName"] = json!("node-a");
    with_port(&mut set["spec"]["template"]["spec"]["containers"][0]);
    let mut history = work.history();
    work.create("statefulsets", &set);
    let is_first = |name: &str| name == "ss-0";
    let steps = history.until("the first ss-0 is gone", |step| step.removes() && is_first(step.name()));
    let failed = steps.iter().find(|step| is_first(step.name()) && step.pod["status"]["phase"] == "Failed").expect("the node refused it");
    assert_eq!(failed.pod["status"]["reason"], "NodePorts");
    let first = uid(&failed.pod).to_owned();
    work.delete("pods/blocker");
    work.settled();
    assert_ne!(uid(&work.pod(0)), first);
    assert_eq!(work.pod(0)["status"]["phase"], "Running");
}
