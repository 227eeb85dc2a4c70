//! PersistentVolumes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use serde_json::{Map, Value};

use super::check::{self, fill};
use super::{Strategy, names, persistent_volume_claim, pod};
use crate::field::{FieldError, Path};

/// The fields of a specification that are no source of storage.
const OTHER_FIELDS: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// The rules of PersistentVolumes.
pub(super) struct PersistentVolumes;

impl Strategy for PersistentVolumes {
    type Kind = PersistentVolume;

    fn default(&self, volume: &mut PersistentVolume) {
        if let Some(spec) = &mut volume.spec {
            fill(&mut spec.persistent_volume_reclaim_policy, "Retain");
            fill(&mut spec.volume_mode, "Filesystem");
            check::canonical(&mut spec.capacity);
            if let Some(source) = &mut spec.host_path {
                source.type_.get_or_insert_default();
            }
        }
        fill(&mut volume.status.get_or_insert_default().phase, "Pending");
    }

    fn prepare_create(&self, volume: &mut PersistentVolume) {
        volume.status = Some(PersistentVolumeStatus { phase: Some("Pending".to_owned()), ..PersistentVolumeStatus::default() });
    }

    fn prepare_update(&self, volume: &mut PersistentVolume, old: &PersistentVolume) {
        volume.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, volume: &mut PersistentVolume, old: &PersistentVolume) {
        volume.spec.clone_from(&old.spec);
    }

    fn validate(&self, volume: &PersistentVolume) -> Vec<FieldError> {
        validate_spec(&volume.spec.clone().unwrap_or_default(), &Path::new("spec"))
    }

    fn validate_update(&self, volume: &PersistentVolume, old: &PersistentVolume) -> Vec<FieldError> {
        let mut errors = self.validate(volume);
        let (spec, old) = (volume.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let path = Path::new("spec");
        if sources(&spec) != sources(&old) {
            errors.push(FieldError::forbidden(
                path.child("persistentvolumesource"),
                "spec.persistentvolumesource is immutable after creation",
            ));
        }
        errors.extend(check::immutable(path.child("volumeMode"), &spec.volume_mode, &old.volume_mode));
        if old.node_affinity.is_some() {
            errors.extend(check::immutable(path.child("nodeAffinity"), &spec.node_affinity, &old.node_affinity));
        }
        errors
    }
}

fn sources(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    match check::shown(spec) {
        Value::Object(fields) => fields.into_iter().filter(|(name, _)| !OTHER_FIELDS.contains(&name.as_str())).collect(),
        _ => Map::new(),
    }
}

fn validate_spec(spec: &PersistentVolumeSpec, path: &Path) -> Vec<FieldError> {
    let mut errors = persistent_volume_claim::access_modes(spec.access_modes.as_deref(), &path.child("accessModes"));
    errors.extend(capacity(spec, &path.child("capacity")));
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = spec.persistent_volume_reclaim_policy.as_ref();
    errors.extend(check::one_of(path.child("persistentVolumeReclaimPolicy"), policy, &policies));
    errors.extend(check::one_of(path.child("volumeMode"), spec.volume_mode.as_ref(), &["Block", "Filesystem"]));
    errors.extend(check::maybe_named(path.child("storageClassName"), spec.storage_class_name.as_ref(), names::dns_subdomain));
    let required = spec.node_affinity.as_ref().map(|affinity| &affinity.required);
    errors.extend(match required {
        Some(None) => vec![FieldError::required(path.child("nodeAffinity").child("required"), "must specify required node constraints")],
        Some(Some(selector)) => pod::node_selector(selector, &path.child("nodeAffinity").child("required")),
        None => Vec::new(),
    });
    errors.extend(source(spec, path));
    errors
}

fn capacity(spec: &PersistentVolumeSpec, path: &Path) -> Vec<FieldError> {
    let capacity = spec.capacity.clone().unwrap_or_default();
    let Some(amount) = capacity.get("storage").filter(|_| capacity.len() == 1) else {
        return match capacity.is_empty() {
            true => vec![FieldError::required(path.clone(), "")],
            false => vec![FieldError::not_supported(path.clone(), check::shown(&capacity), &["storage"])],
        };
    };
    let positive = check::quantity(amount).signum() > 0;
    let wrong = || FieldError::invalid(path.key("storage"), amount.0.as_str(), "must be greater than zero");
    (!positive).then(wrong).into_iter().collect()
}

fn source(spec: &PersistentVolumeSpec, path: &Path) -> Vec<FieldError> {
    let sources = sources(spec);
    if sources.is_empty() {
        return vec![FieldError::required(path.clone(), "must specify a volume type")];
    }
    let others = sources.keys().skip(1);
    let mut errors: Vec<_> =
        others.map(|name| FieldError::forbidden(path.child(name), "may not specify more than 1 volume type")).collect();
    if let Some(source) = &spec.host_path {
        errors.extend(pod::host_path(&source.path, source.type_.as_ref(), &path.child("hostPath")));
        let root = source.path.trim_end_matches('/').is_empty() && source.path.starts_with('/');
        if root && spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
            let detail = "may not be 'recycle' for a hostPath mount of '/'";
            errors.push(FieldError::forbidden(path.child("persistentVolumeReclaimPolicy"), detail));
        }
    }
    if let Some(source) = &spec.local {
        let path = path.child("local").child("path");
        errors.extend(check::required(path.clone(), &source.path));
        if source.path.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(path, source.path.as_str(), "must not contain '..'"));
        }
        if spec.node_affinity.is_none() {
            errors.push(FieldError::required(Path::new("spec").child("nodeAffinity"), "Local volume requires node affinity"));
        }
    }
    errors
}
