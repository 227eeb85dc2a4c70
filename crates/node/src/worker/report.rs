//! The difference between two statuses as a strategic merge patch.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

/// What to write so that the recorded status becomes the new one; `None` if nothing is to be written. The uid is part of
/// it, so that it never reaches another pod of this name.
pub(crate) fn patch(uid: &str, recorded: &PodStatus, new: &PodStatus) -> Option<Value> {
    if recorded == new {
        return None;
    }
    let (before, after) = (fields(recorded), fields(new));
    let mut changed = Map::new();
    for (name, value) in &after {
        match name.as_str() {
            "conditions" => {
                let conditions = conditions(recorded, new);
                if !conditions.is_empty() {
                    changed.insert(name.clone(), Value::Array(conditions));
                }
            }
            _ if before.get(name) != Some(value) => drop(changed.insert(name.clone(), value.clone())),
            _ => {}
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        changed.insert(name.clone(), Value::Null);
    }
    (!changed.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": changed }))
}

fn fields(status: &PodStatus) -> Map<String, Value> {
    match kinds::object::to_tree(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// The conditions that changed; the server merges them by their type.
fn conditions(recorded: &PodStatus, new: &PodStatus) -> Vec<Value> {
    let before = |name: &str| recorded.conditions.iter().flatten().find(|condition| condition.type_ == name);
    let new = new.conditions.iter().flatten();
    new.filter(|condition| before(&condition.type_) != Some(*condition))
        .map(|condition| with_nulls(condition, before(&condition.type_)))
        .collect()
}

/// Fields that the condition no longer has are to be removed.
fn with_nulls(condition: &PodCondition, before: Option<&PodCondition>) -> Value {
    let mut value = json!(condition);
    if let (Some(fields), Some(Value::Object(old))) = (value.as_object_mut(), before.map(|before| json!(before))) {
        for name in old.keys() {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_changed_is_written() {
        let old = status(json!({ "phase": "Pending", "hostIP": "192.0.2.1", "reason": "X", "conditions": [
            { "type": "Ready", "status": "False", "reason": "Why" }, { "type": "PodScheduled", "status": "True" }, { "type": "Other", "status": "True" },
        ] }));
        let new = status(json!({ "phase": "Running", "hostIP": "192.0.2.1", "conditions": [
            { "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "True" },
        ] }));
        let expected = json!({ "metadata": { "uid": "u" }, "status": {
            "phase": "Running", "reason": null, "conditions": [{ "type": "Ready", "status": "True", "reason": null }],
        } });
        assert_eq!(patch("u", &old, &new), Some(expected));
    }

    #[test]
    fn the_order_of_conditions_does_not_matter() {
        let (one, other) = (json!({ "type": "A", "status": "True" }), json!({ "type": "B", "status": "True" }));
        let (first, second) = (json!({ "conditions": [one, other] }), json!({ "conditions": [other, one] }));
        assert_eq!(patch("u", &status(first), &status(second)), None);
    }
}
