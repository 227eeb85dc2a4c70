//! What may change about a pod once it is there.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};

use crate::field::{FieldError, Path};
use crate::strategy::check;

const FROZEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(spec: &PodSpec, old: &PodSpec) -> Vec<FieldError> {
    let path = Path::new("spec");
    let initial = |spec: &PodSpec| spec.init_containers.as_ref().map_or(0, Vec::len);
    let mut errors = Vec::new();
    for (field, count, before) in
        [("containers", spec.containers.len(), old.containers.len()), ("initContainers", initial(spec), initial(old))]
    {
        if count != before {
            errors.push(FieldError::forbidden(path.child(field), "pod updates may not add or remove containers"));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    errors.extend(deadline(spec.active_deadline_seconds, old.active_deadline_seconds, path.child("activeDeadlineSeconds")));
    let tolerations = |spec: &PodSpec| spec.tolerations.clone().unwrap_or_default();
    errors.extend(only_added(&tolerations(spec), &tolerations(old), path.child("tolerations")));
    errors.extend(gates(spec, old, path.child("schedulingGates")));
    if !check::same(&with_mutable_fields_of(spec, old), old) {
        errors.push(FieldError::forbidden(path, FROZEN));
    }
    errors
}

/// The new specification with everything that may change put back.
fn with_mutable_fields_of(spec: &PodSpec, old: &PodSpec) -> PodSpec {
    fn images(containers: &mut [Container], old: &[Container]) {
        for (container, old) in containers.iter_mut().zip(old) {
            container.image.clone_from(&old.image);
        }
    }
    let mut spec = spec.clone();
    images(&mut spec.containers, &old.containers);
    images(spec.init_containers.as_deref_mut().unwrap_or_default(), old.init_containers.as_deref().unwrap_or_default());
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    if old.termination_grace_period_seconds.is_some_and(|period| period < 0) && spec.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    spec
}

fn deadline(new: Option<i64>, old: Option<i64>, path: Path) -> Option<FieldError> {
    match (new, old) {
        (Some(new), Some(old)) if new > old => {
            Some(FieldError::invalid(path, new, format!("must be less than or equal to previous value: {old}")))
        }
        (None, Some(_)) => Some(FieldError::invalid(path, check::shown(&new), "must not update from a positive integer to nil value")),
        _ => None,
    }
}

fn only_added(new: &[Toleration], old: &[Toleration], path: Path) -> Option<FieldError> {
    let timeless = |toleration: &Toleration| Toleration { toleration_seconds: None, ..toleration.clone() };
    let kept = |old: &Toleration| new.iter().any(|new| check::same(&timeless(new), &timeless(old)));
    (!old.iter().all(kept)).then(|| FieldError::forbidden(path, "existing toleration can not be modified except its tolerationSeconds"))
}

fn gates(spec: &PodSpec, old: &PodSpec, path: Path) -> Option<FieldError> {
    let before = old.scheduling_gates.as_deref().unwrap_or_default();
    let added = spec.scheduling_gates.iter().flatten().find(|gate| !before.contains(gate))?;
    Some(FieldError::forbidden(path, format!("only deletion is allowed, but found new scheduling gate '{}'", added.name)))
}

/// What may change about a pod's status.
pub(super) fn validate_status(pod: &Pod, old: &Pod) -> Vec<FieldError> {
    let path = Path::new("status");
    let (status, old) = (pod.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let mut errors = Vec::new();
    if check::some(old.qos_class.as_ref()).is_some() {
        errors.extend(check::immutable(path.child("qosClass"), &status.qos_class, &old.qos_class));
    }
    for (index, address) in status.pod_ips.iter().flatten().enumerate() {
        errors.extend(check::ip(path.child("podIPs").index(index), &address.ip));
    }
    if let Some(address) = check::some(status.pod_ip.as_ref()) {
        errors.extend(check::ip(path.child("podIP"), address));
    }
    let phases = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];
    errors.extend(check::one_of(path.child("phase"), status.phase.as_ref(), &phases));
    errors
}
