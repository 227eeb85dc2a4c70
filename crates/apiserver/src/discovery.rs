//! What is served, told to clients: the legacy documents and the aggregated ones, all from the registry.

use kinds::registry::{RESOURCES, Resource, Subresource};
use serde_json::{Value, json};

/// Verbs of every resource, in upstream's order; `deletecollection` only where the row allows it.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/api`
pub fn core_versions(server: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    })
}

/// `/apis`
pub fn groups() -> Value {
    let groups: Vec<_> = named_groups().into_iter().map(group_document).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`; `None` when there is no such group.
pub fn group(name: &str) -> Option<Value> {
    let name = named_groups().into_iter().find(|group| *group == name)?;
    let mut document = group_document(name);
    document["kind"] = json!("APIGroup");
    document["apiVersion"] = json!("v1");
    Some(document)
}

/// `/api/v1` and `/apis/<group>/<version>`; `None` when there is no such group and version.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let rows: Vec<_> = RESOURCES.iter().filter(|row| row.group == group && row.version == version).collect();
    let first = rows.first()?;
    let resources: Vec<_> = rows.iter().flat_map(|row| legacy_documents(row)).collect();
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": resources}))
}

/// The aggregated document of the core group (`/api`) or of all others (`/apis`), in `apidiscovery.k8s.io/<version>`.
pub fn aggregated(core: bool, version: &str) -> Value {
    let groups = if core { vec![""] } else { named_groups() };
    let items: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let resources: Vec<_> = RESOURCES.iter().filter(|row| row.group == group).map(aggregated_document).collect();
            let version = json!({"version": version_of(group), "freshness": "Current", "resources": resources});
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": [version]})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items})
}

/// The groups with a name, in the registry's order.
fn named_groups() -> Vec<&'static str> {
    let mut names = Vec::new();
    for row in RESOURCES.iter().filter(|row| !row.group.is_empty()) {
        if !names.contains(&row.group) {
            names.push(row.group);
        }
    }
    names
}

fn version_of(group: &str) -> &'static str {
    RESOURCES.iter().find(|row| row.group == group).map_or("v1", |row| row.version)
}

fn group_document(group: &str) -> Value {
    let version = version_of(group);
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

fn verbs(row: &Resource) -> Vec<&'static str> {
    VERBS.into_iter().filter(|verb| row.delete_collection || *verb != "deletecollection").collect()
}

fn legacy_documents(row: &Resource) -> Vec<Value> {
    let mut own = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.is_namespaced(), "kind": row.kind, "verbs": verbs(row),
    });
    add_names(&mut own, row);
    let mut documents = vec![own];
    for subresource in row.subresources {
        let (kind, verbs) = subresource_kind(row, *subresource);
        let mut document = json!({
            "name": format!("{}/{}", row.plural, subresource.name()), "singularName": "", "namespaced": row.is_namespaced(),
            "kind": kind.kind, "verbs": verbs,
        });
        if let Some((group, version)) = kind.group_version {
            document["group"] = json!(group);
            document["version"] = json!(version);
        }
        documents.push(document);
    }
    documents
}

fn aggregated_document(row: &Resource) -> Value {
    let mut document = json!({
        "resource": row.plural, "singularResource": row.singular, "scope": if row.is_namespaced() { "Namespaced" } else { "Cluster" },
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind}, "verbs": verbs(row),
    });
    add_names(&mut document, row);
    let subresources: Vec<_> = row
        .subresources
        .iter()
        .map(|subresource| {
            let (kind, verbs) = subresource_kind(row, *subresource);
            let (group, version) = kind.group_version.unwrap_or((row.group, row.version));
            json!({
                "subresource": subresource.name(), "verbs": verbs,
                "responseKind": {"group": group, "version": version, "kind": kind.kind},
            })
        })
        .collect();
    if !subresources.is_empty() {
        document["subresources"] = json!(subresources);
    }
    document
}

fn add_names(document: &mut Value, row: &Resource) {
    if !row.short_names.is_empty() {
        document["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        document["categories"] = json!(row.categories);
    }
}

/// The kind a subresource speaks; its group and version where they are not the resource's own.
struct Kind {
    kind: &'static str,
    group_version: Option<(&'static str, &'static str)>,
}

fn subresource_kind(row: &Resource, subresource: Subresource) -> (Kind, &'static [&'static str]) {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    let own = |kind| Kind { kind, group_version: None };
    match subresource {
        Subresource::Status => (own(row.kind), CHANGE),
        Subresource::Scale => (Kind { kind: "Scale", group_version: Some(("autoscaling", "v1")) }, CHANGE),
        Subresource::Binding => (own("Binding"), &["create"]),
        Subresource::Log => (own(row.kind), &["get"]),
        Subresource::Exec => (own("PodExecOptions"), &["create", "get"]),
        Subresource::Token => (Kind { kind: "TokenRequest", group_version: Some(("authentication.k8s.io", "v1")) }, &["create"]),
        Subresource::Finalize => (own(row.kind), &["update"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_told_in_both_forms() {
        for row in RESOURCES {
            let legacy = resources(row.group, row.version).expect("the group is served");
            assert!(legacy["resources"].as_array().expect("a list").iter().any(|resource| resource["name"] == row.plural));
            let aggregated = aggregated(row.group.is_empty(), "v2").to_string();
            assert!(aggregated.contains(&format!("\"resource\":\"{}\"", row.plural)));
        }
        assert_eq!(group("apps").expect("served")["preferredVersion"]["groupVersion"], "apps/v1");
        assert!(group("nothing.example").is_none() && resources("apps", "v9").is_none());
    }

    #[test]
    fn a_scale_is_told_with_its_own_group() {
        let apps = resources("apps", "v1").expect("served").to_string();
        assert!(apps.contains(r#""group":"autoscaling","kind":"Scale","name":"statefulsets/scale""#), "{apps}");
    }
}
