//! Where objects are in the store: `/pods/default/web-0`, `/nodes/node-1`.

use kinds::{ObjectKey, Resource};

/// The key of one object.
pub fn object(resource: &Resource, namespace: &str, name: &str) -> String {
    format!("{}{name}", collection(resource, namespace))
}

/// The prefix of a namespace's objects, or of all when the namespace is empty or the resource has none.
pub fn collection(resource: &Resource, namespace: &str) -> String {
    if namespace.is_empty() || !resource.is_namespaced() {
        format!("/{}/", resource.storage)
    } else {
        format!("/{}/{namespace}/", resource.storage)
    }
}

/// Namespace and name of a key.
pub fn parse(resource: &Resource, key: &str) -> ObjectKey {
    let rest = key.get(resource.storage.len() + 2..).unwrap_or_default();
    match rest.split_once('/') {
        Some((namespace, name)) => ObjectKey::new(namespace, name),
        None => ObjectKey::cluster(rest),
    }
}

#[cfg(test)]
mod tests {
    use kinds::registry;

    use super::*;

    #[test]
    fn keys_read_back_as_what_they_were_made_of() {
        let pods = registry::find("", "v1", "pods").unwrap();
        let nodes = registry::find("", "v1", "nodes").unwrap();
        assert_eq!(object(pods, "default", "web-0"), "/pods/default/web-0");
        assert_eq!(object(nodes, "", "n1"), "/nodes/n1");
        assert_eq!(parse(pods, "/pods/default/web-0"), ObjectKey::new("default", "web-0"));
        assert_eq!(parse(nodes, "/nodes/n1"), ObjectKey::cluster("n1"));
        assert_eq!(collection(pods, ""), "/pods/");
    }
}
