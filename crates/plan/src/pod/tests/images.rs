//! The image of a running container is changed.

use super::*;

impl World {
    fn change_image(&mut self, container: usize, image: &str) {
        self.pod.spec.as_mut().unwrap().containers[container].image = Some(image.to_owned());
        let name = self.pod.spec.as_ref().unwrap().containers[container].name.clone();
        // As the agent does: what was made for the image before is void.
        self.container(&name).image_for = None;
        self.failures.clear();
    }

    fn fail_image(&mut self, container: &str, attempt: u32) {
        let action = Action::PrepareImage { container: container.to_owned(), attempt };
        let failure = Failure { reason: "ErrImagePull".to_owned(), message: "not found".to_owned(), count: 1, at: self.now };
        self.failures.insert(action, failure);
    }

    fn image(&self) -> &str {
        &self.status().container_statuses.as_ref().unwrap()[0].image
    }
}

fn two() -> World {
    let mut world = World::new(json!({ "containers": [{ "name": "main", "image": "a:1" }, { "name": "other", "image": "b:1" }] }));
    world.settle();
    world
}

#[test]
fn only_that_container_is_replaced_in_the_living_sandbox() {
    let mut world = two();
    world.change_image(0, "a:2");
    world.settle();
    assert_eq!(world.started, ["main-0", "other-0", "main-1"]);
    assert_eq!((world.phase(), world.condition("Ready"), world.image()), ("Running", "True", "a:2"));
    assert!(world.plan().actions.is_empty() && world.sandbox == Sandbox::Ready);
}

#[test]
fn it_is_not_ready_from_then_on_and_runs_until_the_new_image_is_there() {
    let mut world = two();
    world.change_image(0, "a:2");
    let plan = world.plan();
    assert_eq!(plan.actions, [Action::PrepareImage { container: "main".to_owned(), attempt: 1 }]);
    world.pod.status = Some(plan.status);
    assert_eq!((world.condition("Ready"), world.image()), ("False", "a:1"));
    world.apply(Action::PrepareImage { container: "main".to_owned(), attempt: 1 });
    let why = StopReason::ImageChanged;
    assert_eq!(world.plan().actions, [Action::BeginStop { container: "main".to_owned(), attempt: 0, grace_seconds: 30, why }]);
}

#[test]
fn an_image_that_can_not_be_had_stops_nothing_and_is_told_of() {
    let mut world = two();
    world.change_image(0, "a:2");
    world.fail_image("main", 1);
    world.settle();
    assert!(world.containers["main"].running().is_some());
    let conditions = world.status().conditions.clone().unwrap();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    let told = "containers with unready status: [main]; container main can't get its new image: ErrImagePull: not found";
    assert_eq!((ready.status.as_str(), ready.message.as_deref()), ("False", Some(told)));
    world.change_image(0, "a:1");
    world.settle();
    assert_eq!((world.condition("Ready"), world.started.len()), ("True", 2), "the way back needs no restart");
}

#[test]
fn crashes_of_the_image_before_do_not_delay_the_new_one() {
    let mut world = two();
    for _ in 0..3 {
        world.exit("main", 1);
        world.wait(40);
    }
    world.exit("main", 1);
    world.settle();
    assert!(world.containers["main"].running().is_none(), "it backs off");
    world.change_image(0, "a:2");
    world.settle();
    assert!(world.containers["main"].running().is_some());
}

#[test]
fn it_is_replaced_whatever_the_restart_policy_is() {
    let mut world = World::new(json!({ "restartPolicy": "Never", "containers": [{ "name": "main", "image": "a:1" }] }));
    world.settle();
    world.change_image(0, "a:2");
    world.settle();
    assert_eq!((world.phase(), world.started.clone()), ("Running", vec!["main-0".to_owned(), "main-1".to_owned()]));
}

#[test]
fn a_change_between_preparing_and_starting_starts_the_newest() {
    let mut world = two();
    world.change_image(0, "a:2");
    world.apply(Action::PrepareImage { container: "main".to_owned(), attempt: 1 });
    world.change_image(0, "a:3");
    world.settle();
    assert_eq!((world.image(), world.started.len()), ("a:3", 3));
}

#[test]
fn an_init_container_is_not_run_again() {
    let mut world = World::new(json!({ "initContainers": [{ "name": "init", "image": "i:1" }], "containers": [{ "name": "main" }] }));
    world.settle();
    world.exit("init", 0);
    world.settle();
    world.pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].image = Some("i:2".to_owned());
    world.settle();
    assert_eq!(world.started, ["init-0", "main-0"]);
}
