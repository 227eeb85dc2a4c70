//! Roles and ClusterRoles.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};

use super::check::{self, shown};
use super::{Strategy, names};
use crate::field::{FieldError, Path};

/// The rules of Roles.
pub(super) struct Roles;

impl Strategy for Roles {
    type Kind = Role;

    fn validate(&self, role: &Role) -> Vec<FieldError> {
        rules(role.rules.as_deref(), true)
    }

    fn validate_name(&self, name: &str) -> Option<String> {
        names::path_segment(name)
    }
}

/// The rules of ClusterRoles.
pub(super) struct ClusterRoles;

impl Strategy for ClusterRoles {
    type Kind = ClusterRole;

    fn validate(&self, role: &ClusterRole) -> Vec<FieldError> {
        let mut errors = rules(role.rules.as_deref(), false);
        let Some(aggregation) = &role.aggregation_rule else { return errors };
        let path = Path::new("aggregationRule").child("clusterRoleSelectors");
        let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
        if selectors.is_empty() {
            let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(FieldError::required(path.clone(), why));
        }
        for (index, selector) in selectors.iter().enumerate() {
            errors.extend(check::label_selector(&path.index(index), selector));
        }
        errors
    }

    fn validate_name(&self, name: &str) -> Option<String> {
        names::path_segment(name)
    }
}

fn rules(rules: Option<&[PolicyRule]>, namespaced: bool) -> Vec<FieldError> {
    let places = rules.unwrap_or_default().iter().enumerate();
    places.flat_map(|(index, one)| rule(one, namespaced, &Path::new("rules").index(index))).collect()
}

fn rule(rule: &PolicyRule, namespaced: bool, path: &Path) -> Vec<FieldError> {
    let count = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
    let mut errors = Vec::new();
    if rule.verbs.is_empty() {
        errors.push(FieldError::required(path.child("verbs"), "verbs must contain at least one value"));
    }
    if count(&rule.non_resource_urls) > 0 {
        let url = path.child("nonResourceURLs");
        if namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(url.clone(), shown(&rule.non_resource_urls), why));
        }
        if count(&rule.api_groups) + count(&rule.resources) + count(&rule.resource_names) > 0 {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(url, shown(&rule.non_resource_urls), why));
        }
        return errors;
    }
    if count(&rule.api_groups) == 0 {
        errors.push(FieldError::required(path.child("apiGroups"), "resource rules must supply at least one api group"));
    }
    if count(&rule.resources) == 0 {
        errors.push(FieldError::required(path.child("resources"), "resource rules must supply at least one resource"));
    }
    errors
}
