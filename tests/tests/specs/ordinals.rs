//! Ordinals that do not begin at zero.

use serde_json::{Value, json};

use crate::workload::{Workload, web};

fn starting_at(mut set: Value, start: u32) -> Value {
    set["spec"]["ordinals"] = json!({"start": start});
    set
}

/// Upstream: setting a start ordinal. The set is there before.
#[test]
fn setting_a_start_moves_the_instances_up() {
    moves("start-set", &web(2), json!({"start": 2}), &["ss-0", "ss-1"], &["ss-2", "ss-3"]);
}

/// Upstream: increasing the start ordinal.
#[test]
fn increasing_the_start_moves_the_instances_up() {
    moves("start-increased", &starting_at(web(2), 2), json!({"start": 4}), &["ss-2", "ss-3"], &["ss-4", "ss-5"]);
}

/// Upstream: decreasing the start ordinal.
#[test]
fn decreasing_the_start_moves_the_instances_down() {
    moves("start-decreased", &starting_at(web(2), 3), json!({"start": 2}), &["ss-3", "ss-4"], &["ss-2", "ss-3"]);
}

/// Upstream: removing the start ordinal.
#[test]
fn removing_the_start_moves_the_instances_to_zero() {
    moves("start-removed", &starting_at(web(2), 3), Value::Null, &["ss-3", "ss-4"], &["ss-0", "ss-1"]);
}

fn moves(namespace: &'static str, set: &Value, ordinals: Value, before: &[&str], after: &[&str]) {
    let Some(work) = Workload::new(namespace) else { return };
    work.run(set);
    assert_eq!(work.pod_names(), before);
    let mut history = work.history();
    work.change(json!({"ordinals": ordinals}));
    work.until("the instances have moved", || work.pod_names() == after);
    let set = work.settled();
    assert_eq!([&set["status"]["replicas"], &set["status"]["readyReplicas"], &set["status"]["availableReplicas"]], [2, 2, 2]);
    // Nobody goes before those who come are ready, and the highest goes first.
    let gone: Vec<_> = before.iter().rev().filter(|name| !after.contains(name)).map(|name| (*name).to_owned()).collect();
    assert_eq!(history.names("DELETED", gone.len()), gone);
    let first = after[0].trim_start_matches("ss-").parse::<u32>().expect("an ordinal");
    for step in history.until_now(&work) {
        assert!(!step.condemns() || step.had_ready(first..first + 2), "{} was told to go too early", step.name());
    }
}

/// A partition counts from the start.
#[test]
fn a_partition_counts_from_the_start() {
    let Some(work) = Workload::new("start-partition") else { return };
    work.run(&crate::workload::with_partition(starting_at(web(2), 5), 1));
    work.change_image("busybox:2");
    work.until("one is updated", || work.images() == ["busybox:1", "busybox:2"]);
    work.settled();
    assert_eq!(work.pod_names(), ["ss-5", "ss-6"]);
}
