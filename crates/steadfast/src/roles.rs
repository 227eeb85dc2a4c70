//! The roles that attached controllers need, as a manifest.

use std::io::{ErrorKind, Write};

use controllers::rights::{self, ELECTION, Right};
use controllers::roster::Controller;
use kinds::SetKind;
use serde_json::{Value, json};

use crate::failure::Failure;

const RBAC: &str = "rbac.authorization.k8s.io";

/// A ServiceAccount beside the Lease and what binds it to no more than the controllers use.
pub(crate) fn manifest(chosen: &[Controller], sets: SetKind, namespace: &str, lease: &str) -> Vec<Value> {
    let rights = chosen.iter().flat_map(|controller| controller.rights(sets));
    let metadata = json!({"name": lease, "namespace": namespace});
    let cluster_wide = json!({"name": lease});
    let subjects = json!([{"kind": "ServiceAccount", "name": lease, "namespace": namespace}]);
    let object = |kind: &str, metadata: &Value, field: &str, value: Value| json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata, field: value});
    let binding = |kind: &str, role: &str, metadata: &Value| {
        let mut binding = object(kind, metadata, "subjects", subjects.clone());
        binding["roleRef"] = json!({"apiGroup": RBAC, "kind": role, "name": lease});
        binding
    };
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        object("ClusterRole", &cluster_wide, "rules", json!(rights::rules(rights))),
        binding("ClusterRoleBinding", "ClusterRole", &cluster_wide),
        object("Role", &metadata, "rules", lease_rules(lease)),
        binding("RoleBinding", "Role", &metadata),
    ]
}

/// All but the creation, which can't be limited by name, is of this Lease alone.
fn lease_rules(lease: &str) -> Value {
    let Right { group, resource, verbs } = ELECTION;
    let (create, others): (Vec<_>, Vec<_>) = verbs.iter().copied().partition(|verb| *verb == "create");
    json!([
        {"apiGroups": [group], "resources": [resource], "verbs": create},
        {"apiGroups": [group], "resources": [resource], "resourceNames": [lease], "verbs": others},
    ])
}

/// Prints objects as one YAML stream. Who reads may stop early.
pub(crate) fn print(objects: &[Value]) -> Result<(), Failure> {
    let mut stream = String::new();
    for object in objects {
        let text = serde_saphyr::to_string(object).map_err(|error| Failure::Message(format!("the manifest can't be made: {error}")))?;
        stream.push_str("---\n");
        stream.push_str(&text);
    }
    match std::io::stdout().write_all(stream.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Message(format!("the manifest can't be printed: {error}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_those_of_the_chosen_controllers_and_of_one_lease() {
        let objects = manifest(&[Controller::StatefulSet, Controller::Endpoints], SetKind::Steadfast, "ops", "steadfast");
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap_or_default()).collect();
        assert_eq!(kinds, ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
        let rules = objects[1]["rules"].as_array().expect("rules");
        let verbs = |group: &str, resource: &str| {
            let fits = |rule: &&Value| rule["apiGroups"] == json!([group]) && rule["resources"] == json!([resource]);
            rules.iter().filter(fits).map(|rule| rule["verbs"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(verbs("apps.steadfast.dev", "statefulsets"), [json!(["get", "list", "update", "watch"])]);
        assert_eq!(verbs("", "pods"), [json!(["create", "delete", "list", "patch", "update", "watch"])]);
        assert_eq!((verbs("apps", "statefulsets"), verbs("", "secrets")), (vec![], vec![]));
        assert_eq!(objects[3]["rules"][1]["resourceNames"], json!(["steadfast"]));
    }
}
