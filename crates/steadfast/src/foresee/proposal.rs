//! What the API server would make of each manifest, asked of the server itself by a dry run: defaults, validation, admission
//! and what can't be changed are its business.

use std::collections::BTreeSet;

use futures::StreamExt;
use http::Method;
use kube::core::Status;
use plan::forecast::{FieldChange, changes};
use serde::Serialize;
use serde_json::{Value, json};

use super::manifests::Manifest;
use super::resources::{Resource, discover};
use super::three_way::{Patch, last_applied, three_way};
use crate::connect::{ConnectError, Server};

/// How many questions are under way at once.
const AT_ONCE: usize = 8;
/// What kubectl sends with what it applies.
const QUERY: &str = "dryRun=All&fieldManager=kubectl-client-side-apply&fieldValidation=Strict";
/// Namespaces that every cluster has, those with the fewest names first.
const FALLBACKS: [&str; 2] = ["kube-public", "default"];

/// A manifest and what would become of it.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub api_version: String,
    pub kind: String,
    /// Empty for kinds without one.
    pub namespace: String,
    pub name: String,
    /// What is there now.
    pub live: Option<Value>,
    /// What would be there, or why not.
    pub outcome: Result<Value, Vec<Refusal>>,
}

/// A field that would be refused, and why. Without a field it is the object as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub field: String,
    pub message: String,
}

/// Asks for every manifest. Nothing is written.
pub async fn propose(server: &Server, manifests: Vec<Manifest>) -> Result<Vec<Proposal>, ConnectError> {
    let resources = discover(server, &manifests).await?;
    let created: BTreeSet<String> =
        manifests.iter().filter(|manifest| manifest.kind == "Namespace").map(|manifest| manifest.name.clone()).collect();
    let (resources, created) = (&resources, &created);
    let questions = manifests.into_iter().map(|manifest| async move {
        match resources.get(&(manifest.api_version.clone(), manifest.kind.clone())) {
            Some(resource) => Question { server, resource, created, manifest: &manifest }.ask().await,
            None => Ok(unknown(server, &manifest)),
        }
    });
    let answers: Vec<_> = futures::stream::iter(questions).buffered(AT_ONCE).collect().await;
    answers.into_iter().collect()
}

fn unknown(server: &Server, manifest: &Manifest) -> Proposal {
    let Manifest { api_version, kind, .. } = manifest;
    let message =
        format!("the server has no kind {kind} in {api_version}; if a definition among these manifests adds it, apply that first");
    let namespace = manifest.namespace.clone().unwrap_or_else(|| server.namespace.clone());
    proposal(manifest, &namespace, None, Err(vec![Refusal { field: String::new(), message }]))
}

fn proposal(manifest: &Manifest, namespace: &str, live: Option<Value>, outcome: Result<Value, Vec<Refusal>>) -> Proposal {
    let Manifest { api_version, kind, name, .. } = manifest.clone();
    Proposal { api_version, kind, namespace: namespace.to_owned(), name, live, outcome }
}

/// One manifest on its way to the server.
struct Question<'a> {
    server: &'a Server,
    resource: &'a Resource,
    /// The namespaces that the manifests would create.
    created: &'a BTreeSet<String>,
    manifest: &'a Manifest,
}

impl Question<'_> {
    async fn ask(&self) -> Result<Proposal, ConnectError> {
        let namespace = match self.resource.namespaced {
            true => self.manifest.namespace.clone().unwrap_or_else(|| self.server.namespace.clone()),
            false => String::new(),
        };
        if let Some(text) = [&namespace, &self.manifest.name].into_iter().find(|text| !fits_in_path(text)) {
            let refusal = Refusal { field: "metadata".to_owned(), message: format!("{text:?} can be no name of an object") };
            return Ok(proposal(self.manifest, &namespace, None, Err(vec![refusal])));
        }
        let live = self.server.get(&self.resource.object(&namespace, &self.manifest.name)).await?;
        let outcome = match &live {
            Some(live) => self.change(&namespace, live).await,
            None => self.create(&namespace).await,
        };
        let outcome = match outcome {
            Ok(object) => Ok(object),
            Err(error) => match error.refusal() {
                Some(status) => Err(refusals(status)),
                None => return Err(error),
            },
        };
        Ok(proposal(self.manifest, &namespace, live, outcome))
    }

    async fn create(&self, namespace: &str) -> Result<Value, ConnectError> {
        let mut answer = self.create_in(namespace).await;
        // A namespace that is created as well would be there by then. Another one answers the same in its place.
        for fallback in FALLBACKS.into_iter().filter(|_| self.created.contains(namespace)) {
            let elsewhere = |error: &ConnectError| error.refusal().is_some_and(|status| matches!(status.code, 404 | 409));
            if answer.as_ref().is_err_and(elsewhere) {
                answer = self.create_in(fallback).await;
            }
        }
        let mut object = answer?;
        if self.resource.namespaced {
            object["metadata"]["namespace"] = namespace.into();
        }
        Ok(object)
    }

    async fn create_in(&self, namespace: &str) -> Result<Value, ConnectError> {
        let mut object = self.manifest.value.clone();
        if self.resource.namespaced {
            object["metadata"]["namespace"] = namespace.into();
        }
        let path = format!("{}?{QUERY}", self.resource.collection(namespace));
        self.server.send(&self.doing("create"), Method::POST, &path, "application/json", object.to_string().into_bytes()).await
    }

    /// As `kubectl apply` would change it. A server that knows no strategic merge for a kind says so.
    async fn change(&self, namespace: &str, live: &Value) -> Result<Value, ConnectError> {
        match self.patch(namespace, live, Patch::Strategic).await {
            Err(error) if error.refusal().is_some_and(|status| status.code == 415) => self.patch(namespace, live, Patch::Merge).await,
            other => other,
        }
    }

    async fn patch(&self, namespace: &str, live: &Value, patch: Patch) -> Result<Value, ConnectError> {
        let body = three_way(last_applied(live).as_ref(), &self.manifest.value, patch);
        let path = format!("{}?{QUERY}", self.resource.object(namespace, &self.manifest.name));
        self.server.send(&self.doing("change"), Method::PATCH, &path, patch.media_type(), body.to_string().into_bytes()).await
    }

    fn doing(&self, verb: &str) -> String {
        format!("ask what it means to {verb} {} {}", self.manifest.kind, self.manifest.name)
    }
}

fn fits_in_path(name: &str) -> bool {
    name != ".." && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
}

/// The fields that a refusal is about.
fn refusals(status: &Status) -> Vec<Refusal> {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let named = causes.iter().filter(|cause| !cause.field.is_empty());
    let mut refusals: Vec<_> = named.map(|cause| Refusal { field: cause.field.clone(), message: cause.message.clone() }).collect();
    if refusals.is_empty() {
        refusals.push(Refusal { field: String::new(), message: status.message.clone() });
    }
    refusals
}

impl Proposal {
    /// The object before and after, without what says nothing about it.
    pub fn difference(&self) -> Vec<FieldChange> {
        let (Some(live), Ok(after)) = (&self.live, &self.outcome) else { return Vec::new() };
        let mut changes = changes("", &said(live), &said(after));
        if self.kind == "Secret" {
            changes.iter_mut().filter(|change| change.path.starts_with("data")).for_each(hide);
        }
        changes
    }
}

/// That a secret changes may be told, but not to what.
fn hide(change: &mut FieldChange) {
    for value in [&mut change.before, &mut change.after] {
        if !value.is_null() {
            *value = "(hidden)".into();
        }
    }
}

/// What users say in an object.
fn said(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let bookkeeping = ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"];
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|key, _| !bookkeeping.contains(&key.as_str()));
        if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(super::three_way::LAST_APPLIED);
        }
    }
    for key in ["annotations", "labels"] {
        if object["metadata"][key] == json!({}) {
            object["metadata"][key] = Value::Null;
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_fields_or_is_about_the_whole() {
        let status = |details: Value| -> Status {
            serde_json::from_value(json!({"status": "Failure", "code": 422, "message": "no", "details": details})).unwrap()
        };
        let causes = json!({"causes": [{"reason": "FieldValueForbidden", "message": "Forbidden: x", "field": "spec"}]});
        let refusal = |field: &str, message: &str| Refusal { field: field.to_owned(), message: message.to_owned() };
        assert_eq!(refusals(&status(causes)), [refusal("spec", "Forbidden: x")]);
        assert_eq!(refusals(&status(json!({}))), [refusal("", "no")]);
    }

    #[test]
    fn bookkeeping_is_no_difference() {
        let annotations = json!({(super::super::three_way::LAST_APPLIED): "{}"});
        let live = json!({"metadata": {"name": "a", "resourceVersion": "1", "annotations": annotations}, "data": {"a": "1"}});
        let after = json!({"metadata": {"name": "a", "resourceVersion": "2"}, "data": {"a": "2"}});
        let told = |kind: &str| -> Vec<String> {
            let (api_version, name) = ("v1".to_owned(), "a".to_owned());
            let manifest = Manifest { api_version, kind: kind.to_owned(), name, namespace: None, value: Value::Null };
            let proposal = proposal(&manifest, "", Some(live.clone()), Ok(after.clone()));
            proposal.difference().iter().map(ToString::to_string).collect()
        };
        assert_eq!(told("ConfigMap"), ["data.a: 1 -> 2"]);
        assert_eq!(told("Secret"), ["data.a: (hidden) -> (hidden)"]);
    }
}
