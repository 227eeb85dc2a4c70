//! Pods, and the templates that pods are made from.

use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus, PodTemplateSpec};

use super::{Strategy, check, metadata};
use crate::field::{FieldError, Path};

mod container;
mod defaults;
mod ephemeral;
mod handler;
mod quality;
mod resources;
mod scheduling;
mod spec;
mod update;
mod volume;

pub(super) use scheduling::node_selector;
pub(super) use volume::host_path;

/// The rules of Pods.
pub(super) struct Pods;

impl Strategy for Pods {
    type Kind = Pod;

    fn default(&self, pod: &mut Pod) {
        if let Some(spec) = &mut pod.spec {
            defaults::pod_spec(spec);
            defaults::pod_only(spec);
        }
        let phase = pod.status.get_or_insert_default();
        check::fill(&mut phase.phase, "Pending");
    }

    fn prepare_create(&self, pod: &mut Pod) {
        pod.metadata.generation = Some(1);
        let quality = pod.spec.as_ref().map(quality::of);
        pod.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: quality.map(|quality| quality.name().to_owned()),
            ..PodStatus::default()
        });
    }

    fn prepare_update(&self, pod: &mut Pod, old: &Pod) {
        pod.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, pod: &mut Pod, old: &Pod) {
        pod.spec.clone_from(&old.spec);
        pod.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
        pod.metadata.owner_references.clone_from(&old.metadata.owner_references);
        let Some(status) = &mut pod.status else { return };
        if check::some(status.qos_class.as_ref()).is_none() {
            status.qos_class = old.status.as_ref().and_then(|old| old.qos_class.clone());
        }
        repeat_addresses(status);
    }

    fn spec_changed(&self, pod: &Pod, old: &Pod) -> bool {
        !check::same(&pod.spec, &old.spec)
    }

    fn prepare_ephemeral_update(&self, pod: &mut Pod, old: &Pod) {
        let added = pod.spec.as_mut().and_then(|spec| spec.ephemeral_containers.take());
        let resource_version = pod.metadata.resource_version.take();
        pod.clone_from(old);
        pod.metadata.resource_version = resource_version;
        pod.spec.get_or_insert_default().ephemeral_containers = added;
    }

    fn validate(&self, pod: &Pod) -> Vec<FieldError> {
        let mut errors = validate_spec(pod);
        errors.extend(pod.spec.as_ref().and_then(|spec| ephemeral::none(spec, &Path::new("spec"), "cannot be set on create")));
        errors
    }

    fn validate_update(&self, pod: &Pod, old: &Pod) -> Vec<FieldError> {
        let mut errors = validate_spec(pod);
        if let (Some(spec), Some(old)) = (&pod.spec, &old.spec) {
            errors.extend(update::validate(spec, old));
        }
        errors
    }

    fn validate_ephemeral_update(&self, pod: &Pod, old: &Pod) -> Vec<FieldError> {
        match (&pod.spec, &old.spec) {
            (Some(spec), Some(old)) => ephemeral::validate_update(spec, old),
            _ => Vec::new(),
        }
    }

    fn validate_status_update(&self, pod: &Pod, old: &Pod) -> Vec<FieldError> {
        update::validate_status(pod, old)
    }

    fn warnings(&self, pod: &Pod) -> Vec<String> {
        pod.spec.as_ref().map(|spec| spec::warnings(spec, &Path::new("spec"))).unwrap_or_default()
    }

    fn grace_period_seconds(&self, pod: &Pod) -> i64 {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let spec = pod.spec.as_ref();
        let scheduled = spec.is_some_and(|spec| check::some(spec.node_name.as_ref()).is_some());
        match phase {
            Some("Succeeded" | "Failed") => 0,
            _ if !scheduled => 0,
            // Upstream takes a negative period for one second.
            _ => spec.and_then(|spec| spec.termination_grace_period_seconds).map_or(30, |period| if period < 0 { 1 } else { period }),
        }
    }
}

fn validate_spec(pod: &Pod) -> Vec<FieldError> {
    let path = Path::new("spec");
    match &pod.spec {
        Some(spec) => spec::validate(spec, &path, &[]),
        None => spec::validate(&Default::default(), &path, &[]),
    }
}

/// Whoever reports one address reports the list of them as well, even if it does not know that.
fn repeat_addresses(status: &mut PodStatus) {
    if let Some(ip) = status.pod_ip.clone().filter(|ip| !ip.is_empty() && status.pod_ips.is_none()) {
        status.pod_ips = Some(vec![PodIP { ip }]);
    }
    if let Some(ip) = status.host_ip.clone().filter(|ip| !ip.is_empty() && status.host_ips.is_none()) {
        status.host_ips = Some(vec![HostIP { ip }]);
    }
}

/// Fills in what the author of a template left out.
pub(super) fn default_template(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        defaults::pod_spec(spec);
    }
}

/// What is wrong with a template. `claims` names the volumes that the template's owner adds to each pod.
pub(super) fn validate_template(template: &PodTemplateSpec, path: &Path, claims: &[&str]) -> Vec<FieldError> {
    let meta = template.metadata.as_ref();
    let mut errors = check::labels(&path.child("labels"), meta.and_then(|meta| meta.labels.as_ref()));
    errors.extend(metadata::annotations(&path.child("annotations"), meta.and_then(|meta| meta.annotations.as_ref())));
    let path = path.child("spec");
    errors.extend(match &template.spec {
        Some(spec) => spec::validate(spec, &path, claims),
        None => spec::validate(&Default::default(), &path, claims),
    });
    let added = template.spec.as_ref().and_then(|spec| ephemeral::none(spec, &path, "ephemeral containers not allowed in pod template"));
    errors.extend(added);
    errors
}
