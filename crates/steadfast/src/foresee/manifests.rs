//! What the user wants to apply: files, folders, standard input, a kustomization.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::process::Command;
use tokio::time::timeout;

use crate::arguments::Plan;

const KUSTOMIZE_PATIENCE: Duration = Duration::from_secs(60);
/// No file may be larger.
const LARGEST_FILE: u64 = 32 << 20;
/// How deep folders may be.
const DEEPEST: usize = 32;

/// Why there is nothing to foresee.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("{path}: {source}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is larger than {} MiB", LARGEST_FILE >> 20)]
    TooLarge { path: String },
    #[error("{path} is no YAML or JSON: {reason}")]
    Syntax { path: String, reason: String },
    #[error("{path}: document {number} has no {field}; every object needs apiVersion, kind and metadata.name")]
    Incomplete { path: String, number: usize, field: &'static str },
    #[error("{0}: addresses are not fetched; use `curl -s {0} | steadfast plan -f -`")]
    Address(String),
    #[error("{0} holds no .yaml, .yml or .json file; with -R, folders within it are looked through as well")]
    NoFiles(PathBuf),
    #[error("{0} is deeper than {DEEPEST} folders")]
    TooDeep(PathBuf),
    #[error("no objects were given; name files with -f, or give manifests on standard input with `-f -`")]
    Empty,
    #[error("kustomizations are read with kubectl, which can't be run: {0}; install it, or use -f with what another kustomize prints")]
    NoKubectl(#[source] std::io::Error),
    #[error("kubectl kustomize {folder}: {reason}")]
    Kustomize { folder: PathBuf, reason: String },
}

/// One object the user wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// As the manifest says.
    pub namespace: Option<String>,
    pub value: Value,
}

/// Reads everything that was named.
pub async fn read(plan: &Plan) -> Result<Vec<Manifest>, ManifestError> {
    let mut manifests = Vec::new();
    if let Some(folder) = &plan.kustomize {
        parse(&folder.display().to_string(), &kustomized(folder).await?, &mut manifests)?;
    }
    for path in &plan.filename {
        for file in files(path, plan.recursive)? {
            parse(&file.display().to_string(), &text(&file)?, &mut manifests)?;
        }
    }
    if manifests.is_empty() { Err(ManifestError::Empty) } else { Ok(manifests) }
}

/// The file itself, or those of a folder in the order of their names.
fn files(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, ManifestError> {
    let shown = path.to_string_lossy();
    if shown.starts_with("http://") || shown.starts_with("https://") {
        return Err(ManifestError::Address(shown.into_owned()));
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    collect(path, recursive, DEEPEST, &mut found)?;
    if found.is_empty() { Err(ManifestError::NoFiles(path.to_owned())) } else { Ok(found) }
}

fn collect(folder: &Path, recursive: bool, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), ManifestError> {
    let failed = |source| ManifestError::Read { path: folder.display().to_string(), source };
    let entries = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match path.is_dir() {
            true if recursive && depth == 0 => return Err(ManifestError::TooDeep(path)),
            true if recursive => collect(&path, recursive, depth - 1, found)?,
            false if matches!(extension, Some("yaml" | "yml" | "json")) => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<String, ManifestError> {
    let shown = path.display().to_string();
    let failed = |source| ManifestError::Read { path: shown.clone(), source };
    let reader: Box<dyn Read> =
        if path == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path).map_err(failed)?) };
    let mut text = String::new();
    reader.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST_FILE { Err(ManifestError::TooLarge { path: shown }) } else { Ok(text) }
}

async fn kustomized(folder: &Path) -> Result<String, ManifestError> {
    let kubectl = std::env::var_os("STEADFAST_KUBECTL").unwrap_or_else(|| "kubectl".into());
    let failed = |reason: String| ManifestError::Kustomize { folder: folder.to_owned(), reason };
    let mut command = Command::new(kubectl);
    command.arg("kustomize").arg(folder).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = timeout(KUSTOMIZE_PATIENCE, command.output()).await;
    let output = output.map_err(|_| failed(format!("no answer within {} s", KUSTOMIZE_PATIENCE.as_secs())))?;
    let output = output.map_err(ManifestError::NoKubectl)?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    String::from_utf8(output.stdout).map_err(|error| failed(error.to_string()))
}

/// The objects of a text; a list counts as its items, an empty document as nothing.
fn parse(path: &str, text: &str, manifests: &mut Vec<Manifest>) -> Result<(), ManifestError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| ManifestError::Syntax { path: path.to_owned(), reason: error.to_string() })?;
    for (index, document) in documents.into_iter().enumerate().filter(|(_, document)| !document.is_null()) {
        let number = index + 1;
        let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        match document.get("items") {
            Some(Value::Array(items)) if is_list => {
                let items = items.iter().map(|item| manifest(path, number, item.clone()));
                manifests.extend(items.collect::<Result<Vec<_>, _>>()?);
            }
            _ => manifests.push(manifest(path, number, document)?),
        }
    }
    Ok(())
}

fn manifest(path: &str, number: usize, value: Value) -> Result<Manifest, ManifestError> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let needed = |value: &Value, field: &'static str| text(value).ok_or(ManifestError::Incomplete { path: path.to_owned(), number, field });
    Ok(Manifest {
        api_version: needed(&value["apiVersion"], "apiVersion")?,
        kind: needed(&value["kind"], "kind")?,
        name: needed(&value["metadata"]["name"], "metadata.name")?,
        namespace: text(&value["metadata"]["namespace"]),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>, ManifestError> {
        let mut manifests = Vec::new();
        parse("test", text, &mut manifests)?;
        Ok(manifests.iter().map(|manifest| format!("{} {}", manifest.kind, manifest.name)).collect())
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n\
            - {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n- {apiVersion: v1, kind: Secret, metadata: {name: c}}\n";
        assert_eq!(parsed(text).unwrap(), ["Service a", "ConfigMap b", "Secret c"]);
        assert_eq!(parsed(r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}"#).unwrap(), ["Service a"]);
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        let error = |text: &str| parsed(text).unwrap_err().to_string();
        assert!(error("kind: Service\nmetadata: {name: a}").contains("document 1 has no apiVersion"));
        assert!(error("apiVersion: v1\nkind: Service\nmetadata: {generateName: a-}").contains("no metadata.name"));
        assert!(error("a: [").starts_with("test is no YAML"));
        assert!(error("just text").contains("no apiVersion"));
    }

    #[test]
    fn folders_are_read_in_order_and_addresses_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deeper")).unwrap();
        for name in ["b.yaml", "a.json", "c.txt", "deeper/d.yml"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |recursive| -> Vec<_> {
            let found = files(folder.path(), recursive).unwrap();
            found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(false), ["a.json", "b.yaml"]);
        assert_eq!(names(true), ["a.json", "b.yaml", "d.yml"]);
        assert!(matches!(files(Path::new("https://x/y.yaml"), false), Err(ManifestError::Address(_))));
    }
}
