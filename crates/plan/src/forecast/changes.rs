//! What differs between two objects, as paths that a person can read: `spec.template.spec.containers[redis].image`.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::statefulset::same_field;

/// How much of a value is shown.
const LONGEST_VALUE: usize = 80;
/// Fields by which the items of a list are told apart, the first that all items have.
const KEYS: [&str; 5] = ["name", "mountPath", "containerPort", "key", "type"];

/// One field that differs. What is absent is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    pub path: String,
    pub before: Value,
    pub after: Value,
}

/// The fields that differ in meaning between two objects at a path.
pub fn changes(path: &str, before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    let key = path.rsplit('.').next().unwrap_or_default();
    compare(&mut found, Place { path: path.to_owned(), parent: "", key }, before, after);
    found
}

/// Where a value is, and by which keys.
struct Place<'a> {
    path: String,
    parent: &'a str,
    key: &'a str,
}

fn compare(found: &mut Vec<FieldChange>, place: Place<'_>, before: &Value, after: &Value) {
    if same_field(place.parent, place.key, before, after) {
        return;
    }
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => compare_fields(found, &place, a, b),
        (Value::Array(a), Value::Array(b)) => compare_items(found, place, a, b),
        _ => found.push(FieldChange { path: place.path, before: before.clone(), after: after.clone() }),
    }
}

fn compare_fields(found: &mut Vec<FieldChange>, place: &Place<'_>, before: &Map<String, Value>, after: &Map<String, Value>) {
    let added = after.keys().filter(|key| !before.contains_key(*key));
    for key in before.keys().chain(added) {
        let path = if place.path.is_empty() { quoted(key) } else { format!("{}.{}", place.path, quoted(key)) };
        let field = |fields: &Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
        compare(found, Place { path, parent: place.key, key }, &field(before), &field(after));
    }
}

/// Items with names are compared name by name, others place by place.
fn compare_items(found: &mut Vec<FieldChange>, place: Place<'_>, before: &[Value], after: &[Value]) {
    let known = found.len();
    let key = KEYS.into_iter().find(|key| is_told_apart_by(key, before) && is_told_apart_by(key, after));
    if let Some(key) = key {
        let item = |list: &[Value], id: &str| list.iter().find(|item| identity(item, key) == id).cloned().unwrap_or_default();
        for id in identities(before, after, key) {
            let inner = Place { path: format!("{}[{id}]", place.path), parent: place.parent, key: place.key };
            compare(found, inner, &item(before, &id), &item(after, &id));
        }
    } else if before.len() == after.len() {
        for (index, (before, after)) in before.iter().zip(after).enumerate() {
            let inner = Place { path: format!("{}[{index}]", place.path), parent: place.parent, key: place.key };
            compare(found, inner, before, after);
        }
    }
    if found.len() == known {
        // Only the order differs, or the items can't be told apart.
        let named = |list: &[Value]| match key {
            Some(key) => list.iter().map(|item| Value::from(identity(item, key))).collect(),
            None => Value::from(list),
        };
        found.push(FieldChange { path: place.path, before: named(before), after: named(after) });
    }
}

fn identities(before: &[Value], after: &[Value], key: &str) -> Vec<String> {
    let mut names: Vec<String> = before.iter().map(|item| identity(item, key)).collect();
    for item in after {
        let name = identity(item, key);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn is_told_apart_by(key: &str, list: &[Value]) -> bool {
    let mut names: Vec<String> = list.iter().map(|item| identity(item, key)).collect();
    names.sort_unstable();
    list.iter().all(|item| item.get(key).is_some()) && names.windows(2).all(|pair| pair[0] != pair[1])
}

fn identity(item: &Value, key: &str) -> String {
    match item.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Keys with dots, such as those of labels, are told apart from paths.
fn quoted(key: &str) -> String {
    if key.contains('.') { format!("[{key}]") } else { key.to_owned() }
}

impl FieldChange {
    /// The last name in the path: `image`.
    pub fn field(&self) -> &str {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        last.split('[').next().filter(|name| !name.is_empty()).unwrap_or(last)
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.path, shown(&self.before), shown(&self.after))
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "(none)".to_owned(),
        Value::String(text) if !text.is_empty() && !text.contains(['\n', '\r', '\u{1b}']) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(before: Value, after: Value) -> Vec<String> {
        changes("spec", &before, &after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn items_are_named_and_fields_have_paths() {
        let before = json!({"containers": [{"name": "redis", "image": "redis:7", "env": [{"name": "A", "value": "1"}]}]});
        let after = json!({"containers": [{"name": "redis", "image": "redis:7.2", "env": [{"name": "A", "value": "2"}, {"name": "B"}]}]});
        let expected = [
            "spec.containers[redis].env[A].value: 1 -> 2",
            r#"spec.containers[redis].env[B]: (none) -> {"name":"B"}"#,
            "spec.containers[redis].image: redis:7 -> redis:7.2",
        ];
        assert_eq!(told(before, after), expected);
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        let before = json!({"resources": {"limits": {"cpu": "1000m"}}, "labels": {}, "env": null});
        assert_eq!(told(before, json!({"resources": {"limits": {"cpu": "1"}}, "env": []})), [""; 0]);
    }

    #[test]
    fn another_order_and_keys_with_dots_are_told() {
        let pair = |a: &str, b: &str| json!([{"name": a}, {"name": b}]);
        assert_eq!(told(pair("a", "b"), pair("b", "a")), [r#"spec: ["a","b"] -> ["b","a"]"#]);
        assert_eq!(told(json!({"x.dev/a": "1"}), json!({"x.dev/a": "2"})), ["spec.[x.dev/a]: 1 -> 2"]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_as_text() {
        let told = told(json!({"args": ["a"]}), json!({"args": ["\u{1b}[2J"]}));
        assert_eq!(told, [r#"spec.args[0]: a -> "\u001b[2J""#]);
    }
}
