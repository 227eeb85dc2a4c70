//! The table of cases, and what the server says it serves.

use std::collections::BTreeSet;

use end_to_end::Cluster;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::request::Resource;

/// What is done with one kind; `cases.yaml` says what the fields mean.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    pub api_version: String,
    pub kind: String,
    manifest: Value,
    pub update: Value,
    updated: Option<Value>,
    pub json: Patched,
    pub merge: Patched,
    pub strategic: Patched,
    pub apply: Patched,
    pub invalid: Vec<Invalid>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patched {
    pub patch: Value,
    gives: Option<Value>,
}

impl Patched {
    /// What the answer holds at least.
    pub fn gives(&self) -> &Value {
        self.gives.as_ref().unwrap_or(&self.patch)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invalid {
    pub create: Option<Value>,
    pub update: Option<Value>,
    pub says: String,
}

impl Case {
    /// The object to create, with a label by which the case finds its own.
    pub fn object(&self, namespace: Option<&str>, name: &str) -> Value {
        let text = self.manifest.to_string().replace("NAMESPACE", namespace.unwrap_or_default());
        let mut object: Value = serde_json::from_str(&text).expect("still JSON");
        let labels = json!({"suite": self.label()});
        merge(&mut object, &json!({"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": name, "labels": labels}}));
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object
    }

    /// What the object holds at least after the update.
    pub fn updated(&self) -> &Value {
        self.updated.as_ref().unwrap_or(&self.update)
    }

    /// The value of the label.
    pub fn label(&self) -> String {
        format!("{}-{}", self.kind, self.api_version.replace('/', "-")).to_lowercase()
    }
}

/// Applies a merge patch.
pub fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, change) in changes {
        match change {
            Value::Null => drop(object.as_object_mut().and_then(|fields| fields.remove(key))),
            change => merge(&mut object[key.as_str()], change),
        }
    }
}

/// A case for each kind that the server says it serves. Fails where there is a kind without a case, or the other way round.
pub fn cases(cluster: &Cluster) -> Vec<(Resource, Case)> {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../../clients/cases.yaml")).expect("the table of cases");
    let served = served(cluster);
    let of_case = |case: &Case| format!("{} {}", case.api_version, case.kind);
    let of_resource = |resource: &Resource| format!("{} {}", resource.api_version(), resource.kind);
    let have: BTreeSet<_> = cases.iter().map(of_case).collect();
    let want: BTreeSet<_> = served.iter().map(of_resource).collect();
    assert_eq!(have, want, "tests/clients/cases.yaml has what is left, the server serves what is right");
    let find = |case: Case| {
        let resource = served.iter().find(|resource| of_resource(resource) == of_case(&case)).expect("compared");
        (resource.clone(), case)
    };
    cases.into_iter().map(find).collect()
}

/// All resources whose objects can be created and listed.
fn served(cluster: &Cluster) -> Vec<Resource> {
    let groups = cluster.call("GET", "/apis", &Value::Null)["groups"].clone();
    let versions = groups.as_array().expect("groups").iter().flat_map(|group| group["versions"].as_array().expect("versions").clone());
    let paths = versions.map(|version| format!("/apis/{}", version["groupVersion"].as_str().expect("a group and version")));
    let documents = std::iter::once("/api/v1".to_owned()).chain(paths).map(|path| cluster.call("GET", &path, &Value::Null));
    documents.flat_map(|document| resources(&document)).collect()
}

fn resources(document: &Value) -> Vec<Resource> {
    let api_version = document["groupVersion"].as_str().expect("a group and version");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let has = |resource: &Value, verb: &str| resource["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!(verb)));
    let objects = document["resources"].as_array().expect("resources").iter();
    let objects = objects.filter(|resource| !resource["name"].as_str().is_some_and(|name| name.contains('/')));
    let objects = objects.filter(|resource| has(resource, "create") && has(resource, "list"));
    let text = |resource: &Value, field: &str| resource[field].as_str().expect("a text").to_owned();
    let resource = |resource: &Value| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: text(resource, "kind"),
        plural: text(resource, "name"),
        namespaced: resource["namespaced"] == json!(true),
        collection: has(resource, "deletecollection"),
    };
    objects.map(resource).collect()
}
