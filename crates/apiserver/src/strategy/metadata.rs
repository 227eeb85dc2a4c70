//! Rules for every object's metadata, in upstream's words (`apimachinery/pkg/api/validation/objectmeta.go`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kinds::Resource;

use super::{Erased, check, names};
use crate::field::{FieldError, Path};

/// Bytes that all annotations of an object may have together, their keys included.
const MAX_ANNOTATIONS: usize = 256 << 10;
/// The two finalizers that contradict each other.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What is wrong with a new object's metadata, once its name is generated and its namespace is set.
pub fn validate_create(meta: &ObjectMeta, resource: &Resource, strategy: &dyn Erased) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    if let Some(prefix) = check::some(meta.generate_name.as_ref()) {
        let wrong = names::prefix(prefix, |name| strategy.validate_name(name));
        errors.extend(wrong.map(|wrong| FieldError::invalid(path.child("generateName"), prefix, wrong)));
    }
    errors.extend(match check::some(meta.name.as_ref()) {
        None => Some(FieldError::required(path.child("name"), "name or generateName is required")),
        Some(name) => strategy.validate_name(name).map(|wrong| FieldError::invalid(path.child("name"), name, wrong)),
    });
    let namespace = check::some(meta.namespace.as_ref());
    errors.extend(match (namespace, resource.is_namespaced()) {
        (Some(_), false) => Some(FieldError::forbidden(path.child("namespace"), "not allowed on this type")),
        (namespace, true) => check::named(path.child("namespace"), namespace.unwrap_or_default(), names::dns_label),
        (None, false) => None,
    });
    errors.extend(check::non_negative(path.child("generation"), meta.generation));
    errors.extend(common(meta, &path));
    errors
}

/// What is wrong with changed metadata. What a client may leave out (the uid, the creation's time ...) is filled in before
/// by [`restore`]; the resource version is checked by whoever commits.
pub fn validate_update(meta: &ObjectMeta, old: &ObjectMeta) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    if old.deletion_timestamp.is_some() {
        errors.extend(new_finalizers(meta, old, path.child("finalizers")));
    }
    if meta.generation < old.generation {
        errors.push(FieldError::invalid(path.child("generation"), meta.generation.unwrap_or(0), "must not be decremented"));
    }
    errors.extend(check::immutable(path.child("name"), &meta.name, &old.name));
    errors.extend(check::immutable(path.child("namespace"), &meta.namespace, &old.namespace));
    errors.extend(check::immutable(path.child("uid"), &meta.uid, &old.uid));
    errors.extend(check::immutable(path.child("creationTimestamp"), &meta.creation_timestamp, &old.creation_timestamp));
    errors.extend(check::immutable(path.child("deletionTimestamp"), &meta.deletion_timestamp, &old.deletion_timestamp));
    let (grace, old_grace) = (&meta.deletion_grace_period_seconds, &old.deletion_grace_period_seconds);
    errors.extend(check::immutable(path.child("deletionGracePeriodSeconds"), grace, old_grace));
    errors.extend(common(meta, &path));
    errors
}

/// Fills in what the server keeps in metadata and a client's change may leave out.
pub fn restore(meta: &mut ObjectMeta, old: &ObjectMeta) {
    fn keep<T: Clone>(field: &mut Option<T>, old: &Option<T>) {
        if field.is_none() {
            field.clone_from(old);
        }
    }
    keep(&mut meta.name, &old.name);
    keep(&mut meta.namespace, &old.namespace);
    keep(&mut meta.uid, &old.uid);
    keep(&mut meta.creation_timestamp, &old.creation_timestamp);
    meta.generation = old.generation;
    meta.deletion_timestamp.clone_from(&old.deletion_timestamp);
    meta.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    meta.self_link = None;
}

fn common(meta: &ObjectMeta, path: &Path) -> Vec<FieldError> {
    let mut errors = check::labels(&path.child("labels"), meta.labels.as_ref());
    errors.extend(annotations(&path.child("annotations"), meta.annotations.as_ref()));
    errors.extend(owner_references(meta.owner_references.as_deref().unwrap_or_default(), &path.child("ownerReferences")));
    errors.extend(finalizers(meta.finalizers.as_deref().unwrap_or_default(), &path.child("finalizers")));
    errors
}

/// What is wrong with annotations.
pub(super) fn annotations(path: &Path, annotations: Option<&BTreeMap<String, String>>) -> Vec<FieldError> {
    let Some(annotations) = annotations else { return Vec::new() };
    let wrong = |key: &String| names::qualified(&key.to_lowercase()).map(|wrong| FieldError::invalid(path.clone(), key.as_str(), wrong));
    let mut errors: Vec<_> = annotations.keys().filter_map(wrong).collect();
    if too_many_annotations(annotations) {
        errors.push(FieldError::too_long(path.clone(), MAX_ANNOTATIONS));
    }
    errors
}

/// Whether annotations are larger together than those of an object may be.
pub fn too_many_annotations(annotations: &BTreeMap<String, String>) -> bool {
    annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_ANNOTATIONS
}

fn owner_references(references: &[OwnerReference], path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<_> = references.iter().flat_map(|reference| owner_reference(reference, path)).collect();
    let mut controllers = references.iter().filter(|reference| reference.controller == Some(true));
    if let Some(first) = controllers.next() {
        let name = |reference: &OwnerReference| format!("{}/{}", reference.kind, reference.name);
        errors.extend(controllers.map(|other| {
            let detail = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
                name(first),
                name(other)
            );
            FieldError::invalid(path.clone(), check::shown(&references), detail)
        }));
    }
    errors
}

fn owner_reference(reference: &OwnerReference, path: &Path) -> Vec<FieldError> {
    let version = reference.api_version.rsplit('/').next().unwrap_or_default();
    let mut errors = Vec::new();
    for (field, value, text, wrong) in [
        ("apiVersion", version, &reference.api_version, "version must not be empty"),
        ("kind", &reference.kind, &reference.kind, "must not be empty"),
        ("name", &reference.name, &reference.name, "must not be empty"),
        ("uid", &reference.uid, &reference.uid, "must not be empty"),
    ] {
        if value.is_empty() {
            errors.push(FieldError::invalid(path.child(field), text.as_str(), wrong));
        }
    }
    if reference.api_version == "v1" && reference.kind == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(FieldError::invalid(path.clone(), check::shown(reference), detail));
    }
    errors
}

fn finalizers(finalizers: &[String], path: &Path) -> Vec<FieldError> {
    let wrong = |name: &String| names::qualified(name).map(|wrong| FieldError::invalid(path.clone(), name.as_str(), wrong));
    let mut errors: Vec<_> = finalizers.iter().filter_map(wrong).collect();
    let has = |wanted: &str| finalizers.iter().any(|name| name == wanted);
    if has(ORPHAN) && has(FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(path.clone(), check::shown(&finalizers), detail));
    }
    errors
}

fn new_finalizers(meta: &ObjectMeta, old: &ObjectMeta, path: Path) -> Option<FieldError> {
    let set = |meta: &ObjectMeta| meta.finalizers.iter().flatten().cloned().collect::<BTreeSet<_>>();
    let extra: Vec<_> = set(meta).difference(&set(old)).map(|name| format!("{name:?}")).collect();
    let detail = || {
        let extra = extra.join(", ");
        format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{extra}}}")
    };
    (!extra.is_empty()).then(|| FieldError::forbidden(path, detail()))
}
