//! A pod acts as a service account: its name, its pull secrets, and its token, mounted where client libraries look.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, PodSpec, ProjectedVolumeSource,
    ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};

use super::read::Reader;
use super::{Request, random};
use crate::error::ApiError;

const DEFAULT: &str = "default";
/// Where client libraries look for the token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Seconds that a token is good for: an hour, and the time to notice that it was renewed.
const TOKEN_SECONDS: i64 = 3607;
/// The `default` account of a new namespace is made by a controller, a moment after the namespace.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn complete(reader: &Reader, request: &Request<'_>, spec: &mut PodSpec) -> Result<(), ApiError> {
    let name = spec.service_account_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT.to_owned());
    spec.service_account_name = Some(name.clone());
    spec.service_account = Some(name.clone());
    let account = find(reader, request.namespace, &name).await?.ok_or_else(|| {
        let namespace = request.namespace;
        request.forbidden(&format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"))
    })?;
    let automount = spec.automount_service_account_token.or(account.automount_service_account_token).unwrap_or(true);
    if automount {
        mount(spec);
    }
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        spec.image_pull_secrets = account.image_pull_secrets;
    }
    Ok(())
}

async fn find(reader: &Reader, namespace: &str, name: &str) -> Result<Option<ServiceAccount>, ApiError> {
    if name == DEFAULT { reader.await_object(namespace, name, PATIENCE).await } else { reader.get(namespace, name).await }
}

/// Mounts the token in every container that has nothing at its place.
fn mount(spec: &mut PodSpec) {
    let existing = spec.volumes.iter().flatten().find(|volume| volume.name.starts_with(VOLUME_PREFIX) && volume.projected.is_some());
    let missing = existing.is_none();
    let name = existing.map_or_else(|| format!("{VOLUME_PREFIX}{}", random::suffix()), |volume| volume.name.clone());
    let mut mounted = false;
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let mounts = container.volume_mounts.get_or_insert_default();
        if mounts.iter().all(|mount| mount.mount_path.trim_end_matches('/') != MOUNT_PATH) {
            let mount_path = MOUNT_PATH.to_owned();
            mounts.push(VolumeMount { name: name.clone(), mount_path, read_only: Some(true), ..VolumeMount::default() });
            mounted = true;
        }
    }
    if mounted && missing {
        spec.volumes.get_or_insert_default().push(volume(name));
    }
}

fn volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection { expiration_seconds: Some(TOKEN_SECONDS), path: "token".to_owned(), audience: None };
    let certificate = KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), mode: None };
    let authority = ConfigMapProjection { name: "kube-root-ca.crt".to_owned(), items: Some(vec![certificate]), optional: None };
    let field = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: "metadata.namespace".to_owned() };
    let file = DownwardAPIVolumeFile { path: "namespace".to_owned(), field_ref: Some(field), ..DownwardAPIVolumeFile::default() };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(authority), ..VolumeProjection::default() },
        VolumeProjection { downward_api: Some(DownwardAPIProjection { items: Some(vec![file]) }), ..VolumeProjection::default() },
    ];
    let projected = ProjectedVolumeSource { default_mode: Some(0o644), sources: Some(sources) };
    Volume { name, projected: Some(projected), ..Volume::default() }
}
