//! Which user and password a registry gets: from the pod's pull secrets.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::Auth;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use crate::sources::{Data, Sources};

/// What a pull secret holds.
#[derive(Debug, Default, Deserialize)]
struct Registries {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
}

/// The credentials for an image, if one of the pod's secrets has them. Secrets that are missing or broken are passed over.
pub(crate) async fn find(sources: &Sources, pod: &Pod, reference: &str) -> Result<Option<Auth>, kube::Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for secret in pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()) {
        let found = sources.secret(namespace, &secret.name).await?;
        if let Some((username, password)) = found.and_then(|data| credentials(&data, reference)) {
            return Ok(Some(Auth::Basic { user: username, password }));
        }
    }
    Ok(None)
}

fn credentials(data: &Data, reference: &str) -> Option<(String, String)> {
    let registries: Registries = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
        (Some(json), _) => serde_json::from_slice(json).ok()?,
        (None, Some(json)) => Registries { auths: serde_json::from_slice(json).ok()? },
        (None, None) => return None,
    };
    let matching = registries.auths.into_iter().filter(|(registry, _)| is_for(registry, reference));
    matching.max_by_key(|(registry, _)| registry.len()).and_then(|(_, entry)| entry.read())
}

/// Whether the registry (perhaps with a path) is where the reference points.
fn is_for(registry: &str, reference: &str) -> bool {
    let plain = registry.trim_start_matches("https://").trim_start_matches("http://");
    let plain = plain.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let host = plain.split('/').next().unwrap_or_default();
    if matches!(host, "docker.io" | "index.docker.io") {
        let first = reference.split('/').next().unwrap_or_default();
        return !reference.contains('/') || !first.contains(['.', ':']) || first == "docker.io";
    }
    reference.strip_prefix(plain).is_some_and(|rest| rest.starts_with('/'))
}

impl Entry {
    fn read(self) -> Option<(String, String)> {
        if let (Some(username), Some(password)) = (self.username, self.password) {
            return Some((username, password));
        }
        let both = String::from_utf8(BASE64_STANDARD.decode(self.auth?).ok()?).ok()?;
        both.split_once(':').map(|(username, password)| (username.to_owned(), password.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_matching_registry_has_the_word() {
        let json = br#"{"auths":{
            "registry.example":{"username":"a","password":"1"},
            "registry.example/team":{"auth":"Yjoy"},
            "https://index.docker.io/v1/":{"username":"hub","password":"3"}}}"#;
        let data = Data::from([(".dockerconfigjson".to_owned(), json.to_vec())]);
        let user = |reference| credentials(&data, reference).map(|(username, _)| username);
        assert_eq!(user("registry.example/x:1").as_deref(), Some("a"));
        assert_eq!(user("registry.example/team/x:1").as_deref(), Some("b"));
        assert_eq!(user("library/redis").as_deref(), Some("hub"));
        assert_eq!(user("redis").as_deref(), Some("hub"));
        assert_eq!(user("other.example/x"), None);
        assert_eq!(user("registry.example.evil/x"), None);
    }
}
