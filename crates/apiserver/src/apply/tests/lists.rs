use super::*;

fn containers(list: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": list}}}})
}

fn images(world: &World) -> Vec<(String, Value)> {
    let value = world.value();
    let list = value.pointer("/spec/template/spec/containers").and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().map(|item| (item["name"].as_str().unwrap_or_default().to_owned(), item["image"].clone())).collect()
}

#[test]
fn items_with_keys_have_owners_of_their_own() {
    let mut world = World::sets();
    world.apply("one", containers(json!([{"name": "a", "image": "x"}])));
    world.apply("other", containers(json!([{"name": "b", "image": "y"}, {"name": "a", "tty": true}])));
    let expected = |image: &str| json!(image);
    assert_eq!(images(&world), [("b".to_owned(), expected("y")), ("a".to_owned(), expected("x"))]);
    assert_eq!(
        world.conflicts("other", containers(json!([{"name": "a", "image": "z"}]))),
        ["\"one\": .spec.template.spec.containers[name=\"a\"].image"]
    );
    world.apply("one", json!({}));
    // The item is the other's, too: what was only the first one's in it goes.
    assert_eq!(images(&world), [("b".to_owned(), expected("y")), ("a".to_owned(), Value::Null)]);
    world.apply("other", containers(json!([{"name": "b", "image": "y"}])));
    assert_eq!(images(&world), [("b".to_owned(), expected("y"))]);
}

#[test]
fn a_key_that_is_left_out_has_its_default() {
    let mut world = World::of("", "services");
    world.apply("one", json!({"spec": {"ports": [{"port": 80}]}}));
    assert_eq!(world.owned("one")[0], ".spec.ports[port=80,protocol=\"TCP\"]");
    world.apply("other", json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}]}}));
    assert_eq!(world.value()["spec"]["ports"].as_array().unwrap().len(), 1);
    world.apply("other", json!({"spec": {"ports": [{"port": 80, "protocol": "UDP"}]}}));
    assert_eq!(world.value()["spec"]["ports"].as_array().unwrap().len(), 2);
}

#[test]
fn items_of_a_set_are_owned_one_by_one() {
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let mut world = World::sets();
    world.apply("one", finalizers(json!(["a/x", "b/x"]))).apply("other", finalizers(json!(["b/x", "c/x"])));
    assert_eq!(world.value()["metadata"]["finalizers"], json!(["a/x", "b/x", "c/x"]));
    assert_eq!(world.owned("one"), [".metadata.finalizers[=\"a/x\"]", ".metadata.finalizers[=\"b/x\"]"]);
    world.apply("one", json!({}));
    assert_eq!(world.value()["metadata"]["finalizers"], json!(["b/x", "c/x"]));
}

#[test]
fn atomic_lists_and_maps_have_one_owner() {
    for (configuration, changed, field) in [
        (
            json!({"spec": {"template": {"spec": {"tolerations": [{"key": "a"}]}}}}),
            json!({"spec": {"template": {"spec": {"tolerations": [{"key": "b"}]}}}}),
            ".spec.template.spec.tolerations",
        ),
        (
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
            json!({"spec": {"selector": {"matchLabels": {"a": "b", "c": "d"}}}}),
            ".spec.selector",
        ),
        (
            json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}),
            json!({"spec": {"template": {"spec": {"nodeSelector": {"c": "d"}}}}}),
            ".spec.template.spec.nodeSelector",
        ),
    ] {
        let mut world = World::sets();
        world.apply("one", configuration);
        assert_eq!(world.owned("one"), [field]);
        assert_eq!(world.conflicts("other", changed.clone()), [format!("\"one\": {field}")]);
        world.force("other", changed.clone());
        assert_eq!((world.value(), world.owned("one")), (changed, vec![]));
    }
}

#[test]
fn keys_of_a_map_have_owners_of_their_own() {
    let mut world = World::of("", "configmaps");
    world.apply("one", json!({"data": {"a": "1", "c": "3"}})).apply("other", json!({"data": {"b": "2"}}));
    assert_eq!(world.conflicts("other", json!({"data": {"a": "2"}})), ["\"one\": .data.a"]);
    world.apply("one", json!({"data": {"c": "3"}}));
    assert_eq!(world.value(), json!({"data": {"b": "2", "c": "3"}}));
}

#[test]
fn names_with_any_characters_are_kept_apart() {
    let mut world = World::sets();
    world.apply("a \"quoted\" \\ one", labels(json!({"a\"b\\": "1", "ü": "2"})));
    assert_eq!(world.conflicts("b", labels(json!({"a\"b\\": "2"}))), ["\"a \\\"quoted\\\" \\\\ one\": .metadata.labels.a\"b\\"]);
    world.apply("a \"quoted\" \\ one", labels(json!({"ü": "2"})));
    assert_eq!(world.value(), labels(json!({"ü": "2"})));
}

#[test]
fn an_item_that_is_there_twice_is_owned_as_a_pair() {
    let env = |list: Value| containers(json!([{"name": "a", "env": list}]));
    let mut world = World::sets();
    world.update("one", env(json!([{"name": "X", "value": "1"}, {"name": "X", "value": "2"}])));
    assert!(world.owned("one").contains(&".spec.template.spec.containers[name=\"a\"].env[name=\"X\"]".to_owned()));
    world.force("other", env(json!([{"name": "X", "value": "3"}])));
    let value = world.value();
    assert_eq!(value.pointer("/spec/template/spec/containers/0/env").unwrap(), &json!([{"name": "X", "value": "3"}]));
}

#[test]
fn null_is_a_value_one_can_own() {
    let mut world = World::sets();
    world.apply("one", json!({"spec": {"replicas": null, "serviceName": "web"}}));
    assert_eq!(world.owned("one"), [".spec.replicas", ".spec.serviceName"]);
    assert_eq!(world.conflicts("other", replicas(1)), ["\"one\": .spec.replicas"]);
}
