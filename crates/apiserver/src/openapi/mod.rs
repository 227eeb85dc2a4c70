//! OpenAPI: what `kubectl explain` shows and clients validate by. Documents are put together from the registry and the schemas
//! when they are asked for; clients keep them under their hash.

use std::sync::OnceLock;

use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue, StatusCode};
use kinds::registry::RESOURCES;
use kinds::{KUBERNETES_VERSION, Resource};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::random;
use crate::respond::{self, Response};

mod gnostic;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;
mod v2;
mod v3;

/// `/openapi/v3`: the documents there are.
pub fn index() -> Response {
    let mut documents = Map::new();
    for rows in group_versions() {
        let path = document_path(rows[0].group, rows[0].version);
        documents.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", hash(&path))}));
    }
    respond::value(StatusCode::OK, &json!({"paths": documents}))
}

/// One group version's document. Who asks for it by its hash may keep it for ever.
pub fn document(group: &str, version: &str, query: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let rows = rows(group, version);
    if rows.is_empty() {
        return Err(ApiError::NoPath);
    }
    let hash = hash(&document_path(group, version));
    let mut response = match respond::is_known(headers, &hash) {
        true => respond::not_modified(),
        false => respond::value(StatusCode::OK, &v3::document(&rows)),
    };
    respond::tag(&mut response, &hash);
    if query.split('&').any(|pair| pair.strip_prefix("hash=") == Some(&hash)) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
    }
    Ok(response)
}

/// `/openapi/v2`: everything in one document, as JSON or as the message that kubectl asks for.
pub fn whole(headers: &HeaderMap) -> Response {
    let hash = hash("v2");
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if respond::is_known(headers, &hash) {
        respond::not_modified()
    } else if gnostic::is_accepted(accept) {
        respond::typed(StatusCode::OK, gnostic::MEDIA_TYPE, gnostic::encoded(&v2::document()))
    } else {
        respond::value(StatusCode::OK, &v2::document())
    };
    respond::tag(&mut response, &hash);
    response
}

/// The rows of each group and version, in the registry's order.
fn group_versions() -> Vec<Vec<&'static Resource>> {
    let mut groups: Vec<Vec<&Resource>> = Vec::new();
    for row in RESOURCES {
        match groups.iter_mut().find(|rows| (rows[0].group, rows[0].version) == (row.group, row.version)) {
            Some(rows) => rows.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

fn rows(group: &str, version: &str) -> Vec<&'static Resource> {
    RESOURCES.iter().filter(|row| row.group == group && row.version == version).collect()
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": KUBERNETES_VERSION})
}

/// The parameters in a path.
fn path_parameters(path: &str) -> impl Iterator<Item = &'static str> + use<'_> {
    ["name", "namespace"].into_iter().filter(move |name| path.contains(&format!("{{{name}}}")))
}

fn document_path(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

/// Differs between programs that could serve different documents.
fn hash(document: &str) -> String {
    static FINGERPRINT: OnceLock<String> = OnceLock::new();
    let fingerprint = FINGERPRINT.get_or_init(|| {
        let program = std::env::current_exe().and_then(|path| path.metadata());
        let file = program.map(|file| (file.len(), file.modified().ok()));
        format!("{} {:?}", env!("CARGO_PKG_VERSION"), file.ok())
    });
    random::hex(&Sha256::digest(format!("{fingerprint} {document}"))).to_uppercase()
}
