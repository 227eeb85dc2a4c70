//! The administrator's kubeconfig: a file of its own, or merged into the user's.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thiserror::Error;

/// The name of the cluster, the user and the context.
pub const CONTEXT: &str = "steadfast";

/// Why the kubeconfig could not be written. The file is as it was before.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    #[error("{path} can't be read or written: {source}; name another file with --kubeconfig")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a kubeconfig: {reason}; mend it or name another file with --kubeconfig")]
    Malformed { path: PathBuf, reason: String },
    #[error("there is no home directory to keep a kubeconfig in: name a file with --kubeconfig")]
    NoHome,
}

/// What a client needs to be the administrator. Certificates and key are PEM texts.
#[derive(Clone, Copy, Debug)]
pub struct Administrator<'a> {
    pub server: &'a str,
    pub authority: &'a str,
    pub certificate: &'a str,
    pub key: &'a str,
}

impl Administrator<'_> {
    /// Writes a kubeconfig of its own, readable by its owner only.
    pub fn write(&self, path: &Path) -> Result<(), KubeconfigError> {
        self.merge_into(json!({}), path)
    }

    /// Adds the context to the user's kubeconfig, or replaces it there; it becomes the current one if there is none.
    pub fn merge(&self) -> Result<PathBuf, KubeconfigError> {
        let path = users_kubeconfig()?;
        let file_error = |source| KubeconfigError::File { path: path.clone(), source };
        let malformed = |reason: String| KubeconfigError::Malformed { path: path.clone(), reason };
        let present = match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => json!({}),
            Ok(text) => serde_saphyr::from_str(&text).map_err(|error| malformed(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
            Err(error) => return Err(file_error(error)),
        };
        self.merge_into(present, &path)?;
        Ok(path)
    }

    fn merge_into(&self, mut config: Value, path: &Path) -> Result<(), KubeconfigError> {
        let malformed = |reason: &str| KubeconfigError::Malformed { path: path.to_owned(), reason: reason.to_owned() };
        let fields = config.as_object_mut().ok_or_else(|| malformed("it is not a mapping"))?;
        fields.entry("apiVersion").or_insert(json!("v1"));
        fields.entry("kind").or_insert(json!("Config"));
        for (list, field, value) in self.entries() {
            let entries = fields.entry(list).or_insert(json!([]));
            if entries.is_null() {
                *entries = json!([]);
            }
            let entries = entries.as_array_mut().ok_or_else(|| malformed("clusters, users and contexts must be lists"))?;
            entries.retain(|entry| entry["name"] != CONTEXT);
            entries.push(json!({"name": CONTEXT, field: value}));
        }
        let current = fields.entry("current-context").or_insert(json!(CONTEXT));
        if current.as_str().unwrap_or_default().is_empty() {
            *current = json!(CONTEXT);
        }
        let text = serde_saphyr::to_string(&config).map_err(|error| malformed(&error.to_string()))?;
        replace(path, &text).map_err(|source| KubeconfigError::File { path: path.to_owned(), source })
    }

    fn entries(&self) -> [(&'static str, &'static str, Value); 3] {
        let encoded = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
        [
            ("clusters", "cluster", json!({"server": self.server, "certificate-authority-data": encoded(self.authority)})),
            ("users", "user", json!({"client-certificate-data": encoded(self.certificate), "client-key-data": encoded(self.key)})),
            ("contexts", "context", json!({"cluster": CONTEXT, "user": CONTEXT})),
        ]
    }
}

/// The first file of KUBECONFIG, or `~/.kube/config`.
fn users_kubeconfig() -> Result<PathBuf, KubeconfigError> {
    let named = std::env::var_os("KUBECONFIG").and_then(|list| std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty()));
    match named {
        Some(path) => Ok(path),
        None => std::env::home_dir().map(|home| home.join(".kube/config")).ok_or(KubeconfigError::NoHome),
    }
}

/// Writes a file that only its owner can read, as a whole or not at all.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMINISTRATOR: Administrator<'_> =
        Administrator { server: "https://127.0.0.1:6443", authority: "CA", certificate: "CERTIFICATE", key: "KEY" };

    fn merged(text: &str) -> Value {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        let present: Value = serde_saphyr::from_str(text).expect("YAML");
        ADMINISTRATOR.merge_into(present, &path).expect("merged");
        serde_saphyr::from_str(&fs::read_to_string(&path).expect("written")).expect("YAML")
    }

    #[test]
    fn what_the_user_has_stays_and_ours_is_replaced() {
        let config = merged(
            "current-context: work\nextra: kept\nclusters:\n- name: work\n  cluster: {server: 'https://work'}\n- name: steadfast\n  cluster: {server: old}\n",
        );
        assert_eq!(config["current-context"], "work");
        assert_eq!(config["extra"], "kept");
        let servers: Vec<_> =
            config["clusters"].as_array().expect("a list").iter().map(|entry| entry["cluster"]["server"].clone()).collect();
        assert_eq!(servers, [json!("https://work"), json!("https://127.0.0.1:6443")]);
    }

    #[test]
    fn a_new_file_has_our_context_as_the_current_one_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/config");
        ADMINISTRATOR.write(&path).expect("written");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let config: Value = serde_saphyr::from_str(&fs::read_to_string(&path).expect("text")).expect("YAML");
        assert_eq!(config["current-context"], CONTEXT);
        assert_eq!(config["users"][0]["user"]["client-key-data"], "S0VZ");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let error = ADMINISTRATOR.merge_into(json!([1]), Path::new("/nonexistent/config")).expect_err("refused");
        assert!(matches!(error, KubeconfigError::Malformed { .. }));
    }
}
