//! Makes a pod's volumes, keeps what comes from the API up to date, and removes them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, PersistentVolume, Pod, ProjectedVolumeSource, Volume, VolumeProjection,
};
use kinds::Quantity;
use volume::content::{self, DEFAULT_MODE};
use volume::ownership::ChangePolicy;
use volume::{Payload, atomic, host_path, ownership, scratch, tree};

use crate::Shared;
use crate::container::downward::{self, Facts};
use crate::error::OperationError;
use crate::tokens::TokenKey;

/// A pod's volumes, ready to be mounted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    /// Where each lies; `None` in `read_only` fields leaves the choice to the mount.
    pub volumes: BTreeMap<String, Place>,
    /// When a token in them is to be replaced.
    pub refresh_at: Option<Timestamp>,
}

/// Where a volume lies.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub path: PathBuf,
    pub read_only: bool,
}

/// One volume, and when it is to be looked at again.
struct Made {
    place: Place,
    refresh_at: Option<Timestamp>,
}

impl Made {
    fn at(path: PathBuf, read_only: bool) -> Self {
        Self { place: Place { path, read_only }, refresh_at: None }
    }
}

/// Makes all volumes of a pod, or brings them up to date. Idempotent.
pub(crate) async fn prepare(shared: &Shared, pod: &Pod) -> Result<Prepared, OperationError> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let made = volumes.map(|volume| async {
        let failed = |message: String| OperationError::Volume { volume: volume.name.clone(), message };
        let made = make(shared, pod, volume).await.map_err(failed)?;
        Ok::<_, OperationError>((volume.name.clone(), made))
    });
    let made = try_join_all(made).await?;
    let refresh_at = made.iter().filter_map(|(_, made)| made.refresh_at).min();
    Ok(Prepared { volumes: made.into_iter().map(|(name, made)| (name, made.place)).collect(), refresh_at })
}

/// Removes everything of a pod that lies in directories of the node, mounts first. Persistent volumes stay.
pub(crate) async fn tear_down(shared: &Shared, uid: &str) -> io::Result<()> {
    let (paths, uid) = (shared.paths.clone(), uid.to_owned());
    blocking(move || {
        tree::unmount_beneath(&paths.pod(&uid))?;
        tree::remove(&paths.secrets(), &uid)?;
        tree::remove(&paths.pods(), &uid)
    })
    .await
}

async fn make(shared: &Shared, pod: &Pod, volume: &Volume) -> Result<Made, String> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if let Some(source) = &volume.empty_dir {
        return empty_dir(shared, pod, source, shared.paths.volume(uid, &volume.name)).await;
    }
    if let Some(source) = &volume.host_path {
        let (path, kind) = (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default());
        let checked = path.clone();
        blocking(move || host_path::prepare(&checked, &kind).map_err(io::Error::other)).await.map_err(|error| error.to_string())?;
        return Ok(Made::at(path, false));
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return claimed(shared, pod, &source.claim_name, source.read_only == Some(true)).await;
    }
    from_api(shared, pod, volume, uid).await
}

/// Volumes whose files come from the API.
async fn from_api(shared: &Shared, pod: &Pod, volume: &Volume, uid: &str) -> Result<Made, String> {
    let plain = shared.paths.volume(uid, &volume.name);
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let payload = config_map(shared, pod, &source.name, source.items.as_deref(), mode, source.optional == Some(true)).await?;
        return write(pod, plain, payload, None).await;
    }
    if let Some(source) = &volume.downward_api {
        let payload = downward(shared, pod, source.items.as_deref().unwrap_or_default(), source.default_mode.unwrap_or(DEFAULT_MODE))?;
        return write(pod, plain, payload, None).await;
    }
    let hidden = shared.paths.secret_volume(uid, &volume.name);
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let payload = secret(shared, pod, &name, source.items.as_deref(), mode, source.optional == Some(true)).await?;
        return write(pod, hidden, payload, None).await;
    }
    if let Some(source) = &volume.projected {
        let (payload, refresh_at) = projected(shared, pod, volume, source).await?;
        return write(pod, hidden, payload, refresh_at).await;
    }
    Err(format!("volumes of type {} are not supported by this node", type_name(volume)))
}

/// The name of the field that says what the volume is.
fn type_name(volume: &Volume) -> String {
    let json = kinds::object::to_tree(volume).unwrap_or_default();
    let mut fields = json.as_object().into_iter().flat_map(|fields| fields.keys());
    fields.find(|field| *field != "name").cloned().unwrap_or_else(|| "unknown".to_owned())
}

async fn empty_dir(shared: &Shared, pod: &Pod, source: &EmptyDirVolumeSource, path: PathBuf) -> Result<Made, String> {
    let limit = source.size_limit.as_ref().and_then(|limit| limit.0.parse::<Quantity>().ok()).filter(|limit| limit.signum() > 0);
    let bytes = limit.map(|limit| limit.value().unsigned_abs());
    let in_memory = match source.medium.as_deref() {
        None | Some("") => false,
        Some("Memory") => true,
        Some(other) => return Err(format!("emptyDir medium {other} is not supported by this node")),
    };
    let (owner, made) = (owner(pod), path.clone());
    let is_new = !tokio::fs::try_exists(&path).await.unwrap_or(false);
    let pods = shared.paths.pods();
    blocking(move || {
        std::fs::create_dir_all(pods)?;
        if in_memory {
            scratch::memory(&made, bytes)?
        } else {
            scratch::disk(&made)?
        }
        match owner {
            Some((gid, policy)) if is_new => ownership::apply(&made, gid, false, policy),
            _ => Ok(()),
        }
    })
    .await
    .map_err(|error| error.to_string())?;
    Ok(Made::at(path, false))
}

/// Whom the pod's volumes belong to.
fn owner(pod: &Pod) -> Option<(u32, ChangePolicy)> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    let policy = match context.fs_group_change_policy.as_deref() {
        Some("OnRootMismatch") => ChangePolicy::OnRootMismatch,
        _ => ChangePolicy::Always,
    };
    Some((u32::try_from(context.fs_group?).ok()?, policy))
}

async fn claimed(shared: &Shared, pod: &Pod, claim: &str, read_only: bool) -> Result<Made, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let found = shared.sources.claim(namespace, claim).await.map_err(|error| error.to_string())?;
    let found = found.ok_or_else(|| format!("persistentvolumeclaim \"{claim}\" not found"))?;
    let volume_name = found.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|name| !name.is_empty());
    let volume_name = volume_name.ok_or_else(|| format!("PVC {namespace}/{claim} is not bound"))?;
    let volume = shared.sources.volume(&volume_name).await.map_err(|error| error.to_string())?;
    let volume = volume.ok_or_else(|| format!("persistentvolume \"{volume_name}\" not found"))?;
    let bound_to = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|claim| claim.uid.clone());
    if bound_to.is_some() && bound_to != found.metadata.uid {
        return Err(format!("PV {volume_name} is bound to another claim than {namespace}/{claim}"));
    }
    let path = volume_path(&volume)?;
    let owner = owner(pod).filter(|_| !read_only);
    let (checked, is_local) = (path.clone(), volume.spec.as_ref().is_some_and(|spec| spec.local.is_some()));
    blocking(move || match std::fs::metadata(&checked) {
        Err(error) => Err(io::Error::new(error.kind(), format!("path \"{}\" of the volume: {error}", checked.display()))),
        Ok(_) => owner.filter(|_| is_local).map_or(Ok(()), |(gid, policy)| ownership::apply(&checked, gid, false, policy)),
    })
    .await
    .map_err(|error| error.to_string())?;
    Ok(Made::at(path, read_only))
}

fn volume_path(volume: &PersistentVolume) -> Result<PathBuf, String> {
    let spec = volume.spec.clone().unwrap_or_default();
    match (spec.local, spec.host_path) {
        (Some(local), _) => Ok(PathBuf::from(local.path)),
        (_, Some(host_path)) => {
            host_path::prepare(Path::new(&host_path.path), host_path.type_.as_deref().unwrap_or_default())
                .map_err(|error| error.to_string())?;
            Ok(PathBuf::from(host_path.path))
        }
        _ => Err(format!(
            "PV {} is neither local nor hostPath; other types are not supported by this node",
            volume.metadata.name.clone().unwrap_or_default()
        )),
    }
}

async fn config_map(
    shared: &Shared,
    pod: &Pod,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Payload, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match shared.sources.config_map(namespace, name).await.map_err(|error| error.to_string())? {
        Some(data) => content::select(&data, items, mode, optional).map_err(|error| format!("configmap {namespace}/{name} {error}")),
        None if optional => Ok(Payload::new()),
        None => Err(format!("configmap \"{name}\" not found")),
    }
}

async fn secret(shared: &Shared, pod: &Pod, name: &str, items: Option<&[KeyToPath]>, mode: i32, optional: bool) -> Result<Payload, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match shared.sources.secret(namespace, name).await.map_err(|error| error.to_string())? {
        Some(data) => content::select(&data, items, mode, optional).map_err(|error| format!("secret {namespace}/{name} {error}")),
        None if optional => Ok(Payload::new()),
        None => Err(format!("secret \"{name}\" not found")),
    }
}

fn downward(shared: &Shared, pod: &Pod, items: &[DownwardAPIVolumeFile], default_mode: i32) -> Result<Payload, String> {
    let facts = Facts { pod, addresses: &[], host_addresses: &shared.addresses, allocatable: &shared.allocatable };
    let file = |item: &DownwardAPIVolumeFile| {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(&facts, &field.field_path),
            (_, Some(selector)) => downward::resource(&facts, selector, selector.container_name.as_deref().unwrap_or_default()),
            (None, None) => return Err(format!("downwardAPI item {} has no source", item.path)),
        };
        let value = value.map_err(|error| error.to_string())?;
        content::entry(&item.path, value.into_bytes(), item.mode.unwrap_or(default_mode)).map_err(|error| error.to_string())
    };
    items.iter().map(file).collect()
}

async fn projected(
    shared: &Shared,
    pod: &Pod,
    volume: &Volume,
    source: &ProjectedVolumeSource,
) -> Result<(Payload, Option<Timestamp>), String> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let (mut payload, mut refresh_at) = (Payload::new(), None::<Timestamp>);
    for projection in source.sources.iter().flatten() {
        if let Some(token) = &projection.service_account_token {
            let key = TokenKey::new(pod, &volume.name, token);
            let issued = shared.tokens.get(&shared.sources.client, pod, key).await.map_err(|error| error.to_string())?;
            payload.extend([content::entry(&token.path, issued.token.into_bytes(), mode).map_err(|error| error.to_string())?]);
            refresh_at = Some(refresh_at.map_or(issued.refresh_at, |earlier| earlier.min(issued.refresh_at)));
        } else {
            payload.extend(projection_files(shared, pod, projection, mode).await?);
        }
    }
    Ok((payload, refresh_at))
}

async fn projection_files(shared: &Shared, pod: &Pod, projection: &VolumeProjection, mode: i32) -> Result<Payload, String> {
    if let Some(source) = &projection.config_map {
        return config_map(shared, pod, &source.name, source.items.as_deref(), mode, source.optional == Some(true)).await;
    }
    if let Some(source) = &projection.secret {
        return secret(shared, pod, &source.name, source.items.as_deref(), mode, source.optional == Some(true)).await;
    }
    if let Some(source) = &projection.downward_api {
        return downward(shared, pod, source.items.as_deref().unwrap_or_default(), mode);
    }
    Err("projections of this kind are not supported by this node".to_owned())
}

async fn write(pod: &Pod, path: PathBuf, payload: Payload, refresh_at: Option<Timestamp>) -> Result<Made, String> {
    let (gid, written) = (owner(pod).map(|(gid, _)| gid), path.clone());
    blocking(move || atomic::write(&written, &payload, gid)).await.map_err(|error| error.to_string())?;
    Ok(Made { place: Place { path, read_only: true }, refresh_at })
}

/// Runs what blocks off the event loop.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
