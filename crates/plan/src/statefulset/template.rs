//! Pod templates as revisions keep them, and whether two mean the same.

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kinds::Quantity;
use serde_json::{Map, Value, json};

/// A template of the set itself, or read from a revision.
pub(super) type Template<'a> = Cow<'a, PodTemplateSpec>;

/// What a revision records: a strategic merge patch that replaces the template. Its keys are sorted.
pub(super) fn record(template: &PodTemplateSpec) -> Value {
    let mut template = to_value(template);
    if let Value::Object(fields) = &mut template {
        fields.insert("$patch".to_owned(), "replace".into());
    }
    sorted(json!({"spec": {"template": template}}))
}

/// The template that a revision recorded, if it did.
pub(super) fn recorded(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    kinds::object::from_tree(template_in(revision)?).ok()
}

/// The template that a revision recorded, as it stands there.
pub fn template_in(revision: &ControllerRevision) -> Option<&Value> {
    revision.data.as_ref()?.0.get("spec")?.get("template")
}

/// The template as a tree, to compare.
pub(super) fn to_value(template: &PodTemplateSpec) -> Value {
    kinds::object::to_tree(template).expect("a pod template has string keys only")
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Maps whose keys are the user's: an empty one says no more than none.
const MAPS: [&str; 8] = ["labels", "annotations", "nodeSelector", "limits", "requests", "overhead", "matchLabels", "volumeAttributes"];
/// Maps whose values are quantities.
const QUANTITIES: [&str; 3] = ["limits", "requests", "overhead"];
/// Fields that are quantities.
const QUANTITY_FIELDS: [&str; 2] = ["sizeLimit", "divisor"];

/// Whether two templates mean the same: absent, null and empty lists are one, and so are different spellings of one quantity.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    same_field("", "", a, b)
}

/// Whether two values of a field mean the same. `parent` is the key of the object that has the field.
pub(crate) fn same_field(parent: &str, key: &str, a: &Value, b: &Value) -> bool {
    match (a, b) {
        _ if is_blank(key, a) || is_blank(key, b) => is_blank(key, a) && is_blank(key, b),
        (Value::Object(a), Value::Object(b)) => same_fields(key, a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_field(parent, key, a, b)),
        (Value::String(a), Value::String(b)) if QUANTITIES.contains(&parent) || QUANTITY_FIELDS.contains(&key) => {
            a == b || matches!((a.parse::<Quantity>(), b.parse::<Quantity>()), (Ok(a), Ok(b)) if a == b)
        }
        _ => a == b,
    }
}

fn same_fields(parent: &str, a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let field = |fields: &Map<String, Value>, key: &str| fields.get(key).cloned().unwrap_or_default();
    a.iter().all(|(key, value)| match b.get(key) {
        Some(other) => same_field(parent, key, value, other),
        None => is_blank(key, value),
    }) && b.iter().all(|(key, value)| a.contains_key(key) || same_field(parent, key, &field(a, key), value))
}

fn is_blank(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() && MAPS.contains(&key),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_meaning_are_the_same() {
        let a = json!({"metadata": {"creationTimestamp": null, "labels": {}}, "spec": {"containers": [
            {"name": "a", "env": [], "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}}}]}});
        let b = json!({"metadata": {}, "spec": {"containers": [{"name": "a", "resources": {"limits": {"memory": "1024Mi", "cpu": "1"}}}]}});
        assert!(same(&a, &b) && same(&b, &a));
    }

    #[test]
    fn different_meanings_are_not_the_same() {
        let pairs = [
            (json!({"a": "1000m"}), json!({"a": "1"})),
            (json!({"a": [1, 2]}), json!({"a": [2, 1]})),
            (json!({"volumes": [{"name": "v", "emptyDir": {}}]}), json!({"volumes": [{"name": "v"}]})),
            (json!({"labelSelector": {}}), json!({})),
            (json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}})),
        ];
        for (a, b) in pairs {
            assert!(!same(&a, &b) && !same(&b, &a), "{a} {b}");
        }
    }
}
