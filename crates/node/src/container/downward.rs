//! What a container can learn of its own pod: fields and resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceFieldSelector};
use kinds::Quantity;

use super::SpecificationError;
use super::amounts::quantity;

/// What a pod is told of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub pod: &'a Pod,
    pub addresses: &'a [String],
    pub host_addresses: &'a [String],
    /// What the node can give; the limit of who has none.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// The value of a `fieldRef`.
pub(crate) fn field(facts: &Facts<'_>, path: &str) -> Result<String, SpecificationError> {
    let meta = &facts.pod.metadata;
    let spec = facts.pod.spec.as_ref();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let entries = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(SpecificationError::FieldPath(path.to_owned())),
        };
        return Ok(entries.as_ref().and_then(|entries| entries.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => quoted_lines(meta.labels.as_ref()),
        "metadata.annotations" => quoted_lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" => facts.addresses.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.addresses.join(","),
        "status.hostIP" => facts.host_addresses.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_addresses.join(","),
        _ => return Err(SpecificationError::FieldPath(path.to_owned())),
    })
}

/// `key="value"`, one a line.
fn quoted_lines(entries: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = entries.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`, in units of its divisor, rounded up.
pub(crate) fn resource(facts: &Facts<'_>, selector: &ResourceFieldSelector, container: &str) -> Result<String, SpecificationError> {
    let unknown = || SpecificationError::ResourceName(selector.resource.clone());
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let is_limit = match kind {
        "limits" => true,
        "requests" => false,
        _ => return Err(unknown()),
    };
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(unknown());
    }
    let container = selector.container_name.as_deref().unwrap_or(container);
    let own = facts.pod.spec.as_ref().and_then(|spec| of_container(spec, container, name, is_limit));
    let fallback = || if is_limit { facts.allocatable.get(name).copied() } else { None };
    let amount = own.or_else(fallback).unwrap_or_default();
    let divisor = selector.divisor.as_ref().and_then(|divisor| divisor.0.parse::<Quantity>().ok()).filter(|divisor| divisor.signum() > 0);
    Ok(divided(name, amount, divisor).to_string())
}

fn of_container(spec: &PodSpec, container: &str, name: &str, is_limit: bool) -> Option<Quantity> {
    let (_, container) = plan::pod::roles(spec).find(|(_, candidate)| candidate.name == container)?;
    quantity(container.resources.as_ref()?, name, is_limit).filter(|amount| amount.signum() > 0)
}

fn divided(name: &str, amount: Quantity, divisor: Option<Quantity>) -> i64 {
    let (amount, divisor) = match name {
        "cpu" => (amount.milli_value(), divisor.map_or(1000, Quantity::milli_value)),
        _ => (amount.value(), divisor.map_or(1, Quantity::value)),
    };
    let divisor = divisor.max(1);
    amount.div_euclid(divisor) + i64::from(amount.rem_euclid(divisor) != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "web-0", "namespace": "shop", "uid": "u", "labels": { "app": "web", "tier": "a\"b" } },
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "resources": { "limits": { "cpu": "1500m" }, "requests": { "memory": "1Mi" } } }] },
        }))
        .unwrap()
    }

    fn with_facts<T>(look: impl FnOnce(&Facts<'_>) -> T) -> T {
        let (pod, allocatable) = (pod(), BTreeMap::from([("memory".to_owned(), "1Gi".parse().unwrap())]));
        look(&Facts {
            pod: &pod,
            addresses: &["10.77.0.5".to_owned()],
            host_addresses: &["192.0.2.1".to_owned()],
            allocatable: &allocatable,
        })
    }

    #[test]
    fn fields_are_told_by_their_path() {
        with_facts(|facts| {
            for (path, value) in [
                ("metadata.name", "web-0"),
                ("metadata.labels['app']", "web"),
                ("metadata.annotations['none']", ""),
                ("metadata.labels", "app=\"web\"\ntier=\"a\\\"b\""),
                ("status.podIP", "10.77.0.5"),
                ("status.hostIP", "192.0.2.1"),
                ("spec.nodeName", "n"),
            ] {
                assert_eq!(field(facts, path).unwrap(), value, "{path}");
            }
            assert!(field(facts, "status.phase").is_err());
        });
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let tell = |resource_name: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                resource: resource_name.to_owned(),
                divisor: divisor.map(|divisor| k8s_openapi::apimachinery::pkg::api::resource::Quantity(divisor.to_owned())),
                container_name: None,
            };
            with_facts(|facts| resource(facts, &selector, "c").ok())
        };
        assert_eq!(tell("limits.cpu", None).as_deref(), Some("2"));
        assert_eq!(tell("limits.cpu", Some("1m")).as_deref(), Some("1500"));
        assert_eq!(tell("requests.memory", Some("1Ki")).as_deref(), Some("1024"));
        assert_eq!(tell("limits.memory", Some("1Mi")).as_deref(), Some("1024"), "the node's, for want of an own limit");
        assert_eq!(tell("limits.gpu", None), None);
    }
}
