use kinds::registry;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{PatchType, apply};
use crate::documents::documents;
use crate::error::ApiError;

fn patched(kind: PatchType, plural: &str, current: &Value, patch: &Value) -> Result<Value, ApiError> {
    let resource = registry::RESOURCES.iter().find(|row| row.plural == plural).unwrap();
    apply(kind, resource, current, patch.to_string().as_bytes())
}

fn strategic(plural: &str, current: Value, patch: Value) -> Value {
    patched(PatchType::Strategic, plural, &current, &patch).unwrap()
}

fn refusal(kind: PatchType, patch: Value) -> (u16, &'static str) {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}, "list": [1]});
    patched(kind, "pods", &pod, &patch).unwrap_err().code_and_reason()
}

#[test]
fn containers_merge_by_name_and_new_ones_come_first() {
    let current = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
    let patch = json!({"spec": {"containers": [{"name": "c", "image": "z"}, {"name": "b", "image": "w"}]}});
    let containers = json!([{"name": "c", "image": "z"}, {"name": "a", "image": "x"}, {"name": "b", "image": "w"}]);
    assert_eq!(strategic("pods", current, patch), json!({"spec": {"containers": containers}}));
}

#[test]
fn the_types_are_found_through_a_stateful_sets_template() {
    let of = |env: Value| json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "env": env}]}}}});
    let current = of(json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
    let patch = of(json!([{"name": "B", "value": "3"}, {"name": "A", "$patch": "delete"}]));
    assert_eq!(strategic("statefulsets", current, patch), of(json!([{"name": "B", "value": "3"}])));
}

#[test]
fn rollout_undo_replaces_the_template_as_a_whole() {
    let current = json!({"spec": {"replicas": 2, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"hostname": "x"}}}});
    let patch = json!({"spec": {"template": {"spec": {"subdomain": "y"}, "$patch": "replace"}}});
    assert_eq!(strategic("statefulsets", current, patch), json!({"spec": {"replicas": 2, "template": {"spec": {"subdomain": "y"}}}}));
}

#[test]
fn the_directives_do_what_they_say() {
    let volumes = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let retain = json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]}});
    assert_eq!(strategic("pods", volumes, retain), json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}));

    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let delete = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}});
    assert_eq!(strategic("pods", finalizers(json!(["a/b", "c/d"])), delete), finalizers(json!(["c/d"])));
    assert_eq!(strategic("pods", finalizers(json!(["a/b"])), finalizers(json!(["c/d", "a/b"]))), finalizers(json!(["c/d", "a/b"])));

    let ports = |list: Value| json!({"spec": {"ports": list}});
    let replace = ports(json!([{"port": 3}, {"$patch": "replace"}]));
    assert_eq!(strategic("services", ports(json!([{"port": 1}])), replace), ports(json!([{"port": 3}])));
    let gone = json!({"metadata": {"labels": {"$patch": "delete"}}});
    assert_eq!(strategic("pods", json!({"metadata": {"labels": {"a": "b"}}}), gone), json!({"metadata": {"labels": {}}}));
}

#[test]
fn deletions_in_what_is_new_leave_nothing() {
    let ports = json!([{"containerPort": 80, "$patch": "delete"}, {"containerPort": 81}]);
    let container = json!({"name": "a", "ports": ports, "resources": {"$patch": "delete"}});
    let patch = json!({"spec": {"containers": [container], "securityContext": {"$patch": "delete"}}});
    let expected = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 81}]}]}});
    let once = strategic("pods", json!({"spec": {}}), patch.clone());
    assert_eq!(once, expected);
    assert_eq!(strategic("pods", once, patch), expected);
}

#[test]
fn kubectl_apply_orders_a_list_by_its_set_element_order() {
    let current = json!({"spec": {"containers": [{"name": "a"}, {"name": "injected"}, {"name": "b"}]}});
    let order = json!([{"name": "b"}, {"name": "a"}]);
    let patch = json!({"spec": {"$setElementOrder/containers": order, "containers": [{"name": "a", "image": "x"}]}});
    let containers = json!([{"name": "injected"}, {"name": "b"}, {"name": "a", "image": "x"}]);
    assert_eq!(strategic("pods", current, patch), json!({"spec": {"containers": containers}}));
}

#[test]
fn lists_without_a_merge_key_are_replaced() {
    let args = |list: Value| json!({"spec": {"containers": [{"name": "a", "args": list}]}});
    assert_eq!(strategic("pods", args(json!(["x", "y"])), args(json!(["z"]))), args(json!(["z"])));
}

#[test]
fn patches_that_cannot_be_carried_out_get_upstreams_codes() {
    use PatchType::{Json, Merge, Strategic};
    for (kind, patch, code) in [
        (Json, json!({"op": "add"}), 400),
        (Json, json!([{"op": "test", "path": "/spec", "value": 1}]), 422),
        (Json, json!([{"op": "remove", "path": "/none"}]), 422),
        (Json, json!([{"op": "fly", "path": "/none"}]), 400),
        (Json, Value::Array(vec![json!({"op": "test", "path": "/list", "value": [1]}); 10_001]), 413),
        (Json, Value::Array(vec![json!({"op": "copy", "from": "/list", "path": "/list/-"}); 100]), 422),
        (Json, Value::Array(vec![json!({"op": "copy", "from": "", "path": "/x"}); 300]), 422),
        (Merge, json!([]), 400),
        (Strategic, json!("text"), 400),
        (Strategic, json!({"spec": {"containers": [{"image": "x"}]}}), 500),
        (Strategic, json!({"spec": {"initContainers": [{"image": "x"}]}}), 500),
        (Strategic, json!({"spec": {"$patch": "explode"}}), 500),
        (Strategic, json!({"spec": {"containers": [[]]}}), 422),
        (Strategic, json!({"spec": {"$retainKeys": "x"}}), 400),
        (Strategic, json!({"spec": {"$retainKeys": [], "hostname": "x"}}), 422),
        (Strategic, json!({"spec": {"$setElementOrder/containers": 1}}), 400),
    ] {
        assert_eq!(refusal(kind, patch.clone()).0, code, "{kind:?} {patch:.200}");
    }
}

#[test]
fn a_missing_merge_key_is_named() {
    let patch = json!({"spec": {"containers": [{"image": "x", "tty": true}]}});
    let error = patched(PatchType::Strategic, "pods", &json!({"spec": {"containers": []}}), &patch).unwrap_err();
    assert_eq!(error.to_string(), "map: map[image:x tty:true] does not contain declared merge key: name");
}

/// Any JSON up to some depth, with field names that the types and the directives know.
fn any_json(lists: bool) -> impl Strategy<Value = Value> {
    let names = if lists {
        "spec|containers|name|env|volumes|metadata|finalizers|\\$patch|\\$retainKeys|\\$setElementOrder/containers|\\$deleteFromPrimitiveList/finalizers"
    } else {
        "spec|metadata|labels|affinity|name|a|b"
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        "a|b|delete|replace".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        let map = prop::collection::hash_map(names, inner.clone(), 0..4).prop_map(|map| map.into_iter().collect());
        if lists { prop_oneof![map, prop::collection::vec(inner, 0..4).prop_map(Value::Array)].boxed() } else { map.boxed() }
    })
}

/// A pod whose lists have unique keys, or a patch to one with directives on them.
fn pod(directives: bool) -> impl Strategy<Value = Value> {
    let patch = if directives { 0..4_usize } else { 0..1 };
    let container = ("[abcd]", prop::option::of("[xy]"), patch).prop_map(|(name, image, patch)| match (image, patch) {
        (_, 1) => json!({"name": name, "$patch": "delete"}),
        (image, 2) => json!({"name": name, "image": image, "$retainKeys": ["name", "image"]}),
        (image, _) => json!({"name": name, "image": image}),
    });
    let containers = prop::collection::vec(container, 0..4).prop_map(|mut list| {
        let mut seen = std::collections::HashSet::new();
        list.retain(|item| seen.insert(item["name"].to_string()));
        list
    });
    (containers, prop::collection::btree_set("[abc]/x", 0..3), any::<bool>()).prop_map(move |(containers, finalizers, ordered)| {
        let mut pod = json!({"metadata": {"finalizers": finalizers}, "spec": {"containers": containers}});
        if directives && ordered {
            let order = containers.iter().map(|item| json!({"name": item["name"]})).collect();
            pod["spec"]["$setElementOrder/containers"] = Value::Array(order);
            pod["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!(["d/x"]);
        }
        pod
    })
}

/// A pod whose lists are merged item by item, and replaced as a whole.
fn listed_pod() -> impl Strategy<Value = Value> {
    use proptest::sample::{select, subsequence};
    let items = |key: &'static str, field: &'static str| {
        (subsequence(vec!["a", "b", "c", "d"], 0..=4).prop_shuffle(), select(vec!["1", "2"]))
            .prop_map(move |(names, value)| names.into_iter().map(|name| json!({key: name, field: value})).collect::<Vec<_>>())
    };
    let finalizers = subsequence(vec!["a/x", "b/x", "c/x"], 0..=3).prop_shuffle();
    let labels = proptest::collection::btree_map("[ab]", "[12]", 0..3);
    (items("name", "image"), items("name", "value"), items("key", "operator"), finalizers, labels).prop_map(
        |(mut containers, env, tolerations, finalizers, labels)| {
            if let Some(first) = containers.first_mut() {
                first["env"] = json!(env);
            }
            json!({
                "metadata": {"labels": labels, "finalizers": finalizers},
                "spec": {"containers": containers, "tolerations": tolerations},
            })
        },
    )
}

proptest! {
    #[test]
    fn the_strategic_difference_leads_from_any_document_to_any_other_of_its_kind((resource, pair) in documents(2)) {
        let [from, to] = pair.as_slice() else { unreachable!("two were asked for") };
        let patch = super::difference::difference(from, to, &crate::strategy::shape::of(resource));
        let made = apply(PatchType::Strategic, resource, from, patch.to_string().as_bytes());
        prop_assert_eq!(made.map_err(|error| error.to_string()), Ok(to.clone()), "by {}", patch);
    }

    #[test]
    fn the_strategic_difference_of_two_pods_leads_from_one_to_the_other(from in listed_pod(), to in listed_pod()) {
        let resource = registry::find("", "v1", "pods").unwrap();
        let patch = super::difference::difference(&from, &to, &crate::strategy::shape::of(resource));
        prop_assert_eq!(strategic("pods", from, patch), to);
    }

    #[test]
    fn applying_a_strategic_patch_twice_changes_nothing_more(current in pod(false), patch in pod(true)) {
        let once = strategic("pods", current, patch.clone());
        prop_assert_eq!(strategic("pods", once.clone(), patch), once);
    }

    #[test]
    fn without_lists_and_directives_a_strategic_patch_is_a_merge_patch(current in any_json(false), patch in any_json(false)) {
        prop_assume!(patch.is_object());
        let merged = patched(PatchType::Merge, "pods", &current, &patch).unwrap();
        prop_assert_eq!(strategic("pods", current, patch), merged);
    }

    #[test]
    fn no_patch_makes_it_panic(current in any_json(true), patch in any_json(true)) {
        for kind in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
            let _ = patched(kind, "pods", &current, &patch);
        }
    }
}
