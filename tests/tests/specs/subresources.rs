//! Scale, status and collections, as any client asks for them.

use serde_json::{Value, json};

use crate::workload::{Workload, image, paused, web};

/// Upstream: a working scale subresource.
#[test]
fn the_scale_is_read_replaced_and_patched() {
    let Some(work) = Workload::new("scale") else { return };
    work.run(&web(1));
    let mut scale = work.get("statefulsets/ss/scale");
    assert_eq!([&scale["kind"], &scale["apiVersion"]], ["Scale", "autoscaling/v1"]);
    assert_eq!([&scale["spec"]["replicas"], &scale["status"]["replicas"]], [1, 1]);
    assert_eq!(scale["status"]["selector"], "app=ss");
    // Without a version the replacement is unconditional.
    scale["metadata"]["resourceVersion"] = json!("");
    scale["spec"]["replicas"] = json!(2);
    let replaced = work.cluster().call("PUT", &work.path("statefulsets/ss/scale"), &scale);
    assert_eq!(replaced["spec"]["replicas"], 2);
    assert_eq!(work.set()["spec"]["replicas"], 2);
    let headers = [("content-type", "application/strategic-merge-patch+json")];
    let patched = work.cluster().ask("PATCH", &work.path("statefulsets/ss/scale"), &headers, br#"{"spec":{"replicas":4}}"#);
    assert_eq!((patched.status, &patched.json()["spec"]["replicas"]), (200, &json!(4)));
    assert_eq!(work.settled()["status"]["replicas"], 4);
}

/// Upstream: list, patch and delete a collection.
#[test]
fn sets_are_listed_in_all_namespaces_patched_and_deleted_as_a_collection() {
    let Some(work) = Workload::new("collection") else { return };
    work.create("statefulsets", &paused(1));
    let everywhere = |label: &str| {
        let list = work.cluster().call("GET", &format!("/apis/apps/v1/statefulsets?labelSelector={label}"), &Value::Null);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter(|set| set["metadata"]["namespace"] == "collection").collect::<Vec<_>>()
    };
    assert_eq!(everywhere("app%3Dss").len(), 1);
    let container = json!({"name": "webserver", "image": "busybox:2"});
    let patch = json!({
        "metadata": {"labels": {"test-ss": "patched"}},
        "spec": {"replicas": 2, "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}},
    });
    let headers = [("content-type", "application/strategic-merge-patch+json")];
    let patched = work.cluster().ask("PATCH", &work.path("statefulsets/ss"), &headers, patch.to_string().as_bytes());
    assert_eq!(patched.status, 200, "{}", patched.text());
    let set = &everywhere("test-ss%3Dpatched")[0];
    assert_eq!(set["spec"]["replicas"], 2);
    let containers = &set["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().map(Vec::len), Some(1), "containers are merged by name");
    assert_eq!([&containers[0]["image"], &containers[0]["readinessProbe"]["periodSeconds"]], [&json!("busybox:2"), &json!(1)]);
    // The first pod was never ready at its revision, so the second one is not waited for.
    work.until_pod(0, "is at the patched revision", |pod| image(pod) == "busybox:2");
    work.cluster().call("DELETE", &work.path("statefulsets?labelSelector=test-ss%3Dpatched"), &Value::Null);
    assert!(everywhere("test-ss%3Dpatched").is_empty());
    work.until("the pods went with it", || work.pod_names().is_empty());
}

/// Upstream: the endpoints of the status. The set has no pods and nothing to report, so the controller leaves the status alone.
#[test]
fn the_status_is_read_replaced_and_patched_apart_from_the_rest() {
    let Some(work) = Workload::new("status") else { return };
    work.run(&web(0));
    let path = work.path("statefulsets/ss/status");
    let version = work.set()["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut watch = work.cluster().watch(&work.path(&format!("statefulsets?watch=true&resourceVersion={version}")));
    let mut told = |kind: &str| {
        let has = |event: &Value| {
            let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == kind)
        };
        assert!(watch.any(|event| has(&event)), "no event tells of {kind}");
    };
    let mut set = work.cluster().call("GET", &path, &Value::Null);
    assert_eq!([&set["kind"], &set["status"]["replicas"]], [&json!("StatefulSet"), &json!(0)]);
    let condition = |kind: &str| json!([{"type": kind, "status": "True", "reason": "E2E", "message": "Set from e2e test"}]);
    set["status"]["conditions"] = condition("StatusUpdate");
    set["spec"]["replicas"] = json!(7);
    let replaced = work.cluster().call("PUT", &path, &set);
    assert_eq!(replaced["spec"]["replicas"], 0, "a status says nothing of the specification");
    told("StatusUpdate");
    work.cluster().call("PATCH", &path, &json!({"status": {"conditions": condition("StatusPatched")}, "spec": {"replicas": 7}}));
    told("StatusPatched");
    // And the other way round.
    let patched = work.patch("statefulsets/ss", json!({"status": {"replicas": 9}, "metadata": {"labels": {"a": "b"}}}));
    assert_eq!([&patched["status"]["replicas"], &patched["spec"]["replicas"]], [0, 0]);
    for (status, text) in [
        (json!({"replicas": -1}), "status.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (json!({"replicas": 1, "readyReplicas": 2}), "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"),
        (
            json!({"replicas": 1, "readyReplicas": 0, "availableReplicas": 1}),
            "status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas",
        ),
    ] {
        let refused = work.cluster().try_call("PATCH", &path, &json!({"status": status}));
        assert_eq!(refused.status, 422);
        assert!(refused.text().contains(text), "{}", refused.text());
    }
}
