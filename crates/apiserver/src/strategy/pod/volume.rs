//! Volumes: each has a name and exactly one source.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, PodSpec, ProjectedVolumeSource, Volume, VolumeProjection};

use super::container::{field_path, local_path};
use crate::field::{FieldError, Path};
use crate::strategy::{check, names};

/// The names that containers can mount.
pub(super) struct Volumes<'a>(HashSet<&'a str>);

impl<'a> Volumes<'a> {
    /// The volumes of a pod, and those its owner will add.
    pub(super) fn of(spec: &'a PodSpec, claims: &[&'a str]) -> Self {
        Self(spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).chain(claims.iter().copied()).collect())
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

pub(super) fn validate_all(spec: &PodSpec, path: &Path) -> Vec<FieldError> {
    let path = path.child("volumes");
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        errors.extend(check::named(path.child("name"), &volume.name, names::dns_label));
        errors.extend(source(volume, &path));
    }
    let named = volumes.iter().enumerate().filter(|(_, volume)| !volume.name.is_empty());
    errors.extend(check::unique(named.map(|(index, volume)| (path.index(index).child("name"), volume.name.as_str()))));
    errors
}

fn source(volume: &Volume, path: &Path) -> Vec<FieldError> {
    let mut sources: Vec<String> = match check::shown(volume) {
        serde_json::Value::Object(fields) => fields.keys().filter(|name| *name != "name").cloned().collect(),
        _ => Vec::new(),
    };
    sources.sort();
    match sources.as_slice() {
        [] => vec![FieldError::required(path.clone(), "must specify a volume type")],
        [_] => known_source(volume, path),
        [_, others @ ..] => {
            others.iter().map(|name| FieldError::forbidden(path.child(name), "may not specify more than 1 volume type")).collect()
        }
    }
}

fn known_source(volume: &Volume, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(size) = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref()) {
        errors.extend(check::non_negative_quantity(path.child("emptyDir").child("sizeLimit"), size));
    }
    if let Some(source) = &volume.host_path {
        errors.extend(host_path(&source.path, source.type_.as_ref(), &path.child("hostPath")));
    }
    if let Some(source) = &volume.config_map {
        let path = path.child("configMap");
        errors.extend(check::required(path.child("name"), &source.name));
        errors.extend(mode(path.child("defaultMode"), source.default_mode));
        errors.extend(key_paths(source.items.as_deref(), &path.child("items")));
    }
    if let Some(source) = &volume.secret {
        let path = path.child("secret");
        errors.extend(check::required(path.child("secretName"), source.secret_name.as_deref().unwrap_or_default()));
        errors.extend(mode(path.child("defaultMode"), source.default_mode));
        errors.extend(key_paths(source.items.as_deref(), &path.child("items")));
    }
    if let Some(source) = &volume.persistent_volume_claim {
        let path = path.child("persistentVolumeClaim").child("claimName");
        errors.extend(check::named(path, &source.claim_name, names::dns_subdomain));
    }
    if let Some(source) = &volume.downward_api {
        let path = path.child("downwardAPI");
        errors.extend(mode(path.child("defaultMode"), source.default_mode));
        errors.extend(downward_files(source.items.as_deref(), &path));
    }
    if let Some(source) = &volume.projected {
        errors.extend(projected(source, &path.child("projected")));
    }
    if let Some(source) = &volume.nfs {
        let path = path.child("nfs");
        errors.extend(check::required(path.child("server"), &source.server));
        errors.extend(absolute(&source.path, path.child("path")));
    }
    errors
}

/// A directory or file of the node.
pub(in crate::strategy) fn host_path(text: &str, kind: Option<&String>, path: &Path) -> Vec<FieldError> {
    let kinds = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let mut errors: Vec<_> = check::required(path.child("path"), text).into_iter().collect();
    if text.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path.child("path"), text, "must not contain '..'"));
    }
    errors.extend(check::one_of(path.child("type"), kind, &kinds));
    errors
}

fn absolute(text: &str, path: Path) -> Option<FieldError> {
    match text {
        "" => Some(FieldError::required(path, "")),
        _ if !text.starts_with('/') => Some(FieldError::invalid(path, text, "must be an absolute path")),
        _ => None,
    }
}

fn mode(path: Path, mode: Option<i32>) -> Option<FieldError> {
    let mode = mode?;
    let detail = "must be a number between 0 and 0777 (octal), both inclusive";
    (!(0..=0o777).contains(&mode)).then(|| FieldError::invalid(path, mode, detail))
}

fn file(text: &str, path: Path) -> Option<FieldError> {
    match text {
        "" => Some(FieldError::required(path, "")),
        _ if text.starts_with("..") => Some(FieldError::invalid(path, text, "must not start with '..'")),
        _ => local_path(text, path),
    }
}

fn key_paths(items: Option<&[KeyToPath]>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        errors.extend(check::required(path.child("key"), &item.key));
        errors.extend(file(&item.path, path.child("path")));
        errors.extend(mode(path.child("mode"), item.mode));
    }
    errors
}

/// Fields of the pod that a file can hold.
const POD_FIELDS: [&str; 5] = ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn downward_files(items: Option<&[DownwardAPIVolumeFile]>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for item in items.unwrap_or_default() {
        errors.extend(file(&item.path, path.child("path")));
        errors.extend(mode(path.child("mode"), item.mode));
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), None) => errors.extend(field_path(&field.field_path, path.child("fieldRef").child("fieldPath"), &POD_FIELDS)),
            (None, Some(field)) => {
                let path = path.child("resourceFieldRef");
                errors.extend(check::required(path.child("containerName"), field.container_name.as_deref().unwrap_or_default()));
                errors.extend(check::required(path.child("resource"), &field.resource));
            }
            (Some(_), Some(_)) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path.clone(), "resource", detail));
            }
            (None, None) => errors.push(FieldError::required(path.clone(), "one of fieldRef and resourceFieldRef is required")),
        }
    }
    errors
}

fn projected(source: &ProjectedVolumeSource, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<_> = mode(path.child("defaultMode"), source.default_mode).into_iter().collect();
    for (index, projection) in source.sources.iter().flatten().enumerate() {
        errors.extend(one_projection(projection, &path.child("sources").index(index)));
    }
    errors
}

fn one_projection(projection: &VolumeProjection, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(source) = &projection.config_map {
        let path = path.child("configMap");
        errors.extend(check::required(path.child("name"), &source.name));
        errors.extend(key_paths(source.items.as_deref(), &path.child("items")));
    }
    if let Some(source) = &projection.secret {
        let path = path.child("secret");
        errors.extend(check::required(path.child("name"), &source.name));
        errors.extend(key_paths(source.items.as_deref(), &path.child("items")));
    }
    if let Some(source) = &projection.downward_api {
        errors.extend(downward_files(source.items.as_deref(), &path.child("downwardAPI")));
    }
    if let Some(source) = &projection.service_account_token {
        let path = path.child("serviceAccountToken");
        let seconds = source.expiration_seconds.unwrap_or(3600);
        if seconds < 600 {
            errors.push(FieldError::invalid(path.child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"));
        }
        errors.extend(file(&source.path, path.child("path")));
    }
    let given = [
        projection.config_map.is_some(),
        projection.secret.is_some(),
        projection.downward_api.is_some(),
        projection.service_account_token.is_some(),
    ];
    let other = projection.cluster_trust_bundle.is_some() || projection.pod_certificate.is_some();
    match given.iter().filter(|given| **given).count() {
        _ if other => errors.push(FieldError::forbidden(path.clone(), "trust bundles and pod certificates are not supported")),
        0 => errors.push(FieldError::required(path.clone(), "must specify a projection type")),
        1 => {}
        _ => errors.push(FieldError::forbidden(path.clone(), "may not specify more than 1 volume type")),
    }
    errors
}
