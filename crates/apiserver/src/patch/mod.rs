//! What a patch makes of an object.

use kinds::Resource;
use serde_json::Value;

use crate::error::ApiError;
use crate::strategy::shape;

mod json;
mod strategic;

/// The three formats of a patch that changes fields one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902: a list of operations.
    Json,
    /// RFC 7386: the fields that change.
    Merge,
    /// Kubernetes' own: as [`PatchType::Merge`], but lists merge by their items' keys.
    Strategic,
}

/// The object after the patch. The result is not yet known to be a valid object, or one at all.
pub fn apply(patch_type: PatchType, resource: &Resource, current: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    match patch_type {
        PatchType::Json => json::apply(current, patch),
        PatchType::Merge => {
            let mut merged = current.clone();
            json_patch::merge(&mut merged, &object(patch)?);
            Ok(merged)
        }
        PatchType::Strategic => Ok(strategic::apply(current, &object(patch)?, &shape::of(resource))?),
    }
}

fn object(patch: &[u8]) -> Result<Value, ApiError> {
    let patch: Value = serde_json::from_slice(patch).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if patch.is_object() { Ok(patch) } else { Err(ApiError::bad_request("error decoding patch: the patch must be a JSON object")) }
}

#[cfg(test)]
mod difference;
#[cfg(test)]
mod tests;
