//! RoleBindings and ClusterRoleBindings.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use plan::access::GROUP;

use super::check::{self, fill, shown};
use super::{Strategy, names};
use crate::field::{FieldError, Path};

/// The rules of RoleBindings.
pub(super) struct RoleBindings;

impl Strategy for RoleBindings {
    type Kind = RoleBinding;

    fn default(&self, binding: &mut RoleBinding) {
        complete(&mut binding.role_ref, binding.subjects.as_deref_mut());
    }

    fn validate(&self, binding: &RoleBinding) -> Vec<FieldError> {
        both(&binding.role_ref, &["Role", "ClusterRole"], binding.subjects.as_deref(), true)
    }

    fn validate_update(&self, binding: &RoleBinding, old: &RoleBinding) -> Vec<FieldError> {
        let mut errors = self.validate(binding);
        errors.extend(same_role(&binding.role_ref, &old.role_ref));
        errors
    }

    fn validate_name(&self, name: &str) -> Option<String> {
        names::path_segment(name)
    }
}

/// The rules of ClusterRoleBindings.
pub(super) struct ClusterRoleBindings;

impl Strategy for ClusterRoleBindings {
    type Kind = ClusterRoleBinding;

    fn default(&self, binding: &mut ClusterRoleBinding) {
        complete(&mut binding.role_ref, binding.subjects.as_deref_mut());
    }

    fn validate(&self, binding: &ClusterRoleBinding) -> Vec<FieldError> {
        both(&binding.role_ref, &["ClusterRole"], binding.subjects.as_deref(), false)
    }

    fn validate_update(&self, binding: &ClusterRoleBinding, old: &ClusterRoleBinding) -> Vec<FieldError> {
        let mut errors = self.validate(binding);
        errors.extend(same_role(&binding.role_ref, &old.role_ref));
        errors
    }

    fn validate_name(&self, name: &str) -> Option<String> {
        names::path_segment(name)
    }
}

fn complete(role: &mut RoleRef, subjects: Option<&mut [Subject]>) {
    fill(&mut role.api_group, GROUP);
    for subject in subjects.into_iter().flatten() {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            fill(&mut subject.api_group, GROUP);
        }
    }
}

fn same_role(new: &RoleRef, old: &RoleRef) -> Option<FieldError> {
    (new != old).then(|| FieldError::invalid(Path::new("roleRef"), shown(new), "cannot change roleRef"))
}

fn both(role: &RoleRef, kinds: &[&str], subjects: Option<&[Subject]>, namespaced: bool) -> Vec<FieldError> {
    let path = Path::new("roleRef");
    let mut errors = Vec::new();
    errors.extend(check::required_one_of(path.child("apiGroup"), role.api_group.as_ref(), &[GROUP]));
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(FieldError::not_supported(path.child("kind"), role.kind.as_str(), kinds));
    }
    errors.extend(check::named(path.child("name"), &role.name, names::path_segment));
    for (index, one) in subjects.unwrap_or_default().iter().enumerate() {
        errors.extend(subject(one, namespaced, &Path::new("subjects").index(index)));
    }
    errors
}

fn subject(subject: &Subject, namespaced: bool, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<_> = check::required(path.child("name"), &subject.name).into_iter().collect();
    let group = subject.api_group.as_deref().unwrap_or_default();
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                errors.extend(check::named(path.child("name"), &subject.name, names::dns_subdomain));
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[""]));
            }
            if !namespaced {
                errors.extend(check::required(path.child("namespace"), subject.namespace.as_deref().unwrap_or_default()));
            }
        }
        "User" | "Group" if group != GROUP => errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[GROUP])),
        "User" | "Group" => {}
        kind => errors.push(FieldError::not_supported(path.child("kind"), kind, &["ServiceAccount", "User", "Group"])),
    }
    errors
}
