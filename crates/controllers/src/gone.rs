//! Deleting what may be gone already.

use crate::runtime::ReconcileError;

/// What was to go and is gone is no failure.
pub(crate) fn gone_is_fine(result: Result<(), ReconcileError>) -> Result<(), ReconcileError> {
    match result {
        Err(ReconcileError::Api { source: kube::Error::Api(status), .. }) if status.is_not_found() => Ok(()),
        result => result,
    }
}
