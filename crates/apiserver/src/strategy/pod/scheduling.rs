//! Where a pod may run: tolerations, affinity, spreading.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};

use crate::field::{FieldError, Path};
use crate::strategy::{check, names};

pub(super) fn validate(spec: &PodSpec, path: &Path) -> Vec<FieldError> {
    let mut errors = check::labels(&path.child("nodeSelector"), spec.node_selector.as_ref());
    errors.extend(tolerations(spec.tolerations.as_deref().unwrap_or_default(), &path.child("tolerations")));
    errors.extend(spec.affinity.iter().flat_map(|rules| affinity(rules, &path.child("affinity"))));
    for (index, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        errors.extend(spread(constraint, &path.child("topologySpreadConstraints").index(index)));
    }
    errors
}

/// What is wrong with tolerations.
pub(super) fn tolerations(tolerations: &[Toleration], path: &Path) -> Vec<FieldError> {
    tolerations.iter().enumerate().flat_map(|(index, each)| toleration(each, &path.index(index))).collect()
}

fn toleration(toleration: &Toleration, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let key = check::some(toleration.key.as_ref());
    let value = check::some(toleration.value.as_ref());
    let operator = check::some(toleration.operator.as_ref());
    errors.extend(key.and_then(names::qualified).map(|wrong| FieldError::invalid(path.child("key"), key.unwrap_or_default(), wrong)));
    if key.is_none() && operator != Some("Exists") {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(path.child("operator"), operator.unwrap_or_default(), detail));
    }
    let effect = check::some(toleration.effect.as_ref());
    if toleration.toleration_seconds.is_some() && effect != Some("NoExecute") {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(path.child("effect"), effect.unwrap_or_default(), detail));
    }
    match (operator, value) {
        (None | Some("Equal"), _) => {
            let wrong = names::label_value(value.unwrap_or_default());
            errors.extend(wrong.map(|wrong| FieldError::invalid(path.child("operator"), value.unwrap_or_default(), wrong)));
        }
        (Some("Exists"), Some(_)) => {
            let detail = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(path.child("operator"), check::shown(toleration), detail));
        }
        (Some("Exists"), None) => {}
        (Some(other), _) => errors.push(FieldError::not_supported(path.child("operator"), other, &["Equal", "Exists"])),
    }
    errors.extend(check::one_of(path.child("effect"), toleration.effect.as_ref(), &["NoSchedule", "PreferNoSchedule", "NoExecute"]));
    errors
}

fn affinity(affinity: &Affinity, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        let required = node.required_during_scheduling_ignored_during_execution.iter();
        let place = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        errors.extend(required.flat_map(|selector| node_selector(selector, &place)));
        for (index, preferred) in node.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
            let path = path.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
            errors.extend(weight(preferred.weight, path.child("weight")));
            errors.extend(node_term(&preferred.preference, &path.child("preference")));
        }
    }
    if let Some(pods) = &affinity.pod_affinity {
        let path = path.child("podAffinity");
        errors.extend(required_terms(pods.required_during_scheduling_ignored_during_execution.as_deref(), &path));
        errors.extend(preferred_terms(pods.preferred_during_scheduling_ignored_during_execution.as_deref(), &path));
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        let path = path.child("podAntiAffinity");
        errors.extend(required_terms(pods.required_during_scheduling_ignored_during_execution.as_deref(), &path));
        errors.extend(preferred_terms(pods.preferred_during_scheduling_ignored_during_execution.as_deref(), &path));
    }
    errors
}

/// What is wrong with a node selector: it has terms, and each requirement can be judged.
pub(in crate::strategy) fn node_selector(selector: &NodeSelector, path: &Path) -> Vec<FieldError> {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        return vec![FieldError::required(path, "must have at least one node selector term")];
    }
    selector.node_selector_terms.iter().enumerate().flat_map(|(index, term)| node_term(term, &path.index(index))).collect()
}

fn node_term(term: &NodeSelectorTerm, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        errors.extend(node_requirement(requirement, &path.child("matchExpressions").index(index)));
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        let path = path.child("matchFields").index(index);
        errors.extend(check::one_of(path.child("operator"), Some(&requirement.operator), &["In", "NotIn"]));
        errors.extend(check::required_one_of(path.child("key"), Some(&requirement.key), &["metadata.name"]));
    }
    errors
}

fn node_requirement(requirement: &NodeSelectorRequirement, path: &Path) -> Vec<FieldError> {
    let values = requirement.values.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(FieldError::required(path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.push(FieldError::forbidden(path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.push(FieldError::required(path.child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(FieldError::invalid(path.child("operator"), other, "not a valid selector operator")),
    }
    errors.extend(names::qualified(&requirement.key).map(|wrong| FieldError::invalid(path.child("key"), requirement.key.as_str(), wrong)));
    errors
}

fn weight(weight: i32, path: Path) -> Option<FieldError> {
    (!(1..=100).contains(&weight)).then(|| FieldError::invalid(path, weight, "must be in the range 1-100"))
}

fn required_terms(terms: Option<&[PodAffinityTerm]>, path: &Path) -> Vec<FieldError> {
    let path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    terms.unwrap_or_default().iter().enumerate().flat_map(|(index, term)| pod_term(term, &path.index(index))).collect()
}

fn preferred_terms(terms: Option<&[WeightedPodAffinityTerm]>, path: &Path) -> Vec<FieldError> {
    let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    let mut errors = Vec::new();
    for (index, term) in terms.unwrap_or_default().iter().enumerate() {
        errors.extend(weight(term.weight, path.index(index).child("weight")));
        errors.extend(pod_term(&term.pod_affinity_term, &path.index(index).child("podAffinityTerm")));
    }
    errors
}

fn pod_term(term: &PodAffinityTerm, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(term.label_selector.iter().flat_map(|selector| check::label_selector(&path.child("labelSelector"), selector)));
    errors.extend(term.namespace_selector.iter().flat_map(|selector| check::label_selector(&path.child("namespaceSelector"), selector)));
    for namespace in term.namespaces.iter().flatten() {
        errors.extend(names::dns_label(namespace).map(|wrong| FieldError::invalid(path.child("namespace"), namespace.as_str(), wrong)));
    }
    errors.extend(topology_key(&term.topology_key, path.child("topologyKey"), "can not be empty"));
    errors
}

fn topology_key(key: &str, path: Path, when_empty: &str) -> Option<FieldError> {
    if key.is_empty() {
        return Some(FieldError::required(path, when_empty));
    }
    names::qualified(key).map(|wrong| FieldError::invalid(path, key, wrong))
}

fn spread(constraint: &TopologySpreadConstraint, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(check::positive(path.child("maxSkew"), Some(constraint.max_skew)));
    errors.extend(topology_key(&constraint.topology_key, path.child("topologyKey"), "can not be empty"));
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    let action = Some(&constraint.when_unsatisfiable).filter(|action| !action.is_empty());
    errors.extend(match action {
        None => Some(FieldError::not_supported(path.child("whenUnsatisfiable"), "", &actions)),
        action => check::one_of(path.child("whenUnsatisfiable"), action, &actions),
    });
    if let Some(domains) = constraint.min_domains {
        errors.extend(check::positive(path.child("minDomains"), Some(domains)));
        if constraint.when_unsatisfiable != "DoNotSchedule" {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", constraint.when_unsatisfiable);
            errors.push(FieldError::invalid(path.child("minDomains"), domains, detail));
        }
    }
    errors.extend(check::one_of(path.child("nodeAffinityPolicy"), constraint.node_affinity_policy.as_ref(), &["Honor", "Ignore"]));
    errors.extend(check::one_of(path.child("nodeTaintsPolicy"), constraint.node_taints_policy.as_ref(), &["Honor", "Ignore"]));
    errors.extend(constraint.label_selector.iter().flat_map(|selector| check::label_selector(&path.child("labelSelector"), selector)));
    errors
}
