//! What a container or a pod asks of its node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::field::{FieldError, Path};
use crate::strategy::{check, names};

/// Resources of which no more can be requested than the limit, and whose limit may be higher.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub(super) fn validate(resources: &ResourceRequirements, path: &Path) -> Vec<FieldError> {
    let mut errors = list(&path.child("limits"), resources.limits.as_ref());
    errors.extend(list(&path.child("requests"), resources.requests.as_ref()));
    for (name, request) in resources.requests.iter().flatten() {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        errors.extend(against_limit(path, name, request, limit));
    }
    for (name, _) in resources.limits.iter().flatten() {
        let requested = resources.requests.as_ref().is_some_and(|requests| requests.contains_key(name));
        if !STANDARD.contains(&name.as_str()) && !requested {
            errors.push(FieldError::required(path.child("requests").key(name), "Request must be set for non overcommitable resources"));
        }
    }
    errors
}

fn list(path: &Path, list: Option<&BTreeMap<String, Quantity>>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, amount) in list.into_iter().flatten() {
        let path = path.key(name);
        errors.extend(resource_name(&path, name));
        errors.extend(check::non_negative_quantity(path.clone(), amount));
        if !STANDARD.contains(&name.as_str()) && check::quantity(amount).milli_value() % 1000 != 0 {
            errors.push(FieldError::invalid(path, amount.0.as_str(), "must be an integer"));
        }
    }
    errors
}

fn resource_name(path: &Path, name: &str) -> Option<FieldError> {
    if let Some(wrong) = names::qualified(name) {
        return Some(FieldError::invalid(path.clone(), name, wrong));
    }
    let standard = STANDARD.contains(&name) || name.starts_with("hugepages-");
    let detail = "must be a standard resource type or fully qualified";
    (!standard && !name.contains('/')).then(|| FieldError::invalid(path.clone(), name, detail))
}

fn against_limit(path: &Path, name: &str, request: &Quantity, limit: Option<&Quantity>) -> Option<FieldError> {
    let path = path.child("requests");
    let (asked, limit_amount) = (check::quantity(request), check::quantity(limit?));
    let may_differ = STANDARD.contains(&name);
    let shown = request.0.as_str();
    let limit = &limit?.0;
    if may_differ && asked > limit_amount {
        Some(FieldError::invalid(path, shown, format!("must be less than or equal to {name} limit of {limit}")))
    } else if !may_differ && asked != limit_amount {
        Some(FieldError::invalid(path, shown, format!("must be equal to {name} limit of {limit}")))
    } else {
        None
    }
}
