//! Where objects are in the store: `<storage>/<namespace>/<name>`, or `<storage>/<name>` for those without a namespace.

use kinds::Resource;

/// The key of one object. The namespace of a cluster-scoped object is not looked at.
pub fn of(resource: &Resource, namespace: &str, name: &str) -> String {
    format!("{}{name}", prefix(resource, namespace))
}

/// What the keys of a namespace's objects begin with; of all namespaces' when the namespace is empty.
pub fn prefix(resource: &Resource, namespace: &str) -> String {
    let storage = resource.storage;
    if resource.is_namespaced() && !namespace.is_empty() { format!("{storage}/{namespace}/") } else { format!("{storage}/") }
}
