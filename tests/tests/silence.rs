//! A node that falls silent.

use end_to_end::Cluster;
use serde_json::{Value, json};

const SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 0}]
      containers: [{name: web, image: "busybox:1"}]
"#;
const POD: &str = "/api/v1/namespaces/default/pods/web-0";

/// A node that nobody runs: this test speaks for it as long as it lives.
fn join(cluster: &Cluster, name: &str) {
    let now =
        cluster.call("POST", "/api/v1/nodes", &json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}))["metadata"]
            ["creationTimestamp"]
            .clone();
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now});
    let amounts = json!({"cpu": "4", "memory": "4Gi", "pods": "110"});
    let status = json!({"conditions": [ready], "capacity": amounts, "allocatable": amounts});
    cluster.call("PATCH", &format!("/api/v1/nodes/{name}/status"), &json!({"status": status}));
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40});
    cluster.call(
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
        &json!({"metadata": {"name": name}, "spec": spec}),
    );
}

#[test]
fn an_instance_on_a_silent_node_is_told_to_go_and_never_runs_twice() {
    let cluster = Cluster::simulated(1);
    join(&cluster, "ghost");
    let other = cluster.get(&["nodes"])["items"][0]["metadata"]["name"].as_str().filter(|name| *name != "ghost").map(str::to_owned);
    let other = other.unwrap_or_else(|| cluster.get(&["nodes"])["items"][1]["metadata"]["name"].as_str().expect("a node").to_owned());
    cluster.kubectl(&["cordon", &other]);
    cluster.apply(SET);
    let pod = || cluster.call("GET", POD, &Value::Null);
    cluster.until("the pod is on the node", || {
        let found = cluster.try_call("GET", POD, &Value::Null);
        found.status == 200 && found.json()["spec"]["nodeName"] == "ghost"
    });
    let ready = json!([{"type": "Ready", "status": "True"}]);
    cluster.call("PATCH", &format!("{POD}/status"), &json!({"status": {"phase": "Running", "podIP": "10.99.0.1", "conditions": ready}}));
    cluster.kubectl(&["uncordon", &other]);
    cluster.ready("web", 1);
    let before = pod();
    // Nobody renews the lease.
    cluster.until("the node is found silent", || {
        let node = cluster.call("GET", "/api/v1/nodes/ghost", &Value::Null);
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "Unknown")
    });
    cluster.until("the pod is told to go", || pod()["metadata"]["deletionTimestamp"].is_string());
    let node = cluster.call("GET", "/api/v1/nodes/ghost", &Value::Null);
    assert!(node["spec"]["taints"].to_string().contains("node.kubernetes.io/unreachable"), "{node}");
    assert!(cluster.get(&["nodes", &other])["spec"]["taints"].is_null());
    cluster
        .until("it does not count as ready", || cluster.get(&["statefulset", "web"])["status"]["readyReplicas"].as_u64().unwrap_or(0) == 0);
    // Its end was not confirmed: it may still run, so no other takes its name.
    assert_eq!(pod()["metadata"]["uid"], before["metadata"]["uid"]);
    // Who knows that it is gone says so.
    cluster.kubectl(&["delete", "pod", "web-0", "--force", "--grace-period=0"]);
    cluster.ready("web", 1);
    let after = pod();
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["spec"]["nodeName"], other.as_str());
}
