//! PersistentVolumeClaims.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus};

use super::check::{self, fill};
use super::{Strategy, names};
use crate::field::{FieldError, Path};

const FROZEN: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const ONE_POD: &str = "ReadWriteOncePod";

/// The rules of PersistentVolumeClaims.
pub(super) struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    type Kind = PersistentVolumeClaim;

    fn default(&self, claim: &mut PersistentVolumeClaim) {
        default(claim);
    }

    fn prepare_create(&self, claim: &mut PersistentVolumeClaim) {
        claim.status = Some(PersistentVolumeClaimStatus { phase: Some("Pending".to_owned()), ..PersistentVolumeClaimStatus::default() });
    }

    fn prepare_update(&self, claim: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        claim.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, claim: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        claim.spec.clone_from(&old.spec);
    }

    fn validate(&self, claim: &PersistentVolumeClaim) -> Vec<FieldError> {
        validate_spec(&claim.spec.clone().unwrap_or_default(), &Path::new("spec"))
    }

    fn validate_update(&self, claim: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> Vec<FieldError> {
        let mut errors = self.validate(claim);
        let bound = old.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"));
        let (spec, old) = (claim.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        errors.extend(shrunk(&spec, &old));
        if !check::same(&with_mutable_fields_of(spec, &old, bound), &old) {
            errors.push(FieldError::forbidden(Path::new("spec"), FROZEN));
        }
        errors
    }

    fn validate_status_update(&self, claim: &PersistentVolumeClaim, _old: &PersistentVolumeClaim) -> Vec<FieldError> {
        let status = claim.status.clone().unwrap_or_default();
        let path = Path::new("status").child("capacity");
        let amounts = status.capacity.iter().flatten();
        amounts.filter_map(|(name, amount)| check::non_negative_quantity(path.key(name), amount)).collect()
    }
}

/// Fills in what the author of a claim, or of a StatefulSet's claim template, left out.
pub(super) fn default(claim: &mut PersistentVolumeClaim) {
    if let Some(spec) = &mut claim.spec {
        fill(&mut spec.volume_mode, "Filesystem");
        if let Some(resources) = &mut spec.resources {
            check::canonical(&mut resources.limits);
            check::canonical(&mut resources.requests);
        }
    }
    fill(&mut claim.status.get_or_insert_default().phase, "Pending");
}

fn validate_spec(spec: &PersistentVolumeClaimSpec, path: &Path) -> Vec<FieldError> {
    let mut errors = access_modes(spec.access_modes.as_deref(), &path.child("accessModes"));
    errors.extend(spec.selector.iter().flat_map(|selector| check::label_selector(&path.child("selector"), selector)));
    let place = path.child("resources").key("storage");
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.push(FieldError::required(place, "")),
        Some(amount) if check::quantity(amount).signum() <= 0 => {
            errors.push(FieldError::invalid(place, amount.0.as_str(), "must be greater than zero"));
        }
        Some(_) => {}
    }
    errors.extend(check::maybe_named(path.child("storageClassName"), spec.storage_class_name.as_ref(), names::dns_subdomain));
    errors.extend(check::one_of(path.child("volumeMode"), spec.volume_mode.as_ref(), &["Block", "Filesystem"]));
    errors
}

/// What is wrong with the access modes of a claim or a volume.
pub(super) fn access_modes(modes: Option<&[String]>, path: &Path) -> Vec<FieldError> {
    let modes = modes.unwrap_or_default();
    let supported = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", ONE_POD];
    let mut errors = Vec::new();
    if modes.is_empty() {
        errors.push(FieldError::required(path.clone(), "at least 1 access mode is required"));
    }
    for mode in modes.iter().filter(|mode| !supported.contains(&mode.as_str())) {
        errors.push(FieldError::not_supported(path.clone(), mode.as_str(), &supported));
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == ONE_POD) {
        errors.push(FieldError::forbidden(path.clone(), "may not use ReadWriteOncePod with other access modes"));
    }
    errors
}

/// The new specification with everything that may change put back: a volume and a class may be set once, and a bound claim
/// may ask for more.
fn with_mutable_fields_of(mut spec: PersistentVolumeClaimSpec, old: &PersistentVolumeClaimSpec, bound: bool) -> PersistentVolumeClaimSpec {
    if check::some(old.volume_name.as_ref()).is_none() {
        spec.volume_name.clone_from(&old.volume_name);
    }
    if old.storage_class_name.is_none() && !bound {
        spec.storage_class_name.clone_from(&old.storage_class_name);
    }
    spec.volume_attributes_class_name.clone_from(&old.volume_attributes_class_name);
    if let (true, Some(resources), Some(old)) = (bound, &mut spec.resources, &old.resources) {
        resources.requests.clone_from(&old.requests);
    }
    spec
}

fn shrunk(spec: &PersistentVolumeClaimSpec, old: &PersistentVolumeClaimSpec) -> Option<FieldError> {
    let asked = |spec: &PersistentVolumeClaimSpec| spec.resources.as_ref()?.requests.as_ref()?.get("storage").map(check::quantity);
    let path = Path::new("spec").child("resources").child("requests").child("storage");
    let smaller = asked(spec)? < asked(old)?;
    smaller.then(|| FieldError::forbidden(path, "field can not be less than previous value"))
}
