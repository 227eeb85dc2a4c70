//! YAML bodies become JSON text first; how far aliases and nesting may go is bounded.

use serde_json::Value;

use crate::error::ApiError;

/// The same document as JSON.
pub fn to_json(yaml: &[u8]) -> Result<Vec<u8>, ApiError> {
    let value: Value = serde_saphyr::from_slice(yaml).map_err(|error| ApiError::bad_request(format!("error converting YAML to JSON: yaml: {error}")))?;
    Ok(value.to_string().into_bytes())
}
