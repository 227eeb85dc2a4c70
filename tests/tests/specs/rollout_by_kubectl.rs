//! What kubectl does with a rollout, unmodified.

use serde_json::json;

use crate::workload::{Workload, rolling, uid, web};

#[test]
fn kubectl_tells_the_state_of_a_rollout_in_the_words_for_each_form_of_the_strategy() {
    let Some(work) = Workload::new("rollout-status") else { return };
    work.run(&web(2));
    work.change_image("busybox:2");
    let told = work.kubectl(&["rollout", "status", "statefulset/ss", "--timeout=90s"]);
    let revision = work.rolled_out()["status"]["updateRevision"].as_str().expect("a revision").to_owned();
    assert!(told.contains(&format!("statefulset rolling update complete 2 pods at revision {revision}...")), "{told}");
    work.change(json!({"updateStrategy": rolling(1)}));
    work.change_image("busybox:1");
    let told = work.kubectl(&["rollout", "status", "statefulset/ss", "--timeout=90s"]);
    assert!(told.contains("partitioned roll out complete: 1 new pods have been updated..."), "{told}");
    assert_eq!(work.images(), ["busybox:2", "busybox:1"]);
    work.change(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}));
    let refused = work.kubectl_fails(&["rollout", "status", "statefulset/ss", "--timeout=5s"]);
    assert!(refused.contains("rollout status is only available for RollingUpdate strategy type"), "{refused}");
}

#[test]
fn kubectl_shows_undoes_and_restarts_what_was_rolled_out() {
    let Some(work) = Workload::new("rollout-undo") else { return };
    let first = work.run(&web(1))["status"]["currentRevision"].clone();
    work.kubectl(&["annotate", "statefulset", "ss", "kubernetes.io/change-cause=the second image"]);
    work.change_image("busybox:2");
    work.rolled_out();
    let history = work.kubectl(&["rollout", "history", "statefulset/ss"]);
    assert!(history.contains("1         <none>") && history.contains("2         the second image"), "{history}");
    let detail = work.kubectl(&["rollout", "history", "statefulset/ss", "--revision=2"]);
    assert!(detail.contains("busybox:2"), "{detail}");
    let undone = work.kubectl(&["rollout", "undo", "statefulset/ss"]);
    assert!(undone.contains("rolled back"), "{undone}");
    assert_eq!(work.rolled_out()["status"]["currentRevision"], first);
    assert_eq!(work.images(), ["busybox:1"]);
    // The old revision is the newest now, under its name.
    let history = work.kubectl(&["rollout", "history", "statefulset/ss"]);
    assert!(!history.contains("1  ") && history.contains("2  ") && history.contains("3  "), "{history}");
    work.kubectl(&["rollout", "undo", "statefulset/ss", "--to-revision=2"]);
    assert_ne!(work.rolled_out()["status"]["currentRevision"], first);
    assert_eq!(work.images(), ["busybox:2"]);
    let before = work.pod(0);
    work.kubectl(&["rollout", "restart", "statefulset/ss"]);
    work.kubectl(&["rollout", "status", "statefulset/ss", "--timeout=90s"]);
    let after = work.rolled_out();
    assert_ne!(uid(&work.pod(0)), uid(&before));
    assert!(after["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_string());
}

#[test]
fn kubectl_scales_shows_and_deletes_a_set_as_any_other() {
    let Some(work) = Workload::new("kubectl-scale") else { return };
    work.run(&web(1));
    let refused = work.kubectl_fails(&["scale", "statefulset", "ss", "--current-replicas=5", "--replicas=2"]);
    assert!(refused.contains("Expected replicas to be 5, was 1"), "{refused}");
    work.kubectl(&["scale", "statefulset", "ss", "--replicas=2", "--timeout=90s"]);
    let set = work.settled();
    assert_eq!(set["status"]["replicas"], 2);
    let table = work.kubectl(&["get", "statefulset", "ss", "--output=wide"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAME", "READY", "AGE", "CONTAINERS", "IMAGES"]);
    assert_eq!((words[1][..2].to_vec(), words[1][3..].to_vec()), (vec!["ss", "2/2"], vec!["webserver", "busybox:1"]));
    work.kubectl(&["delete", "statefulset", "ss"]);
    work.until("the pods went with it", || work.pod_names().is_empty() && work.list("controllerrevisions").is_empty());
}
