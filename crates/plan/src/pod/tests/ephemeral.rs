//! Containers are added to a pod while it runs.

use super::*;

impl World {
    fn add(&mut self, name: &str) {
        let added: k8s_openapi::api::core::v1::EphemeralContainer =
            serde_json::from_value(json!({ "name": name, "image": "d:1" })).unwrap();
        self.pod.spec.as_mut().unwrap().ephemeral_containers.get_or_insert_default().push(added);
    }

    fn added_state(&self, index: usize) -> String {
        let status = &self.status().ephemeral_container_statuses.as_ref().unwrap()[index];
        json!(status.state).as_object().unwrap().keys().next().cloned().unwrap_or_default()
    }
}

fn with_one() -> World {
    let mut world = World::new(json!({ "containers": [{ "name": "main", "image": "a:1" }] }));
    world.settle();
    world.add("debug");
    world.settle();
    world
}

#[test]
fn they_start_beside_the_others_and_change_nothing_of_the_pod() {
    let world = with_one();
    assert_eq!(world.started, ["main-0", "debug-0"]);
    assert_eq!((world.added_state(0).as_str(), world.phase(), world.condition("Ready")), ("running", "Running", "True"));
    assert!(world.plan().actions.is_empty());
}

#[test]
fn they_run_once_whatever_the_restart_policy_and_however_they_end() {
    for code in [0, 1] {
        let mut world = with_one();
        world.exit("debug", code);
        world.wait(1000);
        assert_eq!(world.started, ["main-0", "debug-0"]);
        assert_eq!((world.added_state(0).as_str(), world.phase(), world.condition("Ready")), ("terminated", "Running", "True"));
    }
}

#[test]
fn one_that_has_ended_is_not_started_in_a_new_sandbox() {
    let mut world = with_one();
    world.lose_sandbox(Sandbox::Lost);
    world.wait(1000);
    assert_eq!(world.started, ["main-0", "debug-0", "main-1"]);
}

#[test]
fn they_start_also_while_the_pod_is_not_initialized() {
    let mut world = World::new(json!({ "initContainers": [{ "name": "first" }], "containers": [{ "name": "main" }] }));
    world.settle();
    world.add("debug");
    world.settle();
    assert_eq!(world.started, ["first-0", "debug-0"]);
    assert_eq!(world.phase(), "Pending");
}

#[test]
fn a_pod_is_over_with_its_containers_and_ends_those_that_were_added() {
    let mut world = World::new(json!({ "restartPolicy": "Never", "containers": [{ "name": "main" }] }));
    world.settle();
    world.add("debug");
    world.settle();
    world.exit("main", 0);
    world.settle();
    assert_eq!((world.phase(), world.added_state(0).as_str()), ("Succeeded", "terminated"));
}
