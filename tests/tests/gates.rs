//! The pre-delete gate and updates in place, on real containers.

use std::process::Output;

use end_to_end::workload::keeping_lives;
use end_to_end::{Cluster, said};

/// A set whose instances write each start into their claim.
fn web(replicas: usize, annotations: &str) -> String {
    keeping_lives(replicas, annotations, "", "")
}

/// A hook that succeeds once `/data/open` is there, and tells what it was told.
const GATE: &str = r#"steadfast.dev/pre-delete: '{"exec":{"command":["sh","-c","test -f /data/open || { echo it is closed; exit 3; }; echo $(REASON) $(POD_NAME) $(ORDINAL) $(REPLICAS) >> /data/left"]}}'"#;

fn uid(cluster: &Cluster, pod: &str) -> String {
    cluster.get(&["pod", pod])["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

fn until_told(cluster: &Cluster, text: &str) {
    cluster.until(text, || cluster.kubectl(&["get", "events", "--output", "jsonpath={.items[*].message}"]).contains(text));
}

#[test]
fn an_update_and_a_scale_down_wait_for_the_hook_and_say_why() {
    let Some(cluster) = Cluster::with_busybox().map(|cluster| cluster.running(&web(2, GATE), 2)) else { return };
    let before = uid(&cluster, "web-1");
    cluster.kubectl(&["set", "env", "statefulset/web", "ROUND=two"]);
    until_told(&cluster, "The pre-delete hook of Pod web-1 for Update failed, and is tried again");
    cluster.until("the set says what it waits for", || {
        let set = cluster.kubectl(&["get", "statefulset", "web", "--output", "yaml"]);
        set.contains("waits for the pre-delete hook of web-1 for Update") && set.contains("it is closed")
    });
    assert_eq!(uid(&cluster, "web-1"), before);
    // The server crashes in between, and the hook is tried on.
    let mut cluster = cluster;
    cluster.kill();
    cluster.up();
    for pod in ["web-0", "web-1"] {
        cluster.shell(pod, "touch /data/open");
    }
    cluster.rolled_out("web");
    assert_ne!(uid(&cluster, "web-1"), before);
    assert_eq!(cluster.shell("web-0", "tail -n 1 /data/left"), "Update web-0 0 2");
    until_told(&cluster, "The pre-delete hook of Pod web-0 for Update succeeded");

    cluster.shell("web-1", "rm /data/open");
    cluster.kubectl(&["scale", "statefulset", "web", "--replicas", "1"]);
    until_told(&cluster, "The pre-delete hook of Pod web-1 for ScaleDown failed, and is tried again");
    cluster.shell("web-1", "touch /data/open");
    cluster.ready("web", 1);
}

fn evict(cluster: &Cluster, pod: &str) -> Output {
    let eviction = format!(r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{pod}", "namespace": "default"}}}}"#);
    let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
    cluster.kubectl_with_input(&["create", "--raw", &path, "--filename", "-"], &eviction)
}

/// A hook that is a pod: it asks the pod that goes for a word, and succeeds if that is what it was told itself.
const JOB: &str = r#"steadfast.dev/pre-delete: '{"timeoutSeconds": 50, "job": {"template": {"spec": {
    "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
    "containers": [{"name": "leave", "image": "busybox:1", "command": ["sh", "-c",
    "word=$(wget -q -O - http://$POD_IP:8080/word); test \"$word\" = \"$REASON $POD_NAME $ORDINAL $REPLICAS\" || { echo it says $word > /dev/termination-log; exit 3; }"]}]}}}}'"#;

#[test]
fn a_hook_that_is_a_pod_reaches_the_pod_that_goes_and_is_tried_until_it_succeeds() {
    let Some(cluster) = Cluster::with_busybox()
        .map(|cluster| cluster.running(&web(2, JOB).replace("exec sleep 100000", "exec httpd -f -p 8080 -h /data"), 2))
    else {
        return;
    };
    let before = uid(&cluster, "web-1");
    cluster.shell("web-1", "echo nothing > /data/word");
    cluster.kubectl(&["set", "env", "statefulset/web", "ROUND=two"]);
    let failed = "The pre-delete hook of Pod web-1 for Update failed, and is tried again: container leave ended with exit code 3";
    until_told(&cluster, &format!("{failed}: it says nothing"));
    assert_eq!(uid(&cluster, "web-1"), before);
    // The server crashes in between, and the hook is tried on.
    let mut cluster = cluster;
    cluster.kill();
    cluster.up();
    for ordinal in 0..2 {
        cluster.shell(&format!("web-{ordinal}"), &format!("echo Update web-{ordinal} {ordinal} 2 > /data/word"));
    }
    cluster.rolled_out("web");
    assert_ne!(uid(&cluster, "web-1"), before);
    until_told(&cluster, "The pre-delete hook of Pod web-0 for Update succeeded");
    cluster.until("the pods of hooks are gone", || {
        cluster.get(&["pods", "--selector", "steadfast.dev/hook-for"])["items"].as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn an_eviction_passes_after_the_hook() {
    let Some(cluster) = Cluster::with_busybox().map(|cluster| cluster.running(&web(2, GATE), 2)) else { return };
    let before = uid(&cluster, "web-1");
    let refused = evict(&cluster, "web-1");
    assert!(!refused.status.success() && said(&refused).contains("pre-delete"), "{}", said(&refused));
    until_told(&cluster, "The pre-delete hook of Pod web-1 for Eviction failed, and is tried again");
    assert!(!evict(&cluster, "web-1").status.success());
    cluster.shell("web-1", "touch /data/open");
    cluster.until("the eviction passes", || evict(&cluster, "web-1").status.success());
    cluster.until("web-1 is another", || {
        cluster
            .kubectl_command(&["get", "pod", "web-1", "--output", "jsonpath={.metadata.uid}"])
            .output()
            .is_ok_and(|output| output.status.success() && output.stdout != before.as_bytes())
    });
    cluster.ready("web", 2);
    assert_eq!(cluster.shell("web-1", "cat /data/left"), "Eviction web-1 1 2");
}

#[test]
fn where_only_the_image_changes_an_instance_keeps_its_pod_address_and_volume() {
    let Some(cluster) = Cluster::with_busybox() else { return };
    cluster.load_second_busybox();
    cluster.apply(&web(2, r#"steadfast.dev/in-place-update: "true""#));
    cluster.ready("web", 2);
    cluster.shell("web-1", "touch /tmp/only-in-this-container");
    let before = cluster.get(&["pod", "web-1"]);
    cluster.kubectl(&["set", "image", "statefulset/web", "web=busybox:2"]);
    cluster.rolled_out("web");
    let after = cluster.get(&["pod", "web-1"]);
    for (kept, what) in
        [(&["metadata", "uid"][..], "the pod"), (&["status", "podIP"], "the address"), (&["status", "startTime"], "its start")]
    {
        let find = |pod: &serde_json::Value| kept.iter().fold(pod.clone(), |value, name| value[*name].clone());
        assert_eq!(find(&before), find(&after), "{what}");
    }
    let container = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0].clone();
    assert_ne!(container(&before)["containerID"], container(&after)["containerID"]);
    assert_eq!((&container(&after)["image"], &container(&after)["restartCount"]), (&"busybox:2".into(), &1.into()));
    assert_eq!(cluster.shell("web-1", "cat /data/lives; ls /tmp"), "web-1\nweb-1");
    assert_ne!(before["metadata"]["labels"]["controller-revision-hash"], after["metadata"]["labels"]["controller-revision-hash"]);
    let marks = after["metadata"]["annotations"].to_string();
    assert!(!marks.contains("in-place"), "{marks}");

    // An image that can't be had stops nothing that runs; the way back is open.
    let old = container(&after)["containerID"].clone();
    cluster.kubectl(&["set", "image", "statefulset/web", "web=localhost:1/nowhere:1"]);
    until_told(&cluster, "localhost:1/nowhere:1");
    let broken = cluster.get(&["pod", "web-1"]);
    assert_eq!(container(&broken)["containerID"], old);
    cluster.kubectl(&["set", "image", "statefulset/web", "web=busybox:1"]);
    cluster.rolled_out("web");
    // Anything else than an image needs another pod.
    let inside = uid(&cluster, "web-0");
    cluster.kubectl(&["set", "env", "statefulset/web", "ROUND=two"]);
    cluster.rolled_out("web");
    assert_ne!(uid(&cluster, "web-0"), inside);
}
