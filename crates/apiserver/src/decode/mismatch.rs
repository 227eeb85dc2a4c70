//! Which value has the wrong type, in the words of upstream's decoder. Looked for only after decoding has failed.

use kinds::Resource;
use schemas::reference;
use serde_json::{Map, Value};

/// Names the first value whose type does not fit the schema; failing that, says what the decoder said.
pub fn explain(resource: &Resource, json: &[u8], error: &serde_json::Error) -> String {
    let schemas = schemas::bare();
    let schema_name = resource.codec.schema_name;
    let found = serde_json::from_slice::<Value>(json).ok().and_then(|object| {
        let place = Place { go_struct: short(schema_name), path: String::new() };
        mismatch(&object, schemas.get(schema_name)?, &schemas, &place)
    });
    found.unwrap_or_else(|| format!("json: {error}"))
}

/// Where in the object: the innermost struct, and the fields on the way.
struct Place {
    go_struct: String,
    path: String,
}

fn mismatch(value: &Value, schema: &Value, schemas: &Map<String, Value>, place: &Place) -> Option<String> {
    if value.is_null() {
        return None;
    }
    if let Some(name) = reference(schema) {
        let target = schemas.get(name)?;
        if target.get("properties").is_some() && !value.is_object() {
            return Some(words(value, &go_type(schema), place));
        }
        let place = Place { go_struct: short(name), path: place.path.clone() };
        return mismatch(value, target, schemas, &place);
    }
    let expected = schema.get("type").and_then(Value::as_str)?;
    if !fits(value, expected, schema) {
        return Some(words(value, &go_type(schema), place));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| mismatch(item, schema.get("items")?, schemas, place)),
        Value::Object(fields) => {
            fields.iter().find_map(|(key, value)| match (schema.get("properties"), schema.get("additionalProperties")) {
                (Some(properties), _) => {
                    let path = if place.path.is_empty() { key.clone() } else { format!("{}.{key}", place.path) };
                    mismatch(value, properties.get(key)?, schemas, &Place { go_struct: place.go_struct.clone(), path })
                }
                (None, Some(values)) => mismatch(value, values, schemas, place),
                (None, None) => None,
            })
        }
        _ => None,
    }
}

fn fits(value: &Value, expected: &str, schema: &Value) -> bool {
    match (expected, value) {
        ("integer", Value::Number(number)) => match schema.get("format").and_then(Value::as_str) {
            Some("int32") => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            _ => number.is_i64(),
        },
        ("number", Value::Number(_)) | ("string", Value::String(_)) | ("boolean", Value::Bool(_)) => true,
        ("array", Value::Array(_)) | ("object", Value::Object(_)) => true,
        _ => false,
    }
}

fn words(value: &Value, go_type: &str, place: &Place) -> String {
    let found = match value {
        Value::Number(number) if go_type.starts_with("int") => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
        Value::Null => "null".to_owned(),
    };
    format!("json: cannot unmarshal {found} into Go struct field {}.{} of type {go_type}", place.go_struct, place.path)
}

fn short(schema_name: &str) -> String {
    schema_name.rsplit('.').next().unwrap_or(schema_name).to_owned()
}

/// `int32`, `[]v1.Container`, `map[string]string`.
fn go_type(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        let mut parts: Vec<_> = name.rsplit('.').take(2).collect();
        parts.reverse();
        return parts.join(".");
    }
    let inner = |key: &str| schema.get(key).map_or_else(|| "interface {}".to_owned(), go_type);
    match schema.get("type").and_then(Value::as_str) {
        Some("integer") => schema.get("format").and_then(Value::as_str).unwrap_or("int64").to_owned(),
        Some("number") => "float64".to_owned(),
        Some("boolean") => "bool".to_owned(),
        Some("array") => format!("[]{}", inner("items")),
        Some("object") => format!("map[string]{}", inner("additionalProperties")),
        _ => "string".to_owned(),
    }
}
