//! The annotation in which `kubectl apply` without a server's help keeps what it applied. When the same person's kubectl applies
//! by the server, what that annotation shows as theirs is no conflict, and the annotation stays up to date.

use serde_json::Value;

use super::compare::Changes;
use super::fields::fields;
use super::outline::Outline;
use super::schema::Schema;
use super::set::Set;

/// The annotation.
pub const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The name under which kubectl applies if nobody gives another: only then the annotation counts.
pub const KUBECTL: &str = "kubectl";

/// The configuration in the annotation of an object, if it is one for this version of the API.
pub fn configuration(annotation: &str, api_version: &str) -> Option<String> {
    let value: Value = serde_json::from_str(annotation).ok()?;
    (value.get("apiVersion")?.as_str()? == api_version).then(|| value.to_string())
}

/// What the last configuration set and nobody changed since.
pub fn untouched<'a>(last: &'a Outline<'a>, live: &'a Outline<'a>, schema: Schema) -> Set<'a> {
    let Ok(fields) = fields(last.root(), schema) else { return Set::default() };
    let changes = Changes::between(last, live, schema);
    fields.difference(&changes.changed).difference(&changes.removed)
}

/// The annotation's text for a configuration.
pub fn text(configuration: &str) -> String {
    let mut configuration: Value = serde_json::from_str(configuration).unwrap_or_default();
    if let Some(annotations) = configuration.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    format!("{configuration}\n")
}
