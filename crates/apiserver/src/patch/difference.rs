//! For tests: the strategic merge patch that leads from one object to another, as `kubectl apply` computes it.

use serde_json::{Map, Value, json};

use crate::strategy::shape::{self, Shape};

/// The patch that makes `to` of `from`.
pub fn difference(from: &Value, to: &Value, shape: &Shape) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in to {
        let rule = shape::field(shape, key).and_then(|field| field.rule);
        let merge_key = rule.filter(|rule| rule.merges()).map(|rule| rule.patch_merge_key);
        let is_replaced = rule.is_some_and(kinds::merge_keys::Rule::replaces);
        match (from.get(key), new, merge_key) {
            (Some(old), new, _) if old == new => {}
            (Some(Value::Array(old)), Value::Array(new), Some(merge_key)) => {
                lists(&mut patch, key, old, new, merge_key, &shape::child(shape, key));
            }
            (Some(old @ Value::Object(_)), Value::Object(_), _) if !is_replaced => {
                patch.insert(key.clone(), difference(old, new, &shape::child(shape, key)));
            }
            _ => drop(patch.insert(key.clone(), new.clone())),
        }
    }
    Value::Object(patch)
}

fn lists(patch: &mut Map<String, Value>, field: &str, old: &[Value], new: &[Value], key: &str, shape: &Shape) {
    let identity = |item: &Value| item.get(key).unwrap_or(item).clone();
    let find = |list: &[Value], wanted: &Value| list.iter().find(|item| identity(item) == identity(wanted)).cloned();
    let gone = old.iter().filter(|item| find(new, item).is_none());
    if key.is_empty() {
        let gone: Vec<_> = gone.cloned().collect();
        patch.insert(format!("$deleteFromPrimitiveList/{field}"), json!(gone));
        patch.insert(format!("$setElementOrder/{field}"), json!(new));
        patch.insert(field.to_owned(), json!(new));
        return;
    }
    let Shape::List(item_shape) = shape else { return };
    let change = |item: &Value| {
        let mut change = find(old, item).map_or_else(|| item.clone(), |old| difference(&old, item, item_shape));
        change[key] = identity(item);
        change
    };
    let removal = |item: &Value| json!({"$patch": "delete", key: identity(item)});
    let changes: Vec<_> = new.iter().map(change).chain(gone.map(removal)).collect();
    let order: Vec<_> = new.iter().map(|item| json!({key: identity(item)})).collect();
    patch.insert(format!("$setElementOrder/{field}"), json!(order));
    patch.insert(field.to_owned(), json!(changes));
}
