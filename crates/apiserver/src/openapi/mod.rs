//! OpenAPI: what `kubectl explain` shows and clients validate by. Documents are put together from the registry and the schemas
//! when they are asked for; clients keep them under their hash.

use std::sync::OnceLock;

use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue, StatusCode};
use kinds::registry::RESOURCES;
use kinds::reviews::{self, REVIEWS, Review};
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
    for group in groups() {
        let path = document_path(group.group, group.version);
        documents.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", hash(&path))}));
    }
    respond::value(StatusCode::OK, &json!({"paths": documents}))
}

/// One group version's document. Who asks for it by its hash may keep it for ever.
pub fn document(group: &str, version: &str, query: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let served = groups().into_iter().find(|served| (served.group, served.version) == (group, version)).ok_or(ApiError::NoPath)?;
    let hash = hash(&document_path(group, version));
    let mut response = match respond::is_known(headers, &hash) {
        true => respond::not_modified(),
        false => respond::value(StatusCode::OK, &v3::document(&served)),
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

/// What is served of a group in a version.
struct Served {
    group: &'static str,
    version: &'static str,
    /// In the registry's order.
    rows: Vec<&'static Resource>,
    reviews: Vec<&'static Review>,
}

/// Everything that is served, by group and version.
fn groups() -> Vec<Served> {
    let mut groups: Vec<Served> = Vec::new();
    let of_rows = RESOURCES.iter().map(|row| (row.group, row.version));
    for (group, version) in of_rows.chain(REVIEWS.iter().map(|review| (review.group, reviews::VERSION))) {
        if groups.iter().any(|served| (served.group, served.version) == (group, version)) {
            continue;
        }
        let rows = RESOURCES.iter().filter(|row| (row.group, row.version) == (group, version)).collect();
        let reviews = REVIEWS.iter().filter(|review| (review.group, reviews::VERSION) == (group, version)).collect();
        groups.push(Served { group, version, rows, reviews });
    }
    groups
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
