//! Limits of a namespace, as users meet them through kubectl.

use end_to_end::workload::WEB;
use end_to_end::{Cluster, said};

const LIMITS: &str = r#"
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec:
  limits:
    - {type: Container, default: {cpu: 200m, memory: 64Mi}, defaultRequest: {cpu: 100m, memory: 32Mi}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec:
  hard: {requests.cpu: 250m, pods: "10"}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: important}
value: 1000
"#;

/// The limits, and a set that they concern.
fn limited() -> String {
    let set = WEB.replace("replicas: 3", "replicas: 3\n  podManagementPolicy: Parallel");
    format!("{LIMITS}---{}", set.replace("containers:", "priorityClassName: important\n      containers:"))
}

#[test]
fn a_set_grows_as_far_as_its_quota_allows_and_further_when_that_grows() {
    let cluster = Cluster::simulated(1).running(&limited(), 2);
    let first = cluster.get(&["pod", "--selector", "app=web"])["items"][0].clone();
    assert_eq!(first["spec"]["priority"], 1000);
    assert_eq!(first["spec"]["containers"][0]["resources"]["requests"]["cpu"], "100m");
    cluster.until("the set says why it has no third", || {
        cluster
            .kubectl(&["get", "events"])
            .contains("exceeded quota: quota, requested: requests.cpu=100m, used: requests.cpu=200m, limited: requests.cpu=250m")
    });
    cluster
        .until("the quota shows what is used", || cluster.kubectl(&["get", "resourcequota", "quota"]).contains("requests.cpu: 200m/250m"));
    cluster.kubectl(&["patch", "resourcequota", "quota", "--patch", r#"{"spec":{"hard":{"requests.cpu":"1"}}}"#]);
    cluster.ready("web", 3);
    let classes = cluster.kubectl(&["get", "priorityclasses"]);
    assert!(["important", "system-cluster-critical", "system-node-critical"].iter().all(|name| classes.contains(name)), "{classes}");
    assert!(cluster.kubectl(&["describe", "quota", "quota"]).contains("requests.cpu  300m  1"));
    assert!(cluster.kubectl(&["describe", "limits", "limits"]).contains("200m"));
}

#[test]
fn a_restricted_namespace_refuses_what_it_says() {
    let cluster = Cluster::simulated(1);
    cluster.kubectl(&["label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted"]);
    let refused = cluster.kubectl_command(&["run", "plain", "--image=busybox:1"]).output().expect("kubectl runs");
    let expected = "pods \"plain\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false";
    assert!(!refused.status.success() && said(&refused).contains(expected), "{}", said(&refused));
    let warned = cluster.kubectl_with_input(&["apply", "--filename", "-"], &limited());
    assert!(
        warned.status.success() && said(&warned).contains("Warning: would violate PodSecurity \"restricted:latest\""),
        "{}",
        said(&warned)
    );
}
