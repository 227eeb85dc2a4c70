//! Does what the planner asks: each function one step, idempotent, with a deadline.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::Severity::{Normal, Warning};
use image::{Image, ImageError};
use informer::Api;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, Preconditions};
use network::{Keep, PodIdentity};
use runtime::{Mount, SandboxSpec};
use tokio::time::timeout;

use crate::container::downward::Facts;
use crate::container::specification::{Ingredients, container_id, mount, specification};
use crate::container::{SpecificationError, amounts, environment, files, user};
use crate::error::OperationError;
use crate::volumes::{self, Prepared, blocking};
use crate::{PodLog, Shared};

/// A large image over a slow line.
const PULL_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// An image whose root is mounted for one attempt.
#[derive(Clone, Debug)]
pub(crate) struct PreparedImage {
    /// As the specification names it.
    pub reference: String,
    pub image: Arc<Image>,
    pub root: PathBuf,
}

/// Everything a start needs that earlier steps have made.
#[derive(Clone, Debug)]
pub(crate) struct StartInput {
    pub image: PreparedImage,
    pub volumes: Prepared,
    pub addresses: Vec<String>,
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// A container of the pod, of whatever role.
pub(crate) fn container(pod: &Pod, name: &str) -> Option<Container> {
    plan::pod::container(pod.spec.as_ref()?, name)
}

pub(crate) fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

/// Whose the pod's address is: an ordinal of a StatefulSet keeps its.
fn identity(pod: &Pod) -> PodIdentity {
    let owners = pod.metadata.owner_references.iter().flatten();
    let is_ordinal =
        owners.clone().any(|owner| owner.controller == Some(true) && owner.kind == "StatefulSet" && owner.api_version.starts_with("apps/"));
    PodIdentity {
        key: kinds::ObjectKey::new(namespace(pod), name(pod)),
        uid: uid(pod).to_owned(),
        keep: if is_ordinal { Keep::UntilReleased } else { Keep::WhilePodExists },
    }
}

pub(crate) async fn reserve_address(shared: &Shared, pod: &Pod) -> Result<String, OperationError> {
    match is_host_network(pod) {
        true => Ok(shared.addresses.first().cloned().unwrap_or_default()),
        false => Ok(shared.network.reserve(&identity(pod)).await?.address.to_string()),
    }
}

pub(crate) async fn attach(shared: &Shared, pod: &Pod, shim_pid: i32) -> Result<(), OperationError> {
    if !is_host_network(pod) {
        let netns = File::open(format!("/proc/{shim_pid}/ns/net"))?;
        shared.network.attach(&identity(pod), netns.as_fd()).await?;
    }
    Ok(())
}

pub(crate) async fn detach(shared: &Shared, pod: &Pod) -> Result<(), OperationError> {
    if !is_host_network(pod) {
        shared.network.detach(&identity(pod)).await?;
    }
    Ok(())
}

pub(crate) async fn create_sandbox(shared: &Shared, pod: &Pod) -> Result<runtime::Sandbox, OperationError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let context = spec.security_context.clone().unwrap_or_default();
    let sysctls = context.sysctls.into_iter().flatten().map(|sysctl| (sysctl.name, sysctl.value)).collect();
    let hostname = match (spec.set_hostname_as_fqdn, files::full_name(pod, &shared.cluster_domain)) {
        (Some(true), Some(full)) => full,
        _ => files::hostname(pod),
    };
    let sandbox = SandboxSpec {
        uid: uid(pod).to_owned(),
        namespace: namespace(pod).to_owned(),
        name: name(pod).to_owned(),
        hostname,
        host_network: is_host_network(pod),
        share_process_namespace: spec.share_process_namespace == Some(true),
        sysctls,
        resources: amounts::of_pod(&spec),
    };
    let sandbox = shared.runtime.create_sandbox(sandbox).await?;
    for warning in &sandbox.warnings {
        shared.log(pod).event(None, Warning, "LimitNotEnforced", warning.clone());
    }
    Ok(sandbox)
}

pub(crate) async fn remove_sandbox(shared: &Shared, pod: &Pod) -> Result<(), OperationError> {
    shared.runtime.remove_sandbox(uid(pod)).await?;
    unmount_roots(shared, pod).await
}

/// Volumes, roots and files of the pod; the logs too once its object is gone.
pub(crate) async fn tear_down(shared: &Shared, pod: &Pod) -> Result<(), OperationError> {
    unmount_roots(shared, pod).await?;
    volumes::tear_down(shared, uid(pod)).await?;
    shared.tokens.forget(uid(pod));
    Ok(())
}

/// The logs of a pod that is gone.
pub(crate) async fn remove_logs(shared: &Shared, pod: &Pod) -> io::Result<()> {
    let (logs, directory) = (shared.paths.logs(), crate::paths::Paths::log_directory_name(pod));
    blocking(move || volume::tree::remove(&logs, &directory)).await
}

async fn unmount_roots(shared: &Shared, pod: &Pod) -> Result<(), OperationError> {
    let failed = |error: ImageError| OperationError::Root(error);
    let prefix = format!("{}_", uid(pod));
    for mounted in shared.images.mounted().await.map_err(failed)? {
        if mounted.starts_with(&prefix) {
            shared.images.unmount(&mounted).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// The name of a root in the image store: unique on the node.
fn root_name(pod: &Pod, container: &str, attempt: u32) -> String {
    format!("{}_{}", uid(pod), container_id(container, attempt))
}

pub(crate) async fn remove_container(shared: &Shared, pod: &Pod, container: &str, attempt: u32) -> Result<(), OperationError> {
    shared.runtime.remove_container(uid(pod), &container_id(container, attempt)).await?;
    let unmounted = shared.images.unmount(&root_name(pod, container, attempt)).await;
    unmounted.map_err(OperationError::Root)
}

/// Finds or pulls the image, as the policy says, and mounts a root of it.
pub(crate) async fn prepare_image(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    attempt: u32,
) -> Result<PreparedImage, OperationError> {
    let reference = container.image.clone().unwrap_or_default();
    let image = obtain(shared, pod, container, &reference).await?;
    let root = mount_root(shared, &image, &root_name(pod, &container.name, attempt)).await;
    let root = root.map_err(|source| OperationError::Image { image: reference.clone(), source })?;
    Ok(PreparedImage { reference, image: Arc::new(image), root })
}

/// A root of another image was prepared for an attempt that never began: the specification has changed since.
async fn mount_root(shared: &Shared, image: &Image, name: &str) -> Result<PathBuf, ImageError> {
    match shared.images.mount(image, name).await {
        Err(ImageError::Mounted(_)) => {
            shared.images.unmount(name).await?;
            shared.images.mount(image, name).await
        }
        root => root,
    }
}

async fn obtain(shared: &Shared, pod: &Pod, container: &Container, reference: &str) -> Result<Image, OperationError> {
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    if policy != "Always" {
        let found = shared.images.find(reference).await.map_err(|source| OperationError::Image { image: reference.to_owned(), source })?;
        if let Some(image) = found {
            let message = format!("Container image \"{reference}\" already present on machine");
            shared.log(pod).event(Some(container), Normal, "Pulled", message);
            return Ok(image);
        }
        if policy == "Never" {
            return Err(OperationError::NeverPull(reference.to_owned()));
        }
    }
    pull(shared, pod, container, reference).await
}

async fn pull(shared: &Shared, pod: &Pod, container: &Container, reference: &str) -> Result<Image, OperationError> {
    let log = shared.log(pod);
    log.event(Some(container), Normal, "Pulling", format!("Pulling image \"{reference}\""));
    let began = Instant::now();
    let auth = crate::credentials::find(&shared.sources, pod, reference).await?;
    let pulled = timeout(PULL_DEADLINE, shared.images.pull(reference, auth, None)).await;
    let pulled = pulled.map_err(|_| OperationError::Deadline(PULL_DEADLINE.as_secs()))?;
    let image = pulled.map_err(|source| OperationError::Pull { image: reference.to_owned(), source })?;
    let took = began.elapsed().as_millis();
    let message = format!("Successfully pulled image \"{reference}\" in {took}ms. Image size: {} bytes.", image.size);
    log.event(Some(container), Normal, "Pulled", message);
    Ok(image)
}

/// Starts one attempt; returns when its command runs, with the time in nanoseconds.
pub(crate) async fn start(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    input: StartInput,
) -> Result<i64, OperationError> {
    let log = shared.log(pod);
    let spec = specify(shared, pod, container, attempt, input).await?;
    log.event(Some(container), Normal, "Created", format!("Created container: {}", container.name));
    let (_, started_at) = shared.runtime.start_container(uid(pod), spec).await?;
    log.event(Some(container), Normal, "Started", format!("Started container {}", container.name));
    Ok(started_at)
}

async fn specify(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    input: StartInput,
) -> Result<runtime::ContainerSpec, OperationError> {
    let StartInput { image, volumes, addresses } = input;
    let process_namespace_of = target(shared, pod, &container.name)?;
    let lookups = shared.sources.lookups(namespace(pod), container).await?;
    let facts = Facts { pod, addresses: &addresses, host_addresses: &shared.addresses, allocatable: &shared.allocatable };
    let services = shared.sources.service_variables(pod);
    let environment = environment::resolve(container, &image.image.config.env, &services, &facts, &lookups)?;
    let expand = |text: &str| environment.expand(text);
    let parts = parts_of_volumes(container, &volumes, expand)?;
    let place = Place { uid: uid(pod).to_owned(), container: container.clone(), attempt, parts };
    let (paths, root, etc) = (shared.paths.clone(), image.root.clone(), shared.etc_files(pod, &addresses));
    let log_path = shared.paths.log(pod, &container.name, attempt);
    let logs = log_path.clone();
    let (mounts, accounts) = blocking(move || {
        if let Some(directory) = logs.parent() {
            std::fs::create_dir_all(directory)?;
        }
        Ok((make_mounts(&paths, &place, &etc)?, user::Accounts::read(&root)))
    })
    .await?;
    let spec = pod.spec.clone().unwrap_or_default();
    let contexts = (spec.security_context.as_ref(), container.security_context.as_ref());
    let user = user::resolve(contexts.0, contexts.1, image.image.config.user.as_deref().unwrap_or_default(), &accounts)?;
    let memory_capacity = shared.allocatable.get("memory").map_or(i64::MAX, |memory| memory.value());
    let root = image.root;
    let config = &image.image.config;
    let spec =
        specification(Ingredients { pod, container, attempt, image: config, root, user, environment, mounts, log_path, memory_capacity })?;
    Ok(runtime::ContainerSpec { process_namespace_of, ..spec })
}

/// The running container whose processes an ephemeral one is to see, if it asks for that.
fn target(shared: &Shared, pod: &Pod, container: &str) -> Result<Option<String>, OperationError> {
    let added = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten()).find(|added| added.name == container);
    let Some(name) = added.and_then(|added| added.target_container_name.as_deref()).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let running = shared.running_attempt(uid(pod), name);
    running.map(Some).ok_or_else(|| OperationError::NoTarget(name.to_owned()))
}

/// A volume, or a part of one, at a place in the container.
struct Part {
    root: PathBuf,
    subpath: Option<String>,
    mount: Mount,
}

fn parts_of_volumes(container: &Container, volumes: &Prepared, expand: impl Fn(&str) -> String) -> Result<Vec<Part>, SpecificationError> {
    let part = |wanted: &k8s_openapi::api::core::v1::VolumeMount| {
        let place = volumes.volumes.get(&wanted.name).ok_or_else(|| SpecificationError::NoVolume(wanted.name.clone()))?;
        let plain = wanted.sub_path.clone().filter(|path| !path.is_empty());
        let subpath = plain.or_else(|| wanted.sub_path_expr.as_deref().filter(|path| !path.is_empty()).map(&expand));
        let read_only = wanted.read_only == Some(true) || place.read_only;
        let propagation = wanted.mount_propagation.as_deref();
        let mount = Mount {
            propagate_from_host: matches!(propagation, Some("HostToContainer" | "Bidirectional")),
            propagate_to_host: propagation == Some("Bidirectional"),
            ..mount(place.path.clone(), &wanted.mount_path, read_only)
        };
        Ok(Part { root: place.path.clone(), subpath, mount })
    };
    container.volume_mounts.iter().flatten().map(part).collect()
}

/// For which start mounts are made.
struct Place {
    uid: String,
    container: Container,
    attempt: u32,
    parts: Vec<Part>,
}

/// Files that every container of the pod sees in `/etc`, by their name there.
pub(crate) type EtcFiles = BTreeMap<&'static str, String>;

fn make_mounts(paths: &crate::paths::Paths, place: &Place, etc: &EtcFiles) -> io::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    let directory = paths.etc(&place.uid);
    std::fs::create_dir_all(&directory)?;
    let own = |path: &str| place.parts.iter().any(|part| part.mount.destination == path);
    for (name, text) in etc {
        let destination = format!("/etc/{name}");
        if !own(&destination) {
            write_if_new(&directory.join(name), text)?;
            mounts.push(mount(directory.join(name), &destination, false));
        }
    }
    let message = paths.termination_message(&place.uid, &place.container.name, place.attempt);
    write_message_file(&message)?;
    let destination = place.container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    mounts.push(mount(message, destination.unwrap_or("/dev/termination-log"), false));
    for (index, part) in place.parts.iter().enumerate() {
        let mut mount = part.mount.clone();
        if let Some(subpath) = &part.subpath {
            let target = paths.subpath(&place.uid, &place.container.name, index);
            volume::subpath::bind(&part.root, subpath, &target).map_err(io::Error::other)?;
            mount.source = runtime::MountSource::Path(target);
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

/// Containers of a pod share the file, and may have changed it.
fn write_if_new(path: &Path, text: &str) -> io::Result<()> {
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => io::Write::write_all(&mut file, text.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whoever the container runs as may write its last words.
fn write_message_file(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::File::create(path)?.set_permissions(std::fs::Permissions::from_mode(0o666))
}

/// Deletes the pod's object, if it is still this one.
pub(crate) async fn delete_pod(shared: &Shared, pod: &Pod) -> Result<(), OperationError> {
    let api: Api<Pod> = Api::namespaced(shared.sources.client.clone(), namespace(pod));
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(name(pod), &parameters).await.map_err(OperationError::from) {
        Err(error) if !error.is_gone() => Err(error),
        _ => Ok(()),
    }
}

impl PodLog<'_> {
    /// Tells of a failed action, as the kubelet does.
    pub fn action_failed(&self, action: &plan::pod::Action, container: Option<&Container>, error: &OperationError) {
        use plan::pod::Action;
        let text = error.to_string();
        match action {
            Action::PrepareVolumes => self.event(None, Warning, "FailedMount", text),
            Action::CreateSandbox | Action::AttachNetwork | Action::ReserveAddress => {
                self.event(None, Warning, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {text}"));
            }
            Action::PrepareImage { .. } | Action::StartContainer { .. } => {
                if matches!(error, OperationError::Pull { .. }) {
                    let message = text.replacen("failed to pull", "Failed to pull", 1);
                    self.event(container, Warning, "Failed", message);
                }
                let message = if matches!(error, OperationError::Pull { .. }) { error.reason().to_owned() } else { text };
                self.event(container, Warning, "Failed", format!("Error: {message}"));
            }
            Action::RunPostStart { .. } => self.event(container, Warning, "FailedPostStartHook", format!("PostStartHook failed: {text}")),
            Action::RunPreStop { .. } => self.event(container, Warning, "FailedPreStopHook", format!("PreStopHook failed: {text}")),
            Action::RemoveSandbox => self.event(None, Warning, "FailedKillPod", format!("error killing pod: {text}")),
            _ => tracing::warn!(?action, error = text, "it failed and is tried again"),
        }
    }
}
