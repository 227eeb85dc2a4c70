use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::documents::documents;

/// A configuration with every kind of list and map in it.
fn configuration() -> impl Strategy<Value = Value> {
    let number = || proptest::option::of(1..3_i32);
    let keys = || subsequence(vec!["a", "b", "c"], 0..=3).prop_shuffle();
    let container = (select(vec!["a", "b", "c"]), number(), keys()).prop_map(|(name, image, env)| {
        let env: Vec<_> = env.into_iter().map(|name| json!({"name": name, "value": "x"})).collect();
        let mut container = json!({"name": name, "env": env});
        if let Some(image) = image {
            container["image"] = json!(format!("image-{image}"));
        }
        container
    });
    let containers = proptest::collection::vec(container, 0..4).prop_map(|mut list| {
        let mut seen = std::collections::HashSet::new();
        list.retain(|item| seen.insert(item["name"].to_string()));
        list
    });
    (number(), keys(), keys(), containers, number()).prop_map(|(replicas, labels, finalizers, containers, toleration)| {
        let mut value = json!({});
        let labels: serde_json::Map<_, _> =
            labels.into_iter().map(|label| (label.to_owned(), json!(replicas.unwrap_or(0).to_string()))).collect();
        if let Some(replicas) = replicas {
            value["spec"]["replicas"] = json!(replicas);
        }
        if !labels.is_empty() {
            value["metadata"]["labels"] = Value::Object(labels);
        }
        if !finalizers.is_empty() {
            value["metadata"]["finalizers"] = json!(finalizers);
        }
        if !containers.is_empty() {
            value["spec"]["template"]["spec"]["containers"] = json!(containers);
        }
        if let Some(toleration) = toleration {
            value["spec"]["template"]["spec"]["tolerations"] = json!([{"key": toleration.to_string()}]);
        }
        value
    })
}

/// What is in an object.
fn content(world: &World) -> Vec<String> {
    let outline = Outline::of(&world.object).unwrap();
    fields::fields(outline.root(), Schema::of(registry::find("apps", "v1", "statefulsets").unwrap())).unwrap().paths()
}

/// Nobody owns what is not there.
fn check_owned(world: &World) {
    let there = content(world);
    for manager in ["one", "two", "three"] {
        for field in world.owned(manager) {
            // What was claimed when it was empty is there when something is in it.
            let within = |path: &String| path.strip_prefix(&field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            assert!(there.iter().any(within), "{manager} owns {field}, which is not there: {}", world.object);
        }
    }
}

fn step() -> impl Strategy<Value = (&'static str, Value)> {
    (select(vec!["one", "two", "three"]), configuration())
}

proptest! {
    #[test]
    fn applying_the_same_twice_changes_nothing(before in proptest::collection::vec(step(), 0..4), last in step()) {
        let mut world = World::sets();
        for (manager, configuration) in before {
            world.force(manager, configuration);
        }
        world.force(last.0, last.1.clone());
        let once = world.clone();
        world.apply(last.0, last.1);
        prop_assert_eq!(world, once);
    }

    #[test]
    fn what_is_applied_is_there_and_owned(before in proptest::collection::vec(step(), 0..4), last in step()) {
        let mut world = World::sets();
        for (manager, configuration) in before {
            world.force(manager, configuration);
        }
        world.force(last.0, last.1.clone());
        let mut alone = World::sets();
        alone.apply("alone", last.1);
        prop_assert_eq!(world.owned(last.0), alone.owned("alone"));
        check_owned(&world);
    }

    #[test]
    fn fields_that_nobody_owns_any_more_go(steps in proptest::collection::vec(step(), 0..6)) {
        let mut world = World::sets();
        for (manager, configuration) in steps {
            world.force(manager, configuration);
        }
        for manager in ["one", "two", "three"] {
            world.apply(manager, json!({}));
        }
        prop_assert_eq!(&world.managed, "");
        prop_assert_eq!(&world.object, "{}");
    }

    #[test]
    fn what_two_own_stays_until_both_let_go(shared in configuration(), own in configuration()) {
        let mut world = World::sets();
        world.apply("one", shared.clone()).apply("two", shared);
        let before = world.value();
        let owned = world.owned("two");
        world.apply("one", json!({}));
        prop_assert_eq!(world.value(), before);
        prop_assert_eq!(world.owned("two"), owned);
        world.force("one", own).apply("two", json!({})).apply("one", json!({}));
        prop_assert_eq!(&world.managed, "");
    }

    #[test]
    fn after_an_update_nobody_owns_what_is_not_there(steps in proptest::collection::vec(step(), 0..4), last in configuration()) {
        let mut world = World::sets();
        for (manager, configuration) in steps {
            world.force(manager, configuration);
        }
        if world.managed.is_empty() {
            return Ok(());
        }
        world.update("editor", last);
        check_owned(&world);
    }

    #[test]
    fn any_kind_applied_twice_is_as_applied_once((resource, documents) in documents(3)) {
        let mut world = World::of_resource(resource);
        for (manager, document) in ["one", "two", "one"].into_iter().zip(documents) {
            world.force(manager, document.clone());
            let once = world.clone();
            world.apply(manager, document);
            prop_assert_eq!(&world, &once);
        }
    }

    #[test]
    fn of_any_kind_nothing_is_left_when_all_let_go((resource, documents) in documents(4)) {
        let mut world = World::of_resource(resource);
        for (manager, document) in ["one", "two", "three", "one"].into_iter().zip(documents) {
            world.force(manager, document);
        }
        for manager in ["two", "one", "three"] {
            world.apply(manager, json!({}));
        }
        prop_assert_eq!((world.object.as_str(), world.managed.as_str()), ("{}", ""));
    }

    #[test]
    fn of_any_kind_what_two_own_stays_until_both_let_go((resource, documents) in documents(2)) {
        let [shared, own] = documents.as_slice() else { unreachable!("two were asked for") };
        let mut world = World::of_resource(resource);
        world.apply("one", shared.clone()).apply("two", shared.clone());
        let (before, owned) = (world.value(), world.owned("two"));
        world.apply("one", json!({}));
        prop_assert_eq!((world.value(), world.owned("two")), (before, owned));
        world.force("one", own.clone()).apply("two", json!({})).apply("one", json!({}));
        prop_assert_eq!((world.object.as_str(), world.managed.as_str()), ("{}", ""));
    }

    #[test]
    fn of_any_kind_an_update_to_what_is_there_owns_nothing((resource, documents) in documents(2)) {
        let [applied, updated] = documents.as_slice() else { unreachable!("two were asked for") };
        let mut world = World::of_resource(resource);
        world.apply("one", applied.clone()).update("editor", updated.clone());
        let before = world.clone();
        world.update("idle", updated.clone());
        prop_assert_eq!(world, before);
    }
}
