//! The OpenAPI v3 documents, made from the registry and the types' own schemas when they are asked for.

use kinds::merge_keys::{self, Rule, WHOLE_TYPE};
use kinds::registry::{RESOURCES, Resource, Subresource};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema that describes a deletion's body.
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// `/openapi/v3`: where the document of each group and version is. The hash changes with this program's version.
pub fn index() -> Value {
    let paths: Map<String, Value> = group_versions()
        .into_iter()
        .map(|path| {
            let url = format!("/openapi/v3/{path}?hash={}", hash());
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// What identifies the documents of this program's version.
pub fn hash() -> String {
    let text = format!("{} {:?}", env!("CARGO_PKG_VERSION"), group_versions());
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{fnv:016X}")
}

/// `/openapi/v3/<path>`, where the path is `api/v1` or `apis/<group>/<version>`; `None` when it is neither.
pub fn document(path: &str) -> Option<Value> {
    let rows: Vec<_> = RESOURCES.iter().filter(|row| path_of(row) == path).collect();
    if rows.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    for row in &rows {
        add_paths(row, &mut paths);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": format!("v{}", env!("CARGO_PKG_VERSION"))},
        "paths": paths,
        "components": {"schemas": schemas(&rows)},
    }))
}

fn path_of(row: &Resource) -> String {
    match row.group {
        "" => format!("api/{}", row.version),
        group => format!("apis/{group}/{}", row.version),
    }
}

fn group_versions() -> Vec<String> {
    let mut paths: Vec<_> = RESOURCES.iter().map(path_of).collect();
    paths.dedup();
    paths.sort();
    paths.dedup();
    paths
}

/// The schemas of these rows and of all they refer to.
fn schemas(rows: &[&Resource]) -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    for row in rows {
        (row.codec.schema)(&mut generator);
    }
    generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions>();
    generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta>();
    let mut schemas: Map<String, Value> = generator.take_definitions(false).into_iter().collect();
    for (name, schema) in &mut schemas {
        refine(name, schema);
    }
    for row in rows {
        let name = (row.codec.schema_name)();
        let list = list_schema(row, &name);
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = json!([kind_of(row)]);
        }
        schemas.insert(format!("{name}List"), list);
    }
    schemas
}

fn list_schema(row: &Resource, name: &str) -> Value {
    json!({
        "description": format!("{}List is a list of {}.", row.kind, row.plural),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "items": {"type": "array", "items": reference(name)},
            "metadata": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
        },
        "x-kubernetes-group-version-kind": [{"group": row.group, "version": row.version, "kind": row.list_kind()}],
    })
}

/// Adds upstream's merge extensions, and brings what JSON Schema allows into the shape OpenAPI readers know.
fn refine(name: &str, schema: &mut Value) {
    if let Some(rule) = merge_keys::rule(name, WHOLE_TYPE) {
        extend(schema, rule);
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (field, property) in properties.into_iter().flatten() {
        if let Some(rule) = merge_keys::rule(name, field) {
            extend(property, rule);
        }
    }
    normalize(schema);
}

fn extend(schema: &mut Value, rule: &Rule) {
    let Some(fields) = schema.as_object_mut() else { return };
    let mut set = |name: &str, value: Value| drop(fields.insert(format!("x-kubernetes-{name}"), value));
    match rule.list_type.strip_prefix("map:") {
        Some(map_type) => set("map-type", json!(map_type)),
        None if rule.list_type.is_empty() => {}
        None => set("list-type", json!(rule.list_type)),
    }
    if !rule.list_map_keys.is_empty() {
        set("list-map-keys", rule.list_map_keys.split(',').collect());
    }
    if !rule.patch_strategy.is_empty() {
        set("patch-strategy", json!(rule.patch_strategy));
    }
    if !rule.patch_merge_key.is_empty() {
        set("patch-merge-key", json!(rule.patch_merge_key));
    }
}

/// A reference with siblings becomes `allOf`, and an integer or text says so in OpenAPI's words.
fn normalize(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(normalize),
        Value::Object(fields) => {
            if fields.len() > 1
                && let Some(target) = fields.remove("$ref")
            {
                fields.insert("allOf".to_owned(), json!([{"$ref": target}]));
            }
            if fields.remove("x-kubernetes-int-or-string").is_some() {
                fields.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
                fields.insert("format".to_owned(), json!("int-or-string"));
            }
            fields.values_mut().for_each(normalize);
        }
        _ => {}
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn kind_of(row: &Resource) -> Value {
    json!({"group": row.group, "version": row.version, "kind": row.kind})
}

fn add_paths(row: &Resource, paths: &mut Map<String, Value>) {
    let namespace = if row.is_namespaced() { "namespaces/{namespace}/" } else { "" };
    let collection = format!("/{}/{namespace}{}", path_of(row), row.plural);
    let item = format!("{collection}/{{name}}");
    let mut methods = vec![("get", "list"), ("post", "post")];
    if row.delete_collection {
        methods.push(("delete", "deletecollection"));
    }
    paths.insert(collection, path_item(row, &methods, row.is_namespaced(), false));
    let methods = [("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")];
    paths.insert(item.clone(), path_item(row, &methods, row.is_namespaced(), true));
    if row.is_namespaced() {
        paths.insert(format!("/{}/{}", path_of(row), row.plural), path_item(row, &[("get", "list")], false, false));
    }
    if row.subresources.contains(&Subresource::Status) {
        let methods = [("get", "get"), ("put", "put"), ("patch", "patch")];
        paths.insert(format!("{item}/status"), path_item(row, &methods, row.is_namespaced(), true));
    }
}

fn path_item(row: &Resource, methods: &[(&str, &str)], namespaced: bool, named: bool) -> Value {
    let mut item: Map<String, Value> = methods.iter().map(|(method, action)| ((*method).to_owned(), operation(row, action))).collect();
    let own = [(namespaced, "namespace"), (named, "name")]
        .into_iter()
        .filter(|(has, _)| *has)
        .map(|(_, name)| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}));
    item.insert("parameters".to_owned(), own.chain([query("pretty", "string")]).collect());
    Value::Object(item)
}

fn operation(row: &Resource, action: &str) -> Value {
    let schema = (row.codec.schema_name)();
    let answer = if action == "list" { format!("{schema}List") } else { schema.clone() };
    let mut operation = json!({
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference(&answer)}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind_of(row),
    });
    let parameters: &[(&str, &str)] = match action {
        "post" | "put" => &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")],
        "patch" => &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")],
        "delete" => {
            &[("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("orphanDependents", "boolean"), ("propagationPolicy", "string")]
        }
        "list" | "deletecollection" => &[
            ("allowWatchBookmarks", "boolean"),
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
            ("watch", "boolean"),
        ],
        _ => &[],
    };
    operation["parameters"] = parameters.iter().map(|(name, kind)| query(name, kind)).collect();
    match action {
        "post" | "put" => operation["requestBody"] = body(&["application/json", "application/yaml"], reference(&schema)),
        "patch" => operation["requestBody"] = patch_body(),
        "delete" => operation["requestBody"] = body(&["application/json"], reference(DELETE_OPTIONS)),
        _ => {}
    }
    operation
}

fn patch_body() -> Value {
    let types = ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];
    body(&types, json!({"description": "A patch of the type that the content type names."}))
}

fn body(types: &[&str], schema: Value) -> Value {
    let content: Map<String, Value> = types.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema}))).collect();
    json!({"content": content})
}

fn query(name: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_version_of_the_index_has_a_document_whose_references_lead_somewhere() {
        for path in index()["paths"].as_object().expect("an object").keys() {
            let document = document(path).expect("listed");
            let schemas = document["components"]["schemas"].as_object().expect("an object");
            let text = document.to_string();
            for target in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(schemas.contains_key(target), "{path}: {target}");
            }
        }
        assert!(document("apis/nothing/v1").is_none());
    }

    #[test]
    fn clients_find_kinds_fields_validation_and_merge_keys() {
        let document = document("apis/apps/v1").expect("served");
        let set = &document["components"]["schemas"]["io.k8s.api.apps.v1.StatefulSet"];
        assert_eq!(set["x-kubernetes-group-version-kind"][0]["kind"], "StatefulSet");
        let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"];
        let parameters = item["patch"]["parameters"].as_array().expect("a list");
        assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
        let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(pod["x-kubernetes-patch-merge-key"], "name");
    }
}
