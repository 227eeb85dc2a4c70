use super::*;

#[test]
fn who_applies_fields_owns_them_and_touches_nothing_else() {
    let mut world = World::sets();
    world.update("someone", json!({"metadata": {"labels": {"a": "1"}}, "spec": {"serviceName": "web"}}));
    world.apply("me", json!({"metadata": {"name": "web", "labels": {"b": "2"}}, "spec": {"replicas": 2}}));
    assert_eq!(
        world.value(),
        json!({"metadata": {"name": "web", "labels": {"a": "1", "b": "2"}}, "spec": {"serviceName": "web", "replicas": 2}})
    );
    assert_eq!(world.owned("me"), [".metadata.labels.b", ".spec.replicas"]);
    assert_eq!(world.owned("someone"), [".metadata.labels", ".metadata.labels.a", ".spec.serviceName"]);
}

#[test]
fn changing_what_another_owns_is_a_conflict_and_changes_nothing() {
    let mut world = World::sets();
    world.apply("one", replicas(1));
    let before = world.clone();
    assert_eq!(world.conflicts("other", replicas(2)), ["\"one\": .spec.replicas"]);
    assert_eq!(world, before);
    world.update("editor", replicas(3));
    assert_eq!(world.conflicts("one", replicas(1)), ["\"editor\" using apps/v1: .spec.replicas"]);
}

#[test]
fn applying_what_is_there_already_shares_it() {
    let mut world = World::sets();
    world.apply("one", replicas(1)).apply("other", replicas(1));
    assert_eq!((world.owned("one"), world.owned("other")), (vec![".spec.replicas".to_owned()], vec![".spec.replicas".to_owned()]));
    assert_eq!(world.conflicts("one", replicas(2)), ["\"other\": .spec.replicas"]);
}

#[test]
fn force_takes_the_field_from_its_owner() {
    let mut world = World::sets();
    world.apply("one", json!({"spec": {"replicas": 1, "serviceName": "web"}})).force("other", replicas(2));
    assert_eq!(world.value()["spec"]["replicas"], 2);
    assert_eq!((world.owned("one"), world.owned("other")), (vec![".spec.serviceName".to_owned()], vec![".spec.replicas".to_owned()]));
}

#[test]
fn giving_up_a_field_leaves_it_to_its_other_owner() {
    let mut world = World::sets();
    world.apply("one", replicas(1)).apply("other", replicas(1)).apply("one", json!({}));
    assert_eq!((world.value()["spec"]["replicas"].clone(), world.owned("one")), (json!(1), vec![]));
    world.apply("other", json!({}));
    assert_eq!((world.value(), world.managed.as_str()), (json!({}), ""));
}

#[test]
fn an_update_takes_what_it_changes_and_only_that() {
    let mut world = World::sets();
    world.apply("one", json!({"spec": {"replicas": 1, "serviceName": "web"}}));
    world.update("editor", json!({"spec": {"replicas": 5, "serviceName": "web"}}));
    assert_eq!((world.owned("one"), world.owned("editor")), (vec![".spec.serviceName".to_owned()], vec![".spec.replicas".to_owned()]));
    let before = world.managed.clone();
    world.update("idle", json!({"spec": {"replicas": 5, "serviceName": "web"}}));
    assert_eq!(world.managed, before);
}

#[test]
fn removing_a_field_takes_it_from_all_its_owners() {
    let mut world = World::sets();
    world.apply("one", json!({"spec": {"replicas": 1, "serviceName": "web"}})).apply("other", replicas(1));
    world.update("editor", json!({"spec": {"serviceName": "web"}}));
    assert_eq!((world.owned("one"), world.owned("other"), world.owned("editor")), (vec![".spec.serviceName".to_owned()], vec![], vec![]));
}

#[test]
fn what_only_defaults_are_left_of_goes_with_its_last_owner() {
    let mut world = World::sets();
    world.apply("one", json!({"spec": {"replicas": 1, "updateStrategy": {"type": "RollingUpdate"}}}));
    // A default, which nobody owns.
    world.object =
        json!({"spec": {"replicas": 1, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}}).to_string();
    world.clone().apply("one", replicas(1)).assert_spec(json!({"replicas": 1}));
    world.apply("other", json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})).apply("one", replicas(1));
    world.assert_spec(json!({"replicas": 1, "updateStrategy": {"rollingUpdate": {"partition": 0}}}));
}

impl World {
    fn assert_spec(&self, expected: Value) {
        assert_eq!(self.value()["spec"], expected);
    }
}

#[test]
fn an_object_without_account_is_owned_by_who_came_before_the_first_apply() {
    let mut world = World::sets();
    world.object = replicas(1).to_string();
    world.update("editor", replicas(2));
    assert_eq!(world.managed, "", "nobody begins an account by updating");
    let (object, nothing) = (world.object.clone(), Outline::of("{}").unwrap());
    let live = Outline::of(&object).unwrap();
    world.managed = before_first_apply(&world.claim("me", Operation::Apply, ""), &live, &nothing).write();
    assert_eq!(world.conflicts("me", replicas(3)), ["\"before-first-apply\" using apps/v1: .spec.replicas"]);
}

#[test]
fn what_kubectl_applied_before_is_its_own_if_nobody_changed_it() {
    let schema = World::sets().claim("kubectl", Operation::Apply, "").schema;
    let last = last_applied::configuration(r#"{"apiVersion":"apps/v1","spec":{"replicas":1,"serviceName":"web"}}"#, "apps/v1").unwrap();
    let live = json!({"apiVersion": "apps/v1", "spec": {"replicas": 4, "serviceName": "web"}}).to_string();
    let (last, live) = (Outline::of(&last).unwrap(), Outline::of(&live).unwrap());
    assert_eq!(last_applied::untouched(&last, &live, schema).paths(), [".apiVersion", ".spec.serviceName"]);
    assert_eq!(last_applied::configuration(r#"{"apiVersion":"apps/v1beta1"}"#, "apps/v1"), None);
    let configuration = json!({"metadata": {"annotations": {last_applied::ANNOTATION: "old", "a": "b"}}});
    assert_eq!(last_applied::text(&configuration.to_string()), "{\"metadata\":{\"annotations\":{\"a\":\"b\"}}}\n");
}

#[test]
fn accounts_of_another_version_are_left_alone() {
    let mut world = World::sets();
    world.apply("one", replicas(1));
    world.managed = world.managed.replace("apps/v1", "apps/v1beta1");
    let before = world.managed.clone();
    world.update("editor", replicas(2));
    assert!(world.managed.contains(&before[1..before.len() - 1]), "{}", world.managed);
}

#[test]
fn the_oldest_of_many_updaters_become_one() {
    let mut world = World::of("", "configmaps");
    let mut data = serde_json::Map::new();
    for number in 0..13 {
        data.insert(format!("key-{number}"), json!("x"));
        world.update(&format!("editor-{number:02}"), json!({ "data": data }));
    }
    assert_eq!(world.owned("ancient-changes"), [".data", ".data.key-0", ".data.key-1", ".data.key-2", ".data.key-3"]);
    assert_eq!(world.managed.matches("\"manager\"").count(), 10);
    assert_eq!(world.owned("editor-04"), [".data.key-4"]);
}

#[test]
fn unknown_fields_and_wrong_structures_are_named() {
    for (configuration, expected) in [
        (json!({"spec": {"replica": 1}}), ".spec.replica: field not declared in schema"),
        (json!({"spec": {"template": {"spec": {"containers": {}}}}}), ".spec.template.spec.containers: expected list, got {}"),
        (json!({"spec": []}), ".spec: expected map, got []"),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}),
            ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" \
             (and doesn't have default value)",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}}),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
    ] {
        assert_eq!(World::sets().faults(configuration), [expected]);
    }
}

#[test]
fn an_account_that_is_none_is_not_read() {
    for text in [
        "{}",
        r#"[{"manager":"a"}]"#,
        r#"[{"operation":"Delete","fieldsType":"FieldsV1","fieldsV1":{}}]"#,
        r#"[{"operation":"Apply","fieldsType":"FieldsV2"}]"#,
    ] {
        let outline = Outline::of(text).unwrap();
        assert!(Owners::read(&outline).is_none(), "{text}");
    }
}
