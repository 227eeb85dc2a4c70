//! OpenAPI v3: what `kubectl explain` shows and clients validate by. Documents are computed from the types' schemas when they
//! are asked for; clients keep them under their hash.

use std::sync::OnceLock;

use http::StatusCode;
use kinds::registry::RESOURCES;
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::random;
use crate::respond::{self, Response};

mod paths;
mod schemas;

/// `/openapi/v3`: the documents there are.
pub fn index() -> Response {
    let mut paths = Map::new();
    for row in RESOURCES {
        let path = document_path(row.group, row.version);
        let hash = random::hex(&Sha256::digest(format!("{} {path}", fingerprint()))).to_uppercase();
        paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
    }
    respond::value(StatusCode::OK, &json!({"paths": paths}))
}

/// One group version's document.
pub fn document(group: &str, version: &str) -> Result<Response, ApiError> {
    let rows: Vec<_> = RESOURCES.iter().filter(|row| row.group == group && row.version == version).collect();
    if rows.is_empty() {
        return Err(ApiError::NoPath);
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2+steadfast"},
        "paths": paths::of(&rows),
        "components": {"schemas": schemas::of(&rows)},
    });
    Ok(respond::value(StatusCode::OK, &document))
}

fn document_path(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

/// Differs between programs that could serve different documents.
fn fingerprint() -> &'static str {
    static FINGERPRINT: OnceLock<String> = OnceLock::new();
    FINGERPRINT.get_or_init(|| {
        let program = std::env::current_exe().and_then(|path| path.metadata());
        let file = program.map(|file| (file.len(), file.modified().ok()));
        format!("{} {:?}", env!("CARGO_PKG_VERSION"), file.ok())
    })
}

#[cfg(test)]
mod tests {
    use kinds::registry;
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_kind_is_marked() {
        for row in RESOURCES {
            let schemas = schemas::of(&[row]);
            let text = Value::Object(schemas.clone()).to_string();
            for reference in text.split("\"$ref\":\"").skip(1) {
                let name = reference.split('"').next().unwrap().strip_prefix("#/components/schemas/").unwrap();
                assert!(schemas.contains_key(name), "{name}");
            }
            let kind = &schemas[&(row.codec.schema_name)()];
            assert_eq!(kind["x-kubernetes-group-version-kind"][0]["kind"], row.kind);
        }
    }

    #[test]
    fn merge_keys_and_parameters_are_told() {
        let pods = registry::find("", "v1", "pods").unwrap();
        let spec = &schemas::of(&[pods])["io.k8s.api.core.v1.PodSpec"];
        assert_eq!(spec["properties"]["containers"]["x-kubernetes-patch-merge-key"], "name");
        let paths = paths::of(&[pods]);
        let patch = &paths["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        let names: Vec<_> = patch["parameters"].as_array().unwrap().iter().map(|parameter| &parameter["name"]).collect();
        assert!(names.contains(&&json!("fieldValidation")) && names.contains(&&json!("dryRun")));
    }
}
