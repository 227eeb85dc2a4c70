//! What is missing from a role or binding that a cluster begins with. What users added stays.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{bootstrap, cover};

/// The role with what it lacks, if it lacks anything and its users have not said that it is theirs.
pub fn reconcile_role(found: &ClusterRole, wanted: &ClusterRole) -> Option<ClusterRole> {
    if !bootstrap::is_kept_up(&found.metadata) {
        return None;
    }
    let mut role = found.clone();
    add_metadata(&mut role.metadata, &wanted.metadata);
    if wanted.aggregation_rule.is_none() {
        let held: Vec<_> = found.rules.iter().flatten().collect();
        let missing = cover::beyond(&held, wanted.rules.as_deref().unwrap_or_default());
        if !missing.is_empty() {
            role.rules.get_or_insert_default().extend(missing);
        }
    }
    (role != *found).then_some(role)
}

/// The same for a binding. One that binds another role has to be made anew, which only its users can decide.
pub fn reconcile_binding(found: &ClusterRoleBinding, wanted: &ClusterRoleBinding) -> Option<ClusterRoleBinding> {
    if !bootstrap::is_kept_up(&found.metadata) || found.role_ref != wanted.role_ref {
        return None;
    }
    let mut binding = found.clone();
    add_metadata(&mut binding.metadata, &wanted.metadata);
    for subject in wanted.subjects.iter().flatten() {
        if !found.subjects.iter().flatten().any(|own| own == subject) {
            binding.subjects.get_or_insert_default().push(subject.clone());
        }
    }
    (binding != *found).then_some(binding)
}

fn add_metadata(meta: &mut ObjectMeta, wanted: &ObjectMeta) {
    for (own, wanted) in [(&mut meta.labels, &wanted.labels), (&mut meta.annotations, &wanted.annotations)] {
        for (key, value) in wanted.iter().flatten() {
            own.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}
