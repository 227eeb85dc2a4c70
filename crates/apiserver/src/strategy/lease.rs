//! Leases.

use k8s_openapi::api::coordination::v1::Lease;

use super::{Strategy, check};
use crate::field::{FieldError, Path};

/// The rules of Leases.
pub(super) struct Leases;

impl Strategy for Leases {
    type Kind = Lease;

    fn validate(&self, lease: &Lease) -> Vec<FieldError> {
        let path = Path::new("spec");
        let spec = lease.spec.clone().unwrap_or_default();
        let duration = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0);
        let duration = duration.map(|seconds| FieldError::invalid(path.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
        duration.into_iter().chain(check::non_negative(path.child("leaseTransitions"), spec.lease_transitions)).collect()
    }

    /// Two holders that overwrite each other without looking would both believe they hold it.
    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
