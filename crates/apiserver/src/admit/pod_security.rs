//! Pod Security Standards, by the labels of the namespace: pods that violate them are refused or warned of, templates of pods
//! are warned of.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::Object;
use plan::pod_security::{BadLabel, Level, Policy, Standard, describe, policy, reasons, violations};

use super::Request;
use super::read::Reader;
use crate::error::ApiError;
use crate::field::{FieldError, Path};

/// Pods that are looked at when the labels of their namespace change.
const MOST_PODS: usize = 3000;

/// Refuses what the labels forbid; returns what its author should know.
pub(super) async fn check(reader: &Reader, request: &Request<'_>, object: &dyn Object) -> Result<Vec<String>, ApiError> {
    if let Some(namespace) = object.downcast_ref::<Namespace>() {
        return check_namespace(reader, request, namespace).await;
    }
    let (meta, spec, is_pod) = if let Some(pod) = object.downcast_ref::<Pod>() {
        (Some(&pod.metadata), pod.spec.as_ref(), true)
    } else if let Some(set) = object.downcast_ref::<StatefulSet>() {
        let template = set.spec.as_ref().map(|spec| &spec.template);
        (template.and_then(|template| template.metadata.as_ref()), template.and_then(|template| template.spec.as_ref()), false)
    } else {
        return Ok(Vec::new());
    };
    let Some(spec) = spec.filter(|_| !(is_pod && keeps_its_containers(request, object))) else { return Ok(Vec::new()) };
    let Some(namespace) = reader.get::<Namespace>("", request.namespace).await? else { return Ok(Vec::new()) };
    let (policy, _) = policy(namespace.metadata.labels.as_ref());
    judge(request, policy, meta.unwrap_or(&ObjectMeta::default()), spec, is_pod)
}

/// Whether it is a change of a pod that leaves its images alone: then nothing is judged again.
fn keeps_its_containers(request: &Request<'_>, object: &dyn Object) -> bool {
    let images = |object: &dyn Object| -> Option<Vec<Option<String>>> {
        let spec = object.downcast_ref::<Pod>()?.spec.as_ref()?;
        let usual = spec.init_containers.iter().flatten().chain(&spec.containers).map(|container| container.image.clone());
        Some(usual.chain(spec.ephemeral_containers.iter().flatten().map(|container| container.image.clone())).collect())
    };
    request.old.is_some_and(|old| images(old) == images(object))
}

fn judge(request: &Request<'_>, policy: Policy, meta: &ObjectMeta, spec: &PodSpec, enforce: bool) -> Result<Vec<String>, ApiError> {
    if enforce && policy.enforce.level != Level::Privileged {
        let found = violations(policy.enforce, meta, spec);
        if !found.is_empty() {
            return Err(request.forbidden(&format!("violates PodSecurity \"{}\": {}", policy.enforce, describe(&found))));
        }
    }
    let found = violations(policy.warn, meta, spec);
    Ok(if found.is_empty() { Vec::new() } else { vec![format!("would violate PodSecurity \"{}\": {}", policy.warn, describe(&found))] })
}

/// Refuses labels that can't be read, and tells of pods that violate what is enforced from now on.
async fn check_namespace(reader: &Reader, request: &Request<'_>, namespace: &Namespace) -> Result<Vec<String>, ApiError> {
    let (new, bad) = policy(namespace.metadata.labels.as_ref());
    let (old, bad_before) = policy(request.old.and_then(|old| old.meta().labels.as_ref()));
    if !bad.is_empty() && bad != bad_before {
        let errors = bad.into_iter().map(unreadable).collect();
        return Err(ApiError::Invalid { resource: request.resource, name: request.name.to_owned(), errors });
    }
    let relaxed = new.enforce.minor == old.enforce.minor && new.enforce.level <= old.enforce.level;
    if request.creates() || new.enforce.level == Level::Privileged || relaxed {
        return Ok(Vec::new());
    }
    let pods = reader.list::<Pod>(request.name).await?;
    Ok(told(request.name, new.enforce, &pods))
}

fn unreadable(bad: BadLabel) -> FieldError {
    FieldError::invalid(Path::new("metadata").child("labels").key(&bad.label), bad.value, bad.detail)
}

/// Which pods violate the standard, one line for each set of reasons.
fn told(namespace: &str, standard: Standard, pods: &[Pod]) -> Vec<String> {
    let mut by_reason = BTreeMap::<String, Vec<&str>>::new();
    for pod in pods.iter().take(MOST_PODS) {
        let found = pod.spec.as_ref().map(|spec| violations(standard, &pod.metadata, spec)).unwrap_or_default();
        if !found.is_empty() {
            by_reason.entry(reasons(&found)).or_default().push(pod.metadata.name.as_deref().unwrap_or_default());
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > MOST_PODS {
        let all = pods.len();
        warnings.push(format!("new PodSecurity enforce level only checked against the first {MOST_PODS} of {all} existing pods"));
    }
    if !by_reason.is_empty() {
        warnings.push(format!("existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""));
    }
    let mut lines: Vec<_> = by_reason.into_iter().map(|(reasons, pods)| line(&pods, &reasons)).collect();
    lines.sort_unstable();
    warnings.extend(lines);
    warnings
}

fn line(pods: &[&str], reasons: &str) -> String {
    let first = pods.iter().min().copied().unwrap_or_default();
    match pods.len() {
        ..=1 => format!("{first}: {reasons}"),
        2 => format!("{first} (and 1 other pod): {reasons}"),
        many => format!("{first} (and {} other pods): {reasons}", many - 1),
    }
}
