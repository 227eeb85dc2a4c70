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
    pub fn merge(&self, path: &Path) -> Result<(), KubeconfigError> {
        self.merge_into(read(path)?.unwrap_or_else(|| json!({})), path)
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
        write(path, &config)
    }

    fn entries(&self) -> [(&'static str, &'static str, Value); 3] {
        [
            ("clusters", "cluster", json!({"server": self.server, "certificate-authority-data": encoded(self.authority)})),
            ("users", "user", json!({"client-certificate-data": encoded(self.certificate), "client-key-data": encoded(self.key)})),
            ("contexts", "context", json!({"cluster": CONTEXT, "user": CONTEXT})),
        ]
    }
}

/// Takes the context out of a kubeconfig, if it leads to the cluster of this authority: another instance may have taken its place.
/// A file that holds nothing else goes.
pub fn forget(path: &Path, authority: &str) -> Result<(), KubeconfigError> {
    let Some(mut config) = read(path)? else { return Ok(()) };
    let is_ours = |entry: &Value| {
        entry["name"] == CONTEXT && entry["cluster"]["certificate-authority-data"].as_str() == Some(encoded(authority).as_str())
    };
    if !config["clusters"].as_array().is_some_and(|clusters| clusters.iter().any(is_ours)) {
        return Ok(());
    }
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = config.get_mut(list).and_then(Value::as_array_mut) {
            entries.retain(|entry| entry["name"] != CONTEXT);
        }
    }
    if config["current-context"] == CONTEXT {
        config["current-context"] = json!("");
    }
    if holds_nothing(&config) {
        return fs::remove_file(path).map_err(|source| KubeconfigError::File { path: path.to_owned(), source });
    }
    write(path, &config)
}

fn holds_nothing(config: &Value) -> bool {
    config.as_object().is_some_and(|fields| {
        fields.iter().all(|(field, value)| match value {
            Value::Array(entries) => entries.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            Value::String(text) => text.is_empty() || ["apiVersion", "kind"].contains(&field.as_str()),
            Value::Null => true,
            Value::Bool(_) | Value::Number(_) => false,
        })
    })
}

fn encoded(text: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)
}

/// The content of a kubeconfig, if there is one.
fn read(path: &Path) -> Result<Option<Value>, KubeconfigError> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => match serde_saphyr::from_str(&text) {
            Ok(config) => Ok(Some(config)),
            Err(error) => Err(KubeconfigError::Malformed { path: path.to_owned(), reason: error.to_string() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KubeconfigError::File { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, config: &Value) -> Result<(), KubeconfigError> {
    let malformed = |reason: String| KubeconfigError::Malformed { path: path.to_owned(), reason };
    let text = serde_saphyr::to_string(config).map_err(|error| malformed(error.to_string()))?;
    replace(path, &text).map_err(|source| KubeconfigError::File { path: path.to_owned(), source })
}

/// The first file of KUBECONFIG, or `~/.kube/config`.
pub fn of_user() -> Result<PathBuf, KubeconfigError> {
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

    fn forgotten(text: &str, authority: &str) -> Option<Value> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        fs::write(&path, text).expect("written");
        forget(&path, authority).expect("forgotten");
        read(&path).expect("a kubeconfig or none")
    }

    #[test]
    fn our_context_is_forgotten_and_what_the_user_has_stays() {
        let work = "current-context: work\nclusters:\n- name: work\n  cluster: {server: 'https://work'}\n";
        let config = merged(work);
        let left = forgotten(&config.to_string(), "CA").expect("the user's own stays");
        assert_eq!(left["current-context"], "work");
        assert_eq!(left["clusters"], json!([{"name": "work", "cluster": {"server": "https://work"}}]));
        assert_eq!([&left["users"], &left["contexts"]], [&json!([]), &json!([])]);
        // The context of another instance is none of ours.
        assert_eq!(forgotten(&config.to_string(), "OTHER"), Some(config));
        assert_eq!(forgotten(&merged("{}").to_string(), "CA"), None);
        assert_eq!(forgotten(work, "CA").expect("as it was")["current-context"], "work");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let error = ADMINISTRATOR.merge_into(json!([1]), Path::new("/nonexistent/config")).expect_err("refused");
        assert!(matches!(error, KubeconfigError::Malformed { .. }));
    }
}
