//! What is served, for clients that ask before they act. Everything here is computed from the registry.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode};
use kinds::registry::{RESOURCES, Subresource};
use kinds::reviews::{self, REVIEWS, Review};
use kinds::{KUBERNETES_VERSION, Resource, Scope};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::media;
use crate::respond::{self, Response};

/// `/version`.
pub fn version() -> Response {
    let version = json!({
        "major": "1", "minor": "36", "gitVersion": KUBERNETES_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, go_architecture()),
    });
    respond::value(StatusCode::OK, &version)
}

fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/api`.
pub fn core_versions(headers: &HeaderMap) -> Result<Response, ApiError> {
    match media::aggregated_discovery(headers)? {
        Some(version) => Ok(aggregated(version, headers, |group| group.is_empty())),
        None => Ok(respond::value(StatusCode::OK, &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}))),
    }
}

/// `/apis`.
pub fn groups(headers: &HeaderMap) -> Result<Response, ApiError> {
    match media::aggregated_discovery(headers)? {
        Some(version) => Ok(aggregated(version, headers, |group| !group.is_empty())),
        None => {
            let groups: Vec<_> = group_names().into_iter().filter(|group| !group.is_empty()).map(group_value).collect();
            Ok(respond::value(StatusCode::OK, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})))
        }
    }
}

/// `/apis/<group>`.
pub fn group(group: &str) -> Result<Response, ApiError> {
    if group.is_empty() || !group_names().contains(&group) {
        return Err(ApiError::NoPath);
    }
    let mut value = group_value(group);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Ok(respond::value(StatusCode::OK, &value))
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub fn resources(group: &str, version: &str) -> Result<Response, ApiError> {
    let rows: Vec<_> = RESOURCES.iter().filter(|row| row.group == group && row.version == version).collect();
    let mut resources: Vec<_> = reviews_of(group).map(review_value).collect();
    if rows.is_empty() && (resources.is_empty() || version != reviews::VERSION) {
        return Err(ApiError::NoPath);
    }
    for row in &rows {
        resources.push(json!({
            "name": row.plural, "singularName": row.singular, "namespaced": row.is_namespaced(), "kind": row.kind,
            "verbs": verbs(row), "shortNames": row.short_names, "categories": row.categories,
        }));
        for &subresource in row.subresources {
            let kind = response_kind(row, subresource);
            resources.push(json!({
                "name": format!("{}/{}", row.plural, subresource.name()), "singularName": "", "namespaced": row.is_namespaced(),
                "group": kind.0, "version": kind.1, "kind": kind.2, "verbs": subresource_verbs(subresource),
            }));
        }
    }
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version), "resources": resources,
    });
    Ok(respond::value(StatusCode::OK, &list))
}

/// The groups, each once, in the registry's order.
pub fn group_names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for group in RESOURCES.iter().map(|row| row.group).chain(REVIEWS.iter().map(|review| review.group)) {
        if !names.contains(&group) {
            names.push(group);
        }
    }
    names
}

fn group_value(group: &str) -> Value {
    let mut versions = Vec::new();
    let of_rows = RESOURCES.iter().filter(|row| row.group == group).map(|row| row.version);
    for version in of_rows.chain(reviews_of(group).map(|_| reviews::VERSION)) {
        let version = json!({"groupVersion": group_version(group, version), "version": version});
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn reviews_of(group: &str) -> impl Iterator<Item = &'static Review> {
    REVIEWS.iter().filter(move |review| review.group == group)
}

fn review_value(review: &Review) -> Value {
    json!({
        "name": review.plural, "singularName": review.singular(), "namespaced": review.scope == Scope::Namespaced, "kind": review.kind,
        "verbs": ["create"],
    })
}

fn aggregated_review(review: &Review) -> Value {
    json!({
        "resource": review.plural, "responseKind": {"group": review.group, "version": reviews::VERSION, "kind": review.kind},
        "scope": scope_name(review.scope), "singularResource": review.singular(), "verbs": ["create"],
    })
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    }
}

fn verbs(row: &Resource) -> Vec<&'static str> {
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    all.into_iter().filter(|&verb| row.delete_collection || verb != "deletecollection").collect()
}

pub fn subresource_verbs(subresource: Subresource) -> &'static [&'static str] {
    match subresource {
        Subresource::Status | Subresource::Scale | Subresource::EphemeralContainers => &["get", "patch", "update"],
        Subresource::Binding | Subresource::Eviction | Subresource::Token => &["create"],
        Subresource::Log => &["get"],
        Subresource::Exec | Subresource::Attach | Subresource::PortForward => &["create", "get"],
        Subresource::Finalize => &["update"],
    }
}

/// Group, version and kind of what a subresource takes or answers.
pub fn response_kind(row: &Resource, subresource: Subresource) -> (&'static str, &'static str, &'static str) {
    match subresource {
        Subresource::Status | Subresource::Log | Subresource::Finalize | Subresource::EphemeralContainers => {
            (row.group, row.version, row.kind)
        }
        Subresource::Scale => ("autoscaling", "v1", "Scale"),
        Subresource::Binding => ("", "v1", "Binding"),
        Subresource::Eviction => ("policy", "v1", "Eviction"),
        Subresource::Exec => ("", "v1", "PodExecOptions"),
        Subresource::Attach => ("", "v1", "PodAttachOptions"),
        Subresource::PortForward => ("", "v1", "PodPortForwardOptions"),
        Subresource::Token => ("authentication.k8s.io", "v1", "TokenRequest"),
    }
}

fn aggregated(version: &'static str, headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Response {
    let items: Vec<_> = group_names().into_iter().filter(|group| wanted(group)).map(aggregated_group).collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items,
    });
    let content_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    tagged(respond::typed(StatusCode::OK, content_type, list.to_string()), list.to_string().as_bytes(), headers)
}

/// The response with its tag, or none of it if the client has it already.
fn tagged(mut response: Response, content: &[u8], headers: &HeaderMap) -> Response {
    let tag = URL_SAFE_NO_PAD.encode(Sha256::digest(content));
    if respond::is_known(headers, &tag) {
        response = respond::not_modified();
    }
    respond::tag(&mut response, &tag);
    response.headers_mut().insert(http::header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn aggregated_group(group: &str) -> Value {
    let rows = RESOURCES.iter().filter(|row| row.group == group);
    let resources: Vec<_> = rows.map(aggregated_resource).chain(reviews_of(group).map(aggregated_review)).collect();
    // Every group has one version.
    let version = RESOURCES.iter().find(|row| row.group == group).map_or("v1", |row| row.version);
    json!({
        "metadata": {"name": group},
        "versions": [{"version": version, "resources": resources, "freshness": "Current"}],
    })
}

fn aggregated_resource(row: &Resource) -> Value {
    let kind = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let subresources: Vec<_> = row
        .subresources
        .iter()
        .map(|&subresource| {
            json!({
                "subresource": subresource.name(), "responseKind": kind(response_kind(row, subresource)),
                "verbs": subresource_verbs(subresource),
            })
        })
        .collect();
    let scope = scope_name(row.scope);
    json!({
        "resource": row.plural, "responseKind": kind((row.group, row.version, row.kind)), "scope": scope,
        "singularResource": row.singular, "verbs": verbs(row), "shortNames": row.short_names, "categories": row.categories,
        "subresources": subresources,
    })
}
