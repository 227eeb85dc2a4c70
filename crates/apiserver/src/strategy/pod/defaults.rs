//! What a pod is when its author does not say (`pkg/apis/core/v1/defaults.go`).

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EphemeralContainer, HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec, Probe,
    ResourceRequirements, Volume, VolumeProjection,
};

use crate::strategy::check::{canonical, fill, some};

/// Permission bits of files that a volume makes, when nobody says: 0644.
const FILE_MODE: i32 = 0o644;

/// Defaults of pods and of templates.
pub(super) fn pod_spec(spec: &mut PodSpec) {
    fill(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.restart_policy, "Always");
    fill(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    let name = some(spec.service_account_name.as_ref()).or(some(spec.service_account.as_ref())).map(str::to_owned);
    spec.service_account.clone_from(&name);
    spec.service_account_name = name;
    spec.volumes.iter_mut().flatten().for_each(volume);
    spec.ephemeral_containers.iter_mut().flatten().for_each(ephemeral);
    let host_network = spec.host_network == Some(true);
    for each in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container(each);
        if host_network {
            host_ports(each);
        }
    }
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        fill(&mut constraint.node_affinity_policy, "Honor");
        fill(&mut constraint.node_taints_policy, "Ignore");
    }
}

/// Defaults that only a pod has, not a template.
pub(super) fn pod_only(spec: &mut PodSpec) {
    spec.enable_service_links.get_or_insert(true);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        requests_from_limits(container.resources.get_or_insert_default());
    }
    if let Some(resources) = &mut spec.resources {
        requests_from_limits(resources);
    }
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    let Some(limits) = &resources.limits else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

fn container(container: &mut Container) {
    let policy = pull_policy(container.image.as_deref().unwrap_or_default());
    fill(&mut container.image_pull_policy, policy);
    fill(&mut container.termination_message_path, "/dev/termination-log");
    fill(&mut container.termination_message_policy, "File");
    let resources = container.resources.get_or_insert_default();
    canonical(&mut resources.limits);
    canonical(&mut resources.requests);
    for port in container.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(environment);
    for each in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe] {
        each.iter_mut().for_each(probe);
    }
    container.lifecycle.iter_mut().for_each(lifecycle);
}

fn ephemeral(container: &mut EphemeralContainer) {
    let policy = pull_policy(container.image.as_deref().unwrap_or_default());
    fill(&mut container.image_pull_policy, policy);
    fill(&mut container.termination_message_path, "/dev/termination-log");
    fill(&mut container.termination_message_policy, "File");
    container.resources.get_or_insert_default();
    container.env.iter_mut().flatten().for_each(environment);
}

/// An image without a tag, or with the tag `latest`, may change behind its name, so it is always asked for.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    match (last.split_once(':'), digest) {
        (None, None) => "Always",
        (Some((_, "latest")), _) => "Always",
        _ => "IfNotPresent",
    }
}

fn host_ports(container: &mut Container) {
    for port in container.ports.iter_mut().flatten() {
        if port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

fn environment(variable: &mut EnvVar) {
    if let Some(source) = variable.value_from.as_mut().and_then(|from| from.field_ref.as_mut()) {
        field_selector(source);
    }
}

fn field_selector(selector: &mut ObjectFieldSelector) {
    fill(&mut selector.api_version, "v1");
}

fn probe(probe: &mut Probe) {
    fn unless_set(number: &mut Option<i32>, default: i32) {
        if number.unwrap_or(0) == 0 {
            *number = Some(default);
        }
    }
    unless_set(&mut probe.timeout_seconds, 1);
    unless_set(&mut probe.period_seconds, 10);
    unless_set(&mut probe.success_threshold, 1);
    unless_set(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get(action: &mut HTTPGetAction) {
    fill(&mut action.path, "/");
    fill(&mut action.scheme, "HTTP");
}

fn lifecycle(lifecycle: &mut Lifecycle) {
    let handlers = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
    handlers.into_iter().flatten().filter_map(|LifecycleHandler { http_get, .. }| http_get.as_mut()).for_each(http_get);
}

fn volume(volume: &mut Volume) {
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        source.items.iter_mut().flatten().filter_map(|item| item.field_ref.as_mut()).for_each(field_selector);
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(FILE_MODE);
        source.sources.iter_mut().flatten().for_each(projection);
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(template) = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut()) {
        fill(&mut template.spec.volume_mode, "Filesystem");
    }
    if let Some(image) = &mut volume.image {
        let policy = pull_policy(image.reference.as_deref().unwrap_or_default());
        fill(&mut image.pull_policy, policy);
    }
}

fn projection(projection: &mut VolumeProjection) {
    if let Some(token) = &mut projection.service_account_token {
        token.expiration_seconds.get_or_insert(3600);
    }
    let items = projection.downward_api.iter_mut().flat_map(|source| source.items.iter_mut().flatten());
    items.filter_map(|item| item.field_ref.as_mut()).for_each(field_selector);
}
