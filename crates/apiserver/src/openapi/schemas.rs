//! The schemas of the kinds, with upstream's marks on them.

use std::collections::BTreeSet;

use kinds::Resource;
use kinds::merge_keys::{self, Rule, WHOLE_TYPE};
use serde_json::{Map, Value, json};

use super::paths::{Kind, PATCH_SCHEMA, Path, schema_of};

/// The schemas that the operations on these paths refer to, the lists of these resources, and everything those refer to.
/// `place` is where schemas are in the document.
pub fn of(rows: &[&'static Resource], paths: &[Path], place: &'static str) -> Map<String, Value> {
    let operations = || paths.iter().flat_map(|path| &path.operations);
    let mut schemas = Map::new();
    for row in rows {
        schemas.insert(format!("{}List", row.codec.schema_name), list(row, place));
    }
    let named = operations().flat_map(|operation| operation.answer.iter().chain(operation.body.as_ref().map(|(_, schema)| schema)));
    let mut waiting: BTreeSet<String> = named.cloned().chain([LIST_META.to_owned()]).collect();
    waiting.extend(rows.iter().map(|row| row.codec.schema_name.to_owned()));
    while let Some(name) = waiting.pop_first() {
        if schemas.contains_key(&name) {
            continue;
        }
        let Some(mut schema) = described(&name) else { continue };
        point(&mut schema, place, &mut waiting);
        mark_fields(&name, &mut schema);
        schemas.insert(name, schema);
    }
    for kind in operations().filter_map(|operation| operation.kind) {
        if let Some(schema) = schemas.get_mut(&schema_of(kind)) {
            schema["x-kubernetes-group-version-kind"] = json!([mark(kind)]);
        }
    }
    schemas
}

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// A schema as the types tell it; in upstream's words where those can't say what is meant.
fn described(name: &str) -> Option<Value> {
    if name == PATCH_SCHEMA {
        return Some(json!({"type": "object", "description": "A change of an object, in one of the forms that patches have."}));
    }
    let mut schema = schemas::definition(name)?;
    match name.rsplit('.').next() {
        Some("Quantity") => schema["type"] = json!("string"),
        Some("IntOrString") => {
            schema["type"] = json!("string");
            schema["format"] = json!("int-or-string");
        }
        _ => {}
    }
    Some(schema)
}

/// Marks a schema or an operation as being about a kind.
pub fn mark((group, version, kind): Kind) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn list(row: &Resource, place: &str) -> Value {
    json!({
        "type": "object",
        "description": format!("{} is a list of objects of kind {}.", row.list_kind(), row.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of the schema."},
            "kind": {"type": "string", "description": "The kind of the list."},
            "items": {"type": "array", "description": "The objects.", "items": {"$ref": format!("{place}{}", row.codec.schema_name)}},
            "metadata": {"$ref": format!("{place}{LIST_META}")},
        },
        "x-kubernetes-group-version-kind": [{"group": row.group, "version": row.version, "kind": row.list_kind()}],
    })
}

/// Points references to where the schemas are in this document, and notes which are needed.
fn point(schema: &mut Value, place: &str, needed: &mut BTreeSet<String>) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| point(item, place, needed)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|value| point(value, place, needed));
            if let Some(name) = fields.get("$ref").and_then(Value::as_str).and_then(|target| target.rsplit('/').next()).map(str::to_owned) {
                fields.insert("$ref".to_owned(), json!(format!("{place}{name}")));
                needed.insert(name);
            }
        }
        _ => {}
    }
}

fn mark_fields(name: &str, schema: &mut Value) {
    if merge_keys::rule(name, WHOLE_TYPE).is_some_and(|rule| rule.list_type == "map:atomic") {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (field, property) in properties {
        if let (Some(rule), Some(property)) = (merge_keys::rule(name, field), property.as_object_mut()) {
            property.extend(marks(rule));
        }
    }
}

fn marks(rule: &Rule) -> Vec<(String, Value)> {
    let mut marks = Vec::new();
    let mut mark = |key: &str, value: Value| marks.push((format!("x-kubernetes-{key}"), value));
    match rule.list_type.strip_prefix("map:") {
        Some(map_type) => mark("map-type", json!(map_type)),
        None if !rule.list_type.is_empty() => mark("list-type", json!(rule.list_type)),
        None => {}
    }
    if !rule.list_map_keys.is_empty() {
        mark("list-map-keys", json!(rule.list_map_keys.split(',').collect::<Vec<_>>()));
    }
    if !rule.patch_strategy.is_empty() {
        mark("patch-strategy", json!(rule.patch_strategy));
    }
    if !rule.patch_merge_key.is_empty() {
        mark("patch-merge-key", json!(rule.patch_merge_key));
    }
    marks
}
