//! ConfigMaps.

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Strategy, names};
use crate::field::{FieldError, Path};

/// Bytes that all values of a ConfigMap or Secret may have together.
pub(super) const MAX_SIZE: usize = 1 << 20;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// The rules of ConfigMaps.
pub(super) struct ConfigMaps;

impl Strategy for ConfigMaps {
    type Kind = ConfigMap;

    fn validate(&self, map: &ConfigMap) -> Vec<FieldError> {
        let texts = map.data.iter().flatten().map(|(key, value)| (key, "data", value.len()));
        let binaries = map.binary_data.iter().flatten().map(|(key, value)| (key, "binaryData", value.0.len()));
        let mut errors = Vec::new();
        let mut size = 0;
        for (key, field, length) in texts.chain(binaries) {
            let path = Path::new(field).key(key);
            errors.extend(names::config_key(key).map(|wrong| FieldError::invalid(path, key.as_str(), wrong)));
            size += length;
        }
        for key in map.data.iter().flatten().map(|(key, _)| key) {
            if map.binary_data.as_ref().is_some_and(|data| data.contains_key(key)) {
                errors.push(FieldError::invalid(Path::new("data").key(key), key.as_str(), "duplicate of key present in binaryData"));
            }
        }
        if size > MAX_SIZE {
            // Upstream's path for the object as a whole.
            errors.push(FieldError::too_long(Path::new("[]"), MAX_SIZE));
        }
        errors
    }

    fn validate_update(&self, map: &ConfigMap, old: &ConfigMap) -> Vec<FieldError> {
        let mut errors =
            frozen(map.immutable, old.immutable, &[("data", map.data == old.data), ("binaryData", map.binary_data == old.binary_data)]);
        errors.extend(self.validate(map));
        errors
    }
}

/// What changed although the object is marked as immutable; the second of each field says that it is the same as before.
pub(super) fn frozen(immutable: Option<bool>, before: Option<bool>, fields: &[(&str, bool)]) -> Vec<FieldError> {
    if before != Some(true) {
        return Vec::new();
    }
    let kept = [("immutable", immutable == Some(true))];
    let changed = kept.iter().chain(fields).filter(|(_, same)| !same);
    changed.map(|(field, _)| FieldError::forbidden(Path::new(field), FROZEN)).collect()
}
