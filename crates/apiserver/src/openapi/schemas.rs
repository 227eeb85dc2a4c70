//! The schemas of the kinds, with upstream's marks on them.

use kinds::Resource;
use kinds::merge_keys::{self, Rule, WHOLE_TYPE};
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

/// The schemas of these resources' kinds and lists, and of everything they refer to.
pub fn of(rows: &[&'static Resource]) -> Map<String, Value> {
    let mut generator = SchemaGenerator::default();
    for row in rows {
        (row.codec.schema)(&mut generator);
    }
    generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions>();
    generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>();
    generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta>();
    let mut schemas = generator.take_definitions(true);
    for (name, schema) in &mut schemas {
        rewrite(schema);
        mark_fields(name, schema);
    }
    for row in rows {
        let name = (row.codec.schema_name)();
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = kind_mark(row, row.kind);
        }
        schemas.insert(format!("{name}List"), list(row, &name));
    }
    schemas
}

/// Marks a schema or an operation as being about a kind.
pub fn kind_mark(row: &Resource, kind: &str) -> Value {
    json!([{"group": row.group, "version": row.version, "kind": kind}])
}

fn list(row: &Resource, name: &str) -> Value {
    json!({
        "type": "object",
        "description": format!("{} is a list of objects of kind {}.", row.list_kind(), row.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of the schema."},
            "kind": {"type": "string", "description": "The kind of the list."},
            "items": {"type": "array", "description": "The objects.", "items": {"$ref": reference(name)}},
            "metadata": {"$ref": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")},
        },
        "x-kubernetes-group-version-kind": kind_mark(row, &row.list_kind()),
    })
}

/// Where a schema is in the document.
pub fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// Points references to where the schemas are in this document. What stands beside a reference would be ignored in OpenAPI
/// 3.0, so such references move into an `allOf`.
fn rewrite(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        Value::Object(fields) => {
            fields.values_mut().for_each(rewrite);
            let Some(target) = fields.get("$ref").and_then(Value::as_str).map(str::to_owned) else { return };
            let target = json!(reference(target.rsplit('/').next().unwrap_or(&target)));
            if fields.len() == 1 {
                fields.insert("$ref".to_owned(), target);
            } else {
                fields.remove("$ref");
                fields.insert("allOf".to_owned(), json!([{"$ref": target}]));
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
