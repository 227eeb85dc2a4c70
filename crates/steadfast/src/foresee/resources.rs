//! Under which paths an API server keeps which kinds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::manifests::Manifest;
use crate::connect::{ConnectError, Server};

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `/api/v1` or `/apis/<group>/<version>`.
    root: String,
    plural: String,
    pub namespaced: bool,
}

impl Resource {
    /// Where objects of a namespace are created.
    pub fn collection(&self, namespace: &str) -> String {
        match self.namespaced {
            true => format!("{}/namespaces/{namespace}/{}", self.root, self.plural),
            false => format!("{}/{}", self.root, self.plural),
        }
    }

    /// Where one object is.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }
}

/// The kinds that an API server has of those in the manifests, by `apiVersion` and kind.
pub async fn discover(server: &Server, manifests: &[Manifest]) -> Result<BTreeMap<(String, String), Resource>, ConnectError> {
    let versions: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.api_version.as_str()).collect();
    let mut found = BTreeMap::new();
    for version in versions.into_iter().filter(|version| is_version(version)) {
        let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let list = server.get(&root).await?.unwrap_or_default();
        for resource in list["resources"].as_array().into_iter().flatten() {
            if let Some((kind, resource)) = read(&root, resource) {
                found.insert((version.to_owned(), kind), resource);
            }
        }
    }
    Ok(found)
}

/// Whether it can stand in a path.
fn is_version(version: &str) -> bool {
    let fits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    version.split('/').count() <= 2 && version.split('/').all(fits)
}

/// A kind from a discovery document; subresources are none.
fn read(root: &str, resource: &Value) -> Option<(String, Resource)> {
    let plural = resource["name"].as_str().filter(|name| !name.contains('/'))?;
    let namespaced = resource["namespaced"].as_bool().unwrap_or(false);
    Some((resource["kind"].as_str()?.to_owned(), Resource { root: root.to_owned(), plural: plural.to_owned(), namespaced }))
}
