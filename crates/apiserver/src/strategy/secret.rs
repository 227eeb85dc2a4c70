//! Secrets.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::config_map::{MAX_SIZE, frozen};
use super::{Strategy, check, names};
use crate::field::{FieldError, Path};

/// The rules of Secrets.
pub(super) struct Secrets;

impl Strategy for Secrets {
    type Kind = Secret;

    fn default(&self, secret: &mut Secret) {
        check::fill(&mut secret.type_, "Opaque");
        for (key, text) in secret.string_data.take().into_iter().flatten() {
            secret.data.get_or_insert_default().insert(key, ByteString(text.into_bytes()));
        }
    }

    fn validate(&self, secret: &Secret) -> Vec<FieldError> {
        let path = Path::new("data");
        let mut errors = Vec::new();
        for key in secret.data.iter().flatten().map(|(key, _)| key) {
            errors.extend(names::config_key(key).map(|wrong| FieldError::invalid(path.key(key), key.as_str(), wrong)));
        }
        if secret.data.iter().flatten().map(|(_, value)| value.0.len()).sum::<usize>() > MAX_SIZE {
            errors.push(FieldError::too_long(path.clone(), MAX_SIZE));
        }
        errors.extend(of_type(secret, &path));
        errors
    }

    fn validate_update(&self, secret: &Secret, old: &Secret) -> Vec<FieldError> {
        let mut errors: Vec<_> = check::immutable(Path::new("type"), &secret.type_, &old.type_).into_iter().collect();
        errors.extend(frozen(secret.immutable, old.immutable, &[("data", secret.data == old.data)]));
        errors.extend(self.validate(secret));
        errors
    }
}

/// What a secret of some type must hold.
fn of_type(secret: &Secret, path: &Path) -> Vec<FieldError> {
    let missing = |keys: &[&str]| -> Vec<FieldError> {
        let has = |key: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
        keys.iter().filter(|key| !has(key)).map(|key| FieldError::required(path.key(key), "")).collect()
    };
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/tls" => missing(&["tls.crt", "tls.key"]),
        "kubernetes.io/ssh-auth" => missing(&["ssh-privatekey"]),
        "kubernetes.io/dockercfg" => json(secret, ".dockercfg", path),
        "kubernetes.io/dockerconfigjson" => json(secret, ".dockerconfigjson", path),
        "kubernetes.io/basic-auth" => {
            let both = missing(&["username", "password"]);
            if both.len() == 2 { both } else { Vec::new() }
        }
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let named = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
            let path = Path::new("metadata").child("annotations").key(key);
            check::some(named).is_none().then(|| FieldError::required(path, "")).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn json(secret: &Secret, key: &str, path: &Path) -> Vec<FieldError> {
    let path = path.key(key);
    let Some(content) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return vec![FieldError::required(path, "")];
    };
    match serde_json::from_slice::<serde_json::Value>(&content.0) {
        Ok(_) => Vec::new(),
        Err(error) => vec![FieldError::invalid(path, "<secret contents redacted>", error.to_string())],
    }
}
