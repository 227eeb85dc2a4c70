//! OpenAPI 2.0: one document for everything, which older clients read.

use kinds::registry::RESOURCES;
use serde_json::{Map, Value, json};

use super::paths::{self, ANSWER, Operation, Path};
use super::{groups, info, path_parameters, schemas};

/// Where schemas are in a document.
const SCHEMAS: &str = "#/definitions/";

/// The document.
pub fn document() -> Value {
    let paths: Vec<_> = groups().iter().flat_map(paths::of).collect();
    let rows: Vec<_> = RESOURCES.iter().collect();
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths.iter().map(|path| (path.path.clone(), self::path(path))).collect::<Map<_, _>>(),
        "definitions": schemas::of(&rows, &paths, SCHEMAS),
    })
}

fn path(path: &Path) -> Value {
    let in_path = |name| json!({"name": name, "in": "path", "required": true, "type": "string", "uniqueItems": true});
    let mut value = Map::new();
    value.insert("parameters".to_owned(), path_parameters(&path.path).map(in_path).collect());
    value.extend(path.operations.iter().map(|operation| (operation.method.to_owned(), self::operation(operation))));
    Value::Object(value)
}

fn operation(operation: &Operation) -> Value {
    let reference = |name: &str| json!({"$ref": format!("{SCHEMAS}{name}")});
    let (produces, answer) = match &operation.answer {
        Some(schema) => (ANSWER, reference(schema)),
        None => (&["text/plain"][..], json!({"type": "string"})),
    };
    let in_query = |&(name, of, description): &paths::Parameter| json!({"name": name, "in": "query", "description": description, "type": of, "uniqueItems": true});
    let body = operation.body.as_ref();
    let is_required = operation.method != "delete";
    let in_body = body.map(|(_, schema)| json!({"name": "body", "in": "body", "required": is_required, "schema": reference(schema)}));
    let mut value = json!({
        "tags": [operation.tag],
        "operationId": operation.id,
        "consumes": body.map_or(&["*/*"][..], |(media, _)| *media),
        "produces": produces,
        "parameters": in_body.into_iter().chain(operation.parameters.iter().map(in_query)).collect::<Vec<_>>(),
        "responses": {"200": {"description": "OK", "schema": answer}, "401": {"description": "Unauthorized"}},
    });
    if let Some(kind) = operation.kind {
        value["x-kubernetes-action"] = json!(operation.action);
        value["x-kubernetes-group-version-kind"] = schemas::mark(kind);
    }
    value
}
