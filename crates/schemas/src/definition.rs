//! A resource of the registry as a CustomResourceDefinition, for clusters that don't know it.

use kinds::SetKind;
use kinds::registry::{Resource, Subresource};
use serde_json::{Map, Value, json};

/// Upstream keeps no schema deeper than this either; the types of the registry are not recursive.
const DEEPEST: usize = 64;

/// The definition of [`SetKind::Steadfast`].
pub fn of_sets() -> Value {
    let resource = SetKind::Steadfast.resource();
    let names = json!({
        "plural": resource.plural, "singular": resource.singular, "kind": resource.kind, "listKind": resource.list_kind(),
        "shortNames": resource.short_names, "categories": resource.categories,
    });
    let version = json!({
        "name": resource.version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema(resource)},
        "subresources": subresources(resource), "additionalPrinterColumns": columns(),
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": resource.qualified()},
        "spec": {"group": resource.group, "scope": "Namespaced", "names": names, "versions": [version]},
    })
}

fn subresources(resource: &Resource) -> Value {
    // The status has no selector as a text, which autoscalers would need.
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    let entry = |subresource: &Subresource| match subresource {
        Subresource::Status => Some(("status".to_owned(), json!({}))),
        Subresource::Scale => Some(("scale".to_owned(), scale.clone())),
        _ => None,
    };
    Value::Object(resource.subresources.iter().filter_map(entry).collect())
}

/// As near to what `kubectl get statefulsets` prints as paths can say.
fn columns() -> Value {
    let column = |name: &str, data_type: &str, path: &str, priority: i32| json!({"name": name, "type": data_type, "jsonPath": path, "priority": priority});
    json!([
        column("Desired", "integer", ".spec.replicas", 0),
        column("Ready", "integer", ".status.readyReplicas", 0),
        column("Age", "date", ".metadata.creationTimestamp", 0),
        column("Containers", "string", ".spec.template.spec.containers[*].name", 1),
        column("Images", "string", ".spec.template.spec.containers[*].image", 1),
    ])
}

/// The structural schema: no references, and the server's own rules for the object's metadata.
fn schema(resource: &Resource) -> Value {
    let definitions = crate::bare();
    let root = definitions.get(resource.codec.schema_name).cloned().unwrap_or_default();
    let mut schema = inlined(&root, &definitions, DEEPEST);
    schema["properties"]["metadata"] = json!({"type": "object"});
    schema["required"] = json!(["spec"]);
    let spec = &mut schema["properties"]["spec"]["properties"];
    for (field, default) in [
        ("replicas", json!(1)),
        ("revisionHistoryLimit", json!(10)),
        ("podManagementPolicy", json!("OrderedReady")),
        ("updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
    ] {
        spec[field]["default"] = default;
    }
    for field in ["replicas", "minReadySeconds"] {
        spec[field]["minimum"] = json!(0);
    }
    schema
}

/// The schema with what it refers to in place.
fn inlined(schema: &Value, definitions: &Map<String, Value>, depth: usize) -> Value {
    let Some(fields) = schema.as_object().filter(|_| depth > 0) else { return schema.clone() };
    if let Some(name) = crate::reference(schema) {
        return definitions.get(name).map_or(Value::Null, |target| inlined(target, definitions, depth - 1));
    }
    let mut inlined: Map<_, _> = fields.iter().map(|(key, value)| (key.clone(), part(key, value, definitions, depth - 1))).collect();
    if let Some(properties) = inlined.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("managedFields");
        if let Some(created) = properties.get_mut("creationTimestamp") {
            // Tools write `creationTimestamp: null` into templates.
            created["nullable"] = json!(true);
        }
    }
    Value::Object(inlined)
}

fn part(key: &str, value: &Value, definitions: &Map<String, Value>, depth: usize) -> Value {
    match (key, value) {
        ("properties", Value::Object(fields)) => {
            Value::Object(fields.iter().map(|(name, schema)| (name.clone(), inlined(schema, definitions, depth))).collect())
        }
        ("items" | "additionalProperties", schema) => inlined(schema, definitions, depth),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places that break a rule of structural schemas.
    fn faults(path: &str, schema: &Value, faults: &mut Vec<String>) {
        let Some(fields) = schema.as_object() else { return faults.push(format!("{path}: no schema")) };
        let typed = fields.contains_key("type") || fields.contains_key("x-kubernetes-int-or-string");
        let known = ["type", "format", "properties", "items", "additionalProperties", "required", "default", "minimum", "nullable"];
        let foreign = |key: &&String| !known.contains(&key.as_str()) && !key.starts_with("x-kubernetes-");
        if !typed
            || fields.keys().any(|key| foreign(&key))
            || (fields.contains_key("properties") && fields.contains_key("additionalProperties"))
        {
            faults.push(format!("{path}: {:?}", fields.keys()));
        }
        for (name, property) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self::faults(&format!("{path}.{name}"), property, faults);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = fields.get(key) {
                self::faults(&format!("{path}[]"), inner, faults);
            }
        }
    }

    #[test]
    fn the_schema_is_structural_and_reaches_the_depth_of_a_container() {
        let definition = of_sets();
        assert_eq!(definition["metadata"]["name"], "statefulsets.apps.steadfast.dev");
        let version = &definition["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        faults("", schema, &mut found);
        assert_eq!(found, [""; 0]);
        let pod = &schema["properties"]["spec"]["properties"]["template"]["properties"];
        assert_eq!(pod["metadata"]["properties"]["labels"]["additionalProperties"]["type"], "string");
        let limits = &pod["spec"]["properties"]["containers"]["items"]["properties"]["resources"]["properties"]["limits"];
        assert_eq!(limits["additionalProperties"]["x-kubernetes-int-or-string"], true);
        assert_eq!(version["subresources"]["scale"]["specReplicasPath"], ".spec.replicas");
        assert!(definition.to_string().len() < 256 * 1024, "it must fit into the annotation that kubectl apply keeps");
    }
}
