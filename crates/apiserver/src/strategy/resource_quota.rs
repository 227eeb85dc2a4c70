//! ResourceQuotas.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Strategy, check, names};
use crate::field::{FieldError, Path};

/// What quotas know without a prefix or a domain.
const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
    "storage",
];
/// What is counted in whole units.
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: [&str; 6] = ["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"];
/// Scopes that no object is in at the same time.
const CONFLICTS: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

/// The rules of ResourceQuotas.
pub(super) struct ResourceQuotas;

impl Strategy for ResourceQuotas {
    type Kind = ResourceQuota;

    fn default(&self, quota: &mut ResourceQuota) {
        check::canonical(&mut quota.spec.get_or_insert_default().hard);
        let status = quota.status.get_or_insert_default();
        check::canonical(&mut status.hard);
        check::canonical(&mut status.used);
    }

    fn prepare_create(&self, quota: &mut ResourceQuota) {
        quota.status = Some(ResourceQuotaStatus::default());
    }

    fn prepare_update(&self, quota: &mut ResourceQuota, old: &ResourceQuota) {
        quota.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, quota: &mut ResourceQuota, old: &ResourceQuota) {
        quota.spec.clone_from(&old.spec);
    }

    fn validate(&self, quota: &ResourceQuota) -> Vec<FieldError> {
        let path = Path::new("spec");
        let spec = quota.spec.clone().unwrap_or_default();
        let mut errors = amounts(&path.child("hard"), spec.hard.as_ref());
        errors.extend(scopes(&path.child("scopes"), &spec));
        let selector = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
        for (index, expression) in selector.enumerate() {
            let path = path.child("scopeSelector").child("matchExpressions").index(index);
            if !SCOPES.contains(&expression.scope_name.as_str()) {
                errors.push(FieldError::invalid(path.child("scopeName"), expression.scope_name.as_str(), "unsupported scope"));
            }
            let none = expression.values.as_ref().is_none_or(Vec::is_empty);
            errors.extend(match expression.operator.as_str() {
                "In" | "NotIn" if none => Some(FieldError::required(
                    path.child("values"),
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                )),
                "Exists" | "DoesNotExist" if !none => {
                    let detail = "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector";
                    Some(FieldError::invalid(path.child("values"), check::shown(&expression.values), detail))
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" => None,
                other => Some(FieldError::invalid(path.child("operator"), other, "not a valid selector operator")),
            });
        }
        errors
    }

    fn validate_update(&self, quota: &ResourceQuota, old: &ResourceQuota) -> Vec<FieldError> {
        let mut errors = self.validate(quota);
        let (spec, old) = (quota.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        errors.extend(check::immutable(Path::new("spec").child("scopes"), &spec.scopes, &old.scopes));
        errors.extend(check::immutable(Path::new("spec").child("scopeSelector"), &spec.scope_selector, &old.scope_selector));
        errors
    }

    fn validate_status_update(&self, quota: &ResourceQuota, _old: &ResourceQuota) -> Vec<FieldError> {
        let path = Path::new("status");
        let status = quota.status.clone().unwrap_or_default();
        let mut errors = amounts(&path.child("hard"), status.hard.as_ref());
        errors.extend(amounts(&path.child("used"), status.used.as_ref()));
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        true
    }
}

fn amounts(path: &Path, list: Option<&BTreeMap<String, Quantity>>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, amount) in list.into_iter().flatten() {
        let path = path.key(name);
        errors.extend(resource_name(&path, name));
        errors.extend(check::non_negative_quantity(path.clone(), amount));
        if WHOLE.contains(&name.as_str()) && check::quantity(amount).milli_value() % 1000 != 0 {
            errors.push(FieldError::invalid(path, amount.0.as_str(), "must be an integer"));
        }
    }
    errors
}

fn resource_name(path: &Path, name: &str) -> Option<FieldError> {
    if let Some(wrong) = names::qualified(name) {
        return Some(FieldError::invalid(path.clone(), name, wrong));
    }
    let huge = name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
    let known = STANDARD.contains(&name) || huge || name.contains('/');
    (!known).then(|| FieldError::invalid(path.clone(), name, "must be a standard resource for quota"))
}

fn scopes(path: &Path, spec: &ResourceQuotaSpec) -> Vec<FieldError> {
    let scopes = spec.scopes.clone().unwrap_or_default();
    let has = |wanted: &str| scopes.iter().any(|scope| scope == wanted);
    let wrong = |detail: &str| FieldError::invalid(path.clone(), check::shown(&scopes), detail);
    let mut errors: Vec<_> = scopes.iter().filter(|scope| !SCOPES.contains(&scope.as_str())).map(|_| wrong("unsupported scope")).collect();
    errors.extend(CONFLICTS.iter().filter(|(one, other)| has(one) && has(other)).map(|_| wrong("conflicting scopes")));
    errors
}
