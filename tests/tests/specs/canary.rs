//! Updates that stop at a partition.

use serde_json::{Value, json};

use crate::workload::{Workload, image, rolling, web, with_partition};

/// Upstream: canary updates and phased rolling updates.
#[test]
fn a_canary_stays_where_the_partition_is_and_moves_with_it() {
    let Some(work) = Workload::new("canary") else { return };
    let set = work.run(&with_partition(web(3), 3));
    let first = set["status"]["currentRevision"].clone();
    work.change_image("busybox:2");
    let set = work.observed();
    assert_ne!(set["status"]["updateRevision"], first);
    assert_eq!(work.images(), ["busybox:1"; 3]);
    // One canary.
    let before = work.pod(2);
    work.change(json!({"updateStrategy": rolling(2)}));
    work.replaced(2, &before);
    work.settled();
    assert_eq!(work.images(), ["busybox:1", "busybox:1", "busybox:2"]);
    // Each comes back as what it was.
    let before = [work.pod(0), work.pod(2)];
    work.delete("pods/ss-0");
    work.delete("pods/ss-2");
    work.replaced(0, &before[0]);
    work.replaced(2, &before[1]);
    let set = work.settled();
    assert_eq!(work.images(), ["busybox:1", "busybox:1", "busybox:2"]);
    assert_eq!([&set["status"]["currentReplicas"], &set["status"]["updatedReplicas"]], [2, 1]);
    assert_eq!(set["status"]["currentRevision"], first);
    // Step by step.
    for (partition, images) in [(1, ["busybox:1", "busybox:2", "busybox:2"]), (0, ["busybox:2"; 3])] {
        let before = work.pod(partition);
        work.change(json!({"updateStrategy": rolling(partition)}));
        work.replaced(partition, &before);
        work.settled();
        assert_eq!(work.images(), images);
    }
    assert_ne!(work.rolled_out()["status"]["currentRevision"], first);
}

/// Upstream: a pod below the partition that is deleted during the update, its going held up by a finalizer.
#[test]
fn a_pod_held_by_a_finalizer_comes_back_at_the_old_revision_below_the_partition() {
    let Some(work) = Workload::new("canary-finalizer") else { return };
    delete_the_first_during_the_update(&work, |_| {});
}

/// Upstream: the same, and the update brings a container that fails.
#[test]
fn a_pod_held_by_a_finalizer_comes_back_at_the_old_revision_when_the_new_one_fails() {
    let Some(work) = Workload::new("canary-failing") else { return };
    let fails = |spec: &mut Value| {
        let failing = json!({"name": "failing", "image": "busybox:1", "command": ["sh", "-c", "exit 1"]});
        spec["containers"].as_array_mut().expect("containers").push(failing);
    };
    delete_the_first_during_the_update(&work, fails);
}

fn delete_the_first_during_the_update(work: &Workload, change: impl Fn(&mut Value)) {
    const HOLD: &str = "example.com/hold";
    let set = work.run(&with_partition(web(3), 1));
    let first = set["status"]["currentRevision"].clone();
    let before = [work.pod(0), work.pod(2)];
    work.patch("pods/ss-0", json!({"metadata": {"finalizers": [HOLD]}}));
    let mut template = set["spec"]["template"]["spec"].clone();
    template["containers"][0]["image"] = json!("busybox:2");
    change(&mut template);
    work.change(json!({"template": {"spec": template}}));
    work.until_pod(2, "is at the new revision", |pod| image(pod) == "busybox:2" && pod["metadata"]["uid"] != before[1]["metadata"]["uid"]);
    work.delete("pods/ss-0");
    work.until_pod(0, "is about to go", |pod| pod["metadata"]["deletionTimestamp"].is_string());
    work.patch("pods/ss-0", json!({"metadata": {"finalizers": null}}));
    let back = work.replaced(0, &before[0]);
    assert_eq!(image(&back), "busybox:1");
    assert_eq!(back["metadata"]["labels"]["controller-revision-hash"], first);
    assert_eq!(work.set()["status"]["currentRevision"], first);
}
