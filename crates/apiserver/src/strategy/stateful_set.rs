//! StatefulSets.

mod extensions;

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetStatus, StatefulSetUpdateStrategy,
};
use kinds::Selector;

use super::check::{self, fill};
use super::{Strategy, names, persistent_volume_claim, pod};
use crate::field::{FieldError, Path};

const FROZEN: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const ROLLING: &str = "RollingUpdate";
const ON_DELETE: &str = "OnDelete";

/// The rules of StatefulSets.
pub(super) struct StatefulSets;

impl Strategy for StatefulSets {
    type Kind = StatefulSet;

    fn default(&self, set: &mut StatefulSet) {
        if let Some(spec) = &mut set.spec {
            default_spec(spec);
        }
    }

    fn prepare_create(&self, set: &mut StatefulSet) {
        set.metadata.generation = Some(1);
        set.status = Some(StatefulSetStatus { available_replicas: Some(0), ..StatefulSetStatus::default() });
    }

    fn prepare_update(&self, set: &mut StatefulSet, old: &StatefulSet) {
        set.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, set: &mut StatefulSet, old: &StatefulSet) {
        set.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, set: &StatefulSet, old: &StatefulSet) -> bool {
        !check::same(&set.spec, &old.spec)
    }

    fn validate(&self, set: &StatefulSet) -> Vec<FieldError> {
        let spec = set.spec.clone().unwrap_or_default();
        let mut errors = validate_spec(&spec);
        let service = Path::new("spec").child("serviceName");
        errors.extend(check::maybe_named(service, spec.service_name.as_ref(), names::dns_label));
        errors.extend(extensions::annotations(set, None));
        errors.extend(extensions::hook(set, None));
        errors.extend(extensions::pod_names(set, None));
        errors
    }

    fn validate_update(&self, set: &StatefulSet, old: &StatefulSet) -> Vec<FieldError> {
        let mut beyond = extensions::annotations(set, Some(old));
        beyond.extend(extensions::hook(set, Some(old)));
        beyond.extend(extensions::pod_names(set, Some(old)));
        // What is stored was found valid when it came.
        if set.spec == old.spec {
            return beyond;
        }
        let (spec, old) = (set.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let mut errors = validate_spec(&spec);
        if !check::same(&with_mutable_fields_of(spec, &old), &old) {
            errors.push(FieldError::forbidden(Path::new("spec"), FROZEN));
        }
        errors.extend(beyond);
        errors
    }

    fn validate_status_update(&self, set: &StatefulSet, old: &StatefulSet) -> Vec<FieldError> {
        let status = set.status.clone().unwrap_or_default();
        validate_status(&status, old.status.as_ref().and_then(|status| status.collision_count))
    }

    fn validate_name(&self, name: &str) -> Option<String> {
        names::dns_label(name)
    }
}

fn default_spec(spec: &mut StatefulSetSpec) {
    spec.replicas.get_or_insert(1);
    spec.revision_history_limit.get_or_insert(10);
    fill(&mut spec.pod_management_policy, "OrderedReady");
    default_update_strategy(spec.update_strategy.get_or_insert_default());
    let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
    fill(&mut retention.when_deleted, "Retain");
    fill(&mut retention.when_scaled, "Retain");
    pod::default_template(&mut spec.template);
    spec.volume_claim_templates.iter_mut().flatten().for_each(persistent_volume_claim::default);
}

/// A strategy that names its type but no `rollingUpdate` keeps none, as upstream: the controller chooses revisions by it.
fn default_update_strategy(strategy: &mut StatefulSetUpdateStrategy) {
    if check::some(strategy.type_.as_ref()).is_none() {
        strategy.type_ = Some(ROLLING.to_owned());
        strategy.rolling_update.get_or_insert_default();
    }
    if strategy.type_.as_deref() == Some(ROLLING)
        && let Some(rolling) = &mut strategy.rolling_update
    {
        rolling.partition.get_or_insert(0);
    }
}

fn validate_spec(spec: &StatefulSetSpec) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let policy = spec.pod_management_policy.as_deref().unwrap_or_default();
    if !["OrderedReady", "Parallel"].contains(&policy) {
        errors.push(FieldError::invalid(path.child("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'"));
    }
    errors.extend(update_strategy(spec.update_strategy.as_ref(), &path.child("updateStrategy")));
    errors.extend(retention(spec, &path.child("persistentVolumeClaimRetentionPolicy")));
    errors.extend(check::non_negative(path.child("replicas"), spec.replicas));
    errors.extend(check::non_negative(path.child("minReadySeconds"), spec.min_ready_seconds));
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    errors.extend(check::non_negative(path.child("ordinals").child("start"), start));
    errors.extend(selector(spec, &path));
    errors.extend(template(spec, &path.child("template")));
    errors
}

fn update_strategy(strategy: Option<&StatefulSetUpdateStrategy>, path: &Path) -> Vec<FieldError> {
    let missing = StatefulSetUpdateStrategy::default();
    let strategy = strategy.unwrap_or(&missing);
    let place = path.child("rollingUpdate");
    match (check::some(strategy.type_.as_ref()), &strategy.rolling_update) {
        (None, _) => vec![FieldError::required(path.clone(), "")],
        (Some(ON_DELETE), Some(rolling)) => {
            vec![FieldError::invalid(place, check::shown(rolling), "only allowed for updateStrategy 'RollingUpdate'")]
        }
        (Some(ROLLING), Some(rolling)) => rolling_update(rolling, &place),
        (Some(ON_DELETE | ROLLING), None) => Vec::new(),
        (Some(_), _) => {
            vec![FieldError::invalid(path.clone(), check::shown(strategy), "must be 'RollingUpdate' or 'OnDelete'")]
        }
    }
}

fn rolling_update(rolling: &RollingUpdateStatefulSetStrategy, path: &Path) -> Vec<FieldError> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let mut errors: Vec<_> = check::non_negative(path.child("partition"), rolling.partition).into_iter().collect();
    if let Some(count) = &rolling.max_unavailable {
        let path = path.child("maxUnavailable");
        errors.extend(check::count_or_percentage(&path, count));
        let zero = match count {
            IntOrString::Int(number) => *number == 0,
            IntOrString::String(text) => text.trim_end_matches('%').parse() == Ok(0),
        };
        if zero {
            errors.push(FieldError::invalid(path, check::shown(count), "cannot be 0"));
        }
    }
    errors
}

fn retention(spec: &StatefulSetSpec, path: &Path) -> Vec<FieldError> {
    let Some(policy) = &spec.persistent_volume_claim_retention_policy else { return Vec::new() };
    let both = [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)];
    let wrong = |(field, choice): (&str, &Option<String>)| check::one_of(path.child(field), choice.as_ref(), &["Delete", "Retain"]);
    both.into_iter().filter_map(wrong).collect()
}

/// An empty selector is reported as a missing one: the decoder can't tell them apart.
fn selector(spec: &StatefulSetSpec, path: &Path) -> Vec<FieldError> {
    let labels = path.child("template").child("metadata").child("labels");
    let template = spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    let mismatch = || FieldError::invalid(labels, check::shown(&template), "`selector` does not match template `labels`");
    let mut errors = check::label_selector(&path.child("selector"), &spec.selector);
    match Selector::from_label_selector(&spec.selector) {
        Ok(selector) if selector.is_empty() => {
            errors.push(FieldError::required(path.child("selector"), ""));
            errors.push(mismatch());
        }
        Ok(selector) if !selector.matches(template) => errors.push(mismatch()),
        Ok(_) => {}
        Err(_) if errors.is_empty() => errors.push(FieldError::invalid(path.child("selector"), check::shown(&spec.selector), "")),
        Err(_) => {}
    }
    errors
}

fn template(spec: &StatefulSetSpec, path: &Path) -> Vec<FieldError> {
    let claims = spec.volume_claim_templates.iter().flatten().filter_map(|claim| claim.metadata.name.as_deref());
    let mut errors = pod::validate_template(&spec.template, path, &claims.collect::<Vec<_>>());
    let Some(template) = &spec.template.spec else { return errors };
    let path = path.child("spec");
    let policy = template.restart_policy.as_deref().unwrap_or_default();
    if policy != "Always" {
        errors.push(FieldError::not_supported(path.child("restartPolicy"), policy, &["Always"]));
    }
    if template.active_deadline_seconds.is_some() {
        errors.push(FieldError::forbidden(path.child("activeDeadlineSeconds"), "activeDeadlineSeconds in StatefulSet is not Supported"));
    }
    errors
}

/// The new specification with everything that may change put back.
fn with_mutable_fields_of(mut spec: StatefulSetSpec, old: &StatefulSetSpec) -> StatefulSetSpec {
    spec.replicas = old.replicas;
    spec.ordinals.clone_from(&old.ordinals);
    spec.template.clone_from(&old.template);
    spec.update_strategy.clone_from(&old.update_strategy);
    spec.revision_history_limit = old.revision_history_limit;
    spec.persistent_volume_claim_retention_policy.clone_from(&old.persistent_volume_claim_retention_policy);
    spec.min_ready_seconds = old.min_ready_seconds;
    spec
}

fn validate_status(status: &StatefulSetStatus, old_collisions: Option<i32>) -> Vec<FieldError> {
    let path = Path::new("status");
    let counts = [
        ("readyReplicas", status.ready_replicas),
        ("currentReplicas", status.current_replicas),
        ("updatedReplicas", status.updated_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    let mut errors: Vec<_> = check::non_negative(path.child("replicas"), Some(status.replicas)).into_iter().collect();
    errors.extend(counts.iter().filter_map(|(field, count)| check::non_negative(path.child(field), *count)));
    errors.extend(check::non_negative(path.child("observedGeneration"), status.observed_generation));
    errors.extend(check::non_negative(path.child("collisionCount"), status.collision_count));
    for (field, count) in counts {
        let count = count.unwrap_or(0);
        if count > status.replicas {
            errors.push(FieldError::invalid(path.child(field), count, "cannot be greater than status.replicas"));
        }
    }
    let available = status.available_replicas.unwrap_or(0);
    if available > status.ready_replicas.unwrap_or(0) {
        errors.push(FieldError::invalid(path.child("availableReplicas"), available, "cannot be greater than status.readyReplicas"));
    }
    let collisions = status.collision_count.unwrap_or(0);
    if old_collisions.is_some_and(|old| collisions < old) {
        errors.push(FieldError::invalid(path.child("collisionCount"), collisions, "cannot be decremented"));
    }
    errors
}
