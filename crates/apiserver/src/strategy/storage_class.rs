//! StorageClasses.

use k8s_openapi::api::storage::v1::StorageClass;

use super::check::{self, fill};
use super::{Strategy, names};
use crate::field::{FieldError, Path};

/// The rules of StorageClasses.
pub(super) struct StorageClasses;

impl Strategy for StorageClasses {
    type Kind = StorageClass;

    fn default(&self, class: &mut StorageClass) {
        fill(&mut class.reclaim_policy, "Delete");
        fill(&mut class.volume_binding_mode, "Immediate");
    }

    fn validate(&self, class: &StorageClass) -> Vec<FieldError> {
        let mut errors: Vec<_> =
            check::named(Path::new("provisioner"), &class.provisioner, |name| names::qualified(&name.to_lowercase())).into_iter().collect();
        errors.extend(check::one_of(Path::new("reclaimPolicy"), class.reclaim_policy.as_ref(), &["Delete", "Retain"]));
        let modes = ["Immediate", "WaitForFirstConsumer"];
        errors.extend(check::required_one_of(Path::new("volumeBindingMode"), class.volume_binding_mode.as_ref(), &modes));
        errors
    }

    fn validate_update(&self, class: &StorageClass, old: &StorageClass) -> Vec<FieldError> {
        let mut errors = self.validate(class);
        for (field, same) in [
            ("parameters", check::same(&class.parameters, &old.parameters)),
            ("provisioner", class.provisioner == old.provisioner),
            ("reclaimPolicy", class.reclaim_policy == old.reclaim_policy),
        ] {
            if !same {
                errors.push(FieldError::forbidden(Path::new(field), format!("updates to {field} are forbidden.")));
            }
        }
        errors.extend(check::immutable(Path::new("volumeBindingMode"), &class.volume_binding_mode, &old.volume_binding_mode));
        errors
    }
}
