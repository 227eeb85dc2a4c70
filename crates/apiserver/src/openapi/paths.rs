//! The paths of the resources and what can be done on each.

use kinds::Resource;
use serde_json::{Map, Value, json};

use super::schemas::{kind_mark, reference};

/// Query parameters of operations that write.
const WRITE: &[(&str, &str)] = &[
    ("dryRun", "All: check and answer as if it were done, but do nothing."),
    ("fieldManager", "Who writes."),
    ("fieldValidation", "What to do about unknown and repeated fields: Ignore, Warn or Strict."),
];
/// Query parameters of operations on collections.
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "Send bookmarks in a watch."),
    ("continue", "Where the page before ended."),
    ("fieldSelector", "Select by fields."),
    ("labelSelector", "Select by labels."),
    ("limit", "Objects of a page at most."),
    ("resourceVersion", "The state that is asked for."),
    ("resourceVersionMatch", "How that is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "Begin a watch with what is there."),
    ("timeoutSeconds", "End a watch after so many seconds."),
    ("watch", "Tell of changes as they happen."),
];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "All: check and answer as if it were done, but do nothing."),
    ("gracePeriodSeconds", "Seconds the object may take to end."),
    ("propagationPolicy", "What happens to dependents: Orphan, Background or Foreground."),
];

/// One operation on a resource.
struct Operation {
    method: &'static str,
    action: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    /// Media types of the body; none for operations without one.
    body: &'static [&'static str],
    answers_list: bool,
}

const OBJECT_BODY: &[&str] = &["application/json", "application/yaml"];
const PATCH_BODY: &[&str] = &["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

const ON_COLLECTION: &[Operation] = &[
    Operation { method: "get", action: "list", parameters: LIST, body: &[], answers_list: true },
    Operation { method: "post", action: "post", parameters: WRITE, body: OBJECT_BODY, answers_list: false },
    Operation { method: "delete", action: "deletecollection", parameters: DELETE, body: &[], answers_list: true },
];
const ON_OBJECT: &[Operation] = &[
    Operation { method: "get", action: "get", parameters: &[], body: &[], answers_list: false },
    Operation { method: "put", action: "put", parameters: WRITE, body: OBJECT_BODY, answers_list: false },
    Operation { method: "patch", action: "patch", parameters: WRITE, body: PATCH_BODY, answers_list: false },
    Operation { method: "delete", action: "delete", parameters: DELETE, body: &[], answers_list: false },
];

/// The paths of these resources.
pub fn of(rows: &[&'static Resource]) -> Map<String, Value> {
    let mut paths = Map::new();
    for row in rows {
        let root = match row.group {
            "" => format!("/api/{}", row.version),
            group => format!("/apis/{group}/{}", row.version),
        };
        let collection = match row.is_namespaced() {
            true => format!("{root}/namespaces/{{namespace}}/{}", row.plural),
            false => format!("{root}/{}", row.plural),
        };
        if row.is_namespaced() {
            paths.insert(format!("{root}/{}", row.plural), path(row, "", &ON_COLLECTION[..1]));
        }
        let last = if row.delete_collection { ON_COLLECTION.len() } else { ON_COLLECTION.len() - 1 };
        let of_object = format!("{collection}/{{name}}");
        if row.subresources.contains(&kinds::registry::Subresource::Status) {
            paths.insert(format!("{of_object}/status"), path(row, &of_object, &ON_OBJECT[..3]));
        }
        paths.insert(of_object.clone(), path(row, &of_object, ON_OBJECT));
        paths.insert(collection.clone(), path(row, &collection, &ON_COLLECTION[..last]));
    }
    paths
}

fn path(row: &Resource, path: &str, operations: &[Operation]) -> Value {
    let in_path = ["name", "namespace"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let parameters: Vec<_> =
        in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect();
    let mut value = Map::new();
    value.insert("parameters".to_owned(), json!(parameters));
    for operation in operations {
        value.insert(operation.method.to_owned(), self::operation(row, operation));
    }
    Value::Object(value)
}

fn operation(row: &Resource, operation: &Operation) -> Value {
    let name = (row.codec.schema_name)();
    let answered = if operation.answers_list { format!("{name}List") } else { name.clone() };
    let parameters: Vec<_> = operation
        .parameters
        .iter()
        .map(|(name, description)| json!({"name": name, "in": "query", "description": description, "schema": {"type": "string"}}))
        .collect();
    let mut value = json!({
        "tags": [row.api_version()],
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": reference(&answered)}}}}},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": kind_mark(row, row.kind)[0],
    });
    if !operation.body.is_empty() {
        let schema = if operation.method == "patch" { json!({"type": "object"}) } else { json!({"$ref": reference(&name)}) };
        let content: Map<_, _> = operation.body.iter().map(|&media| (media.to_owned(), json!({"schema": schema}))).collect();
        value["requestBody"] = json!({"content": content});
    }
    value
}
