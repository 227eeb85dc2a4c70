//! ControllerRevisions: what they hold never changes.

use k8s_openapi::api::apps::v1::ControllerRevision;

use super::{Strategy, check};
use crate::field::{FieldError, Path};

/// The rules of ControllerRevisions.
pub(super) struct ControllerRevisions;

impl Strategy for ControllerRevisions {
    type Kind = ControllerRevision;

    fn validate(&self, revision: &ControllerRevision) -> Vec<FieldError> {
        let missing = revision.data.as_ref().is_none_or(|data| data.0.is_null());
        let data = missing.then(|| FieldError::required(Path::new("data"), "data is mandatory"));
        data.into_iter().chain(check::non_negative(Path::new("revision"), Some(revision.revision))).collect()
    }

    fn validate_update(&self, revision: &ControllerRevision, old: &ControllerRevision) -> Vec<FieldError> {
        let mut errors = self.validate(revision);
        errors.extend(check::immutable(Path::new("data"), &revision.data, &old.data));
        errors
    }
}
