//! Which objects a quota includes.

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm, ResourceQuota, ScopedResourceSelectorRequirement};
use kinds::{Object, Selector};

/// Whether the quota includes some objects only: pods, as only they have scopes.
pub(super) fn is_limited(quota: &ResourceQuota) -> bool {
    requirements(quota).next().is_some()
}

/// Whether the quota includes the object.
pub(super) fn includes(quota: &ResourceQuota, object: &dyn Object) -> bool {
    requirements(quota).all(|requirement| object.downcast_ref::<Pod>().is_some_and(|pod| fits(&requirement, pod)))
}

fn requirements(quota: &ResourceQuota) -> impl Iterator<Item = ScopedResourceSelectorRequirement> {
    let spec = quota.spec.as_ref();
    let scopes = spec.into_iter().flat_map(|spec| spec.scopes.iter().flatten());
    let exists = |scope: &String| ScopedResourceSelectorRequirement {
        scope_name: scope.clone(),
        operator: "Exists".to_owned(),
        ..ScopedResourceSelectorRequirement::default()
    };
    let selector = spec.and_then(|spec| spec.scope_selector.as_ref());
    let expressions = selector.into_iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    scopes.map(exists).chain(expressions.cloned())
}

fn fits(requirement: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    let ends = pod.spec.as_ref().is_some_and(|spec| spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0));
    match requirement.scope_name.as_str() {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => asks_for_nothing(pod),
        "NotBestEffort" => !asks_for_nothing(pod),
        "PriorityClass" => has_class(requirement, pod),
        "CrossNamespacePodAffinity" => looks_elsewhere(pod),
        _ => false,
    }
}

fn asks_for_nothing(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let of_containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let all = of_containers.filter_map(|container| container.resources.as_ref()).chain(&spec.resources);
    let mut lists = all.flat_map(|resources| resources.requests.iter().chain(&resources.limits));
    !lists.any(|list| ["cpu", "memory"].iter().any(|name| list.contains_key(*name)))
}

fn has_class(requirement: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.clone()).filter(|class| !class.is_empty());
    let values = requirement.values.clone().unwrap_or_default();
    let labels = class.map(|class| [(requirement.scope_name.clone(), class)].into());
    let selector = Selector::from_expression(&requirement.scope_name, &requirement.operator, values);
    selector.is_ok_and(|selector| selector.matches(labels.as_ref()))
}

/// Whether the pod wants to be near, or far from, pods of other namespaces.
fn looks_elsewhere(pod: &Pod) -> bool {
    let Affinity { pod_affinity, pod_anti_affinity, .. } = pod.spec.as_ref().and_then(|spec| spec.affinity.clone()).unwrap_or_default();
    let near = pod_affinity.unwrap_or_default();
    let far = pod_anti_affinity.unwrap_or_default();
    let required = [near.required_during_scheduling_ignored_during_execution, far.required_during_scheduling_ignored_during_execution];
    let preferred = [near.preferred_during_scheduling_ignored_during_execution, far.preferred_during_scheduling_ignored_during_execution];
    let elsewhere =
        |term: &PodAffinityTerm| term.namespaces.as_ref().is_some_and(|all| !all.is_empty()) || term.namespace_selector.is_some();
    required.iter().flatten().flatten().any(elsewhere)
        || preferred.iter().flatten().flatten().any(|term| elsewhere(&term.pod_affinity_term))
}
