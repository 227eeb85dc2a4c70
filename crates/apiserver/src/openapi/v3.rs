//! OpenAPI 3.0: a document for each group and version.

use serde_json::{Map, Value, json};

use super::paths::{self, ANSWER, Operation, Path};
use super::{Served, info, path_parameters, schemas};

/// Where schemas are in a document.
const SCHEMAS: &str = "#/components/schemas/";

/// The document of a group in a version.
pub(super) fn document(served: &Served) -> Value {
    let paths = paths::of(served);
    let mut schemas = schemas::of(&served.rows, &paths, SCHEMAS);
    schemas.values_mut().for_each(set_apart);
    schemas.iter_mut().for_each(|(name, schema)| name_types(name, schema));
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths.iter().map(|path| (path.path.clone(), self::path(path))).collect::<Map<_, _>>(),
        "components": {"schemas": schemas},
    })
}

/// What may be a number or a text has no type here but a choice: where it is a type, clients that explain a field tell that instead
/// of the name.
fn name_types(name: &str, schema: &mut Value) {
    let choice = match name.rsplit('.').next() {
        Some("IntOrString") => ["integer", "string"],
        Some("Quantity") => ["string", "number"],
        _ => return,
    };
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("type");
        fields.insert("oneOf".to_owned(), choice.iter().map(|of| json!({"type": of})).collect());
    }
}

/// What stands beside a reference would be ignored in OpenAPI 3.0, so such references move into an `allOf`.
fn set_apart(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(set_apart),
        Value::Object(fields) => {
            fields.values_mut().for_each(set_apart);
            if fields.len() > 1
                && let Some(target) = fields.remove("$ref")
            {
                fields.insert("allOf".to_owned(), json!([{ "$ref": target }]));
            }
        }
        _ => {}
    }
}

fn path(path: &Path) -> Value {
    let in_path = |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}});
    let mut value = Map::new();
    value.insert("parameters".to_owned(), path_parameters(&path.path).map(in_path).collect());
    value.extend(path.operations.iter().map(|operation| (operation.method.to_owned(), self::operation(operation))));
    Value::Object(value)
}

fn operation(operation: &Operation) -> Value {
    let reference = |name: &str| json!({"$ref": format!("{SCHEMAS}{name}")});
    let content = |media: &[&str], schema: &Value| -> Value {
        Value::Object(media.iter().map(|&media| (media.to_owned(), json!({"schema": schema}))).collect())
    };
    let answer = match &operation.answer {
        Some(schema) => content(ANSWER, &reference(schema)),
        None => content(&["text/plain"], &json!({"type": "string"})),
    };
    let in_query = |&(name, of, description): &paths::Parameter| json!({"name": name, "in": "query", "description": description, "schema": {"type": of, "uniqueItems": true}});
    let mut value = json!({
        "tags": [operation.tag],
        "operationId": operation.id,
        "parameters": operation.parameters.iter().map(in_query).collect::<Vec<_>>(),
        "responses": {"200": {"description": "OK", "content": answer}, "401": {"description": "Unauthorized"}},
    });
    if let Some(kind) = operation.kind {
        value["x-kubernetes-action"] = json!(operation.action);
        value["x-kubernetes-group-version-kind"] = schemas::mark(kind);
    }
    if let Some((media, schema)) = &operation.body {
        value["requestBody"] = json!({"content": content(media, &reference(schema))});
    }
    value
}
