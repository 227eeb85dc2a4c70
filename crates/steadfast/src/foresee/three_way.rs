//! The patch that `kubectl apply` makes of a manifest: all that the manifest says, and what it said last time and says no
//! more, deleted.
//!
//! Lists that the server merges item by item need their deletions spelled out; which lists these are is known by their
//! names, and by whether their items have the key.

use kinds::merge_keys::merge_keys_of;
use serde_json::{Map, Value, json};

/// Where `kubectl apply` keeps the last manifest.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How the server is to read a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    Strategic,
    /// Lists are replaced as a whole.
    Merge,
}

impl Patch {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Merge => "application/merge-patch+json",
        }
    }
}

/// The manifest that was applied last, if the live object tells.
pub fn last_applied(live: &Value) -> Option<Value> {
    serde_json::from_str(live["metadata"]["annotations"][LAST_APPLIED].as_str()?).ok()
}

/// The patch from the live object, whatever it is, to what the manifest wants.
pub fn three_way(last: Option<&Value>, wanted: &Value, patch: Patch) -> Value {
    match last {
        Some(last) => patched("", last, wanted, patch),
        None => wanted.clone(),
    }
}

fn patched(field: &str, last: &Value, wanted: &Value, patch: Patch) -> Value {
    match (last, wanted) {
        (Value::Object(last), Value::Object(wanted)) => patched_map(last, wanted, patch).into(),
        (Value::Array(last), Value::Array(wanted)) if patch == Patch::Strategic => match merge_key(field, last, wanted) {
            Some(key) => patched_list(last, wanted, key).into(),
            None => Value::from(wanted.clone()),
        },
        _ => wanted.clone(),
    }
}

fn patched_map(last: &Map<String, Value>, wanted: &Map<String, Value>, patch: Patch) -> Map<String, Value> {
    let mut result: Map<String, Value> = Map::new();
    for (key, value) in wanted {
        let before = last.get(key).unwrap_or(&Value::Null);
        result.insert(key.clone(), patched(key, before, value, patch));
        let gone = match (before, value) {
            (Value::Array(last), Value::Array(wanted)) if patch == Patch::Strategic => gone_values(key, last, wanted),
            _ => Vec::new(),
        };
        if !gone.is_empty() {
            result.insert(format!("$deleteFromPrimitiveList/{key}"), gone.into());
        }
    }
    for key in last.keys().filter(|key| !wanted.contains_key(*key)) {
        result.insert(key.clone(), Value::Null);
    }
    result
}

/// The key by which all items of both lists can be told apart, if the server merges lists of this name.
fn merge_key(field: &str, last: &[Value], wanted: &[Value]) -> Option<&'static str> {
    let fits = |key: &&&str| !key.is_empty() && last.iter().chain(wanted).all(|item| item.get(**key).is_some());
    merge_keys_of(field).iter().find(fits).copied()
}

fn patched_list(last: &[Value], wanted: &[Value], key: &str) -> Vec<Value> {
    let find = |list: &[Value], id: &Value| list.iter().find(|item| item[key] == *id).cloned();
    let kept = wanted.iter().map(|item| match find(last, &item[key]) {
        Some(before) => patched("", &before, item, Patch::Strategic),
        None => item.clone(),
    });
    let gone = last.iter().filter(|item| find(wanted, &item[key]).is_none());
    kept.chain(gone.map(|item| json!({"$patch": "delete", key: item[key]}))).collect()
}

/// The plain values that are to be taken out of a list that the server merges as a set.
fn gone_values(field: &str, last: &[Value], wanted: &[Value]) -> Vec<Value> {
    let is_set = merge_keys_of(field).contains(&"") && !last.iter().chain(wanted).any(Value::is_object);
    last.iter().filter(|value| is_set && !wanted.contains(value)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_no_more_is_deleted() {
        let last = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]}, "spec": {"containers": [
            {"name": "main", "args": ["a", "b"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}, {"name": "side"}]}});
        let wanted = json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["y"]}, "spec": {"containers": [
            {"name": "main", "args": ["a"], "env": [{"name": "B", "value": "3"}]}]}});
        let strategic = json!({"metadata": {"labels": {"a": "1", "b": null}, "finalizers": ["y"], "$deleteFromPrimitiveList/finalizers": ["x"]},
            "spec": {"containers": [
                {"name": "main", "args": ["a"], "env": [{"name": "B", "value": "3"}, {"$patch": "delete", "name": "A"}]},
                {"$patch": "delete", "name": "side"}]}});
        assert_eq!(three_way(Some(&last), &wanted, Patch::Strategic), strategic);
        let merge = three_way(Some(&last), &wanted, Patch::Merge);
        assert_eq!(merge["spec"], wanted["spec"]);
        assert_eq!(merge["metadata"]["labels"], json!({"a": "1", "b": null}));
    }

    #[test]
    fn without_a_last_manifest_nothing_is_deleted() {
        let wanted = json!({"spec": {"replicas": 3}});
        assert_eq!(three_way(None, &wanted, Patch::Strategic), wanted);
        assert_eq!(last_applied(&json!({"metadata": {}})), None);
    }

    #[test]
    fn lists_of_one_name_are_merged_by_the_key_their_items_have() {
        let ports = |key: &str, ports: &[u16]| Value::from_iter(ports.iter().map(|port| json!({key: port})));
        for key in ["port", "containerPort"] {
            let (last, wanted) = (json!({"ports": ports(key, &[1, 2])}), json!({"ports": ports(key, &[2])}));
            assert_eq!(three_way(Some(&last), &wanted, Patch::Strategic)["ports"], json!([{key: 2}, {"$patch": "delete", key: 1}]));
        }
    }
}
