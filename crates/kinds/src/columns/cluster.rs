//! Nodes, namespaces, configuration and leases.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, NodeStatus, Secret};
use serde_json::Value;

use super::{AGE, Column, NAME, Printer, age, name, or, or_none, typed};

pub(crate) const NODE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status", "Whether the node is ready, and whether it takes new pods."),
        Column::text("Roles", "The roles the node's labels give it."),
        AGE,
        Column::text("Version", "The version of the node's agent."),
        Column::wide("Internal-IP", "The address inside the cluster."),
        Column::wide("External-IP", "The address outside the cluster."),
        Column::wide("OS-Image", "The operating system."),
        Column::wide("Kernel-Version", "The kernel."),
        Column::wide("Container-Runtime", "What runs the containers."),
    ],
    cells: |object, now| {
        let node: &Node = typed(object);
        let status = node.status.clone().unwrap_or_default();
        let info = status.node_info.as_ref();
        let or_unknown = |text: Option<&str>| Value::from(or(text, "<unknown>"));
        vec![
            name(&node.metadata),
            Value::from(readiness(node, &status)),
            Value::from(roles(node)),
            age(&node.metadata, now),
            Value::from(info.map_or("", |info| &info.kubelet_version)),
            address(&status, "InternalIP"),
            address(&status, "ExternalIP"),
            or_unknown(info.map(|info| info.os_image.as_str())),
            or_unknown(info.map(|info| info.kernel_version.as_str())),
            or_unknown(info.map(|info| info.container_runtime_version.as_str())),
        ]
    },
};

fn readiness(node: &Node, status: &NodeStatus) -> String {
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let word = match ready.map(|condition| condition.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    if closed { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let roles = labels.filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role),
        None if key == "kubernetes.io/role" => Some(value.as_str()),
        None => None,
    });
    let mut roles: Vec<_> = roles.filter(|role| !role.is_empty()).collect();
    roles.sort_unstable();
    roles.dedup();
    or_none(Some(&roles.join(","))).to_owned()
}

fn address(status: &NodeStatus, wanted: &str) -> Value {
    let found = status.addresses.iter().flatten().find(|address| address.type_ == wanted);
    Value::from(or_none(found.map(|address| address.address.as_str())))
}

pub(crate) const NAMESPACE: Printer = Printer {
    columns: &[NAME, Column::text("Status", "Active, or Terminating while its objects go."), AGE],
    cells: |object, now| {
        let namespace: &Namespace = typed(object);
        let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        vec![name(&namespace.metadata), Value::from(phase), age(&namespace.metadata, now)]
    },
};

pub(crate) const CONFIG_MAP: Printer = Printer {
    columns: &[NAME, Column::text("Data", "How many keys it has."), AGE],
    cells: |object, now| {
        let map: &ConfigMap = typed(object);
        let keys = map.data.as_ref().map_or(0, |data| data.len()) + map.binary_data.as_ref().map_or(0, |data| data.len());
        vec![name(&map.metadata), Value::from(keys), age(&map.metadata, now)]
    },
};

pub(crate) const SECRET: Printer = Printer {
    columns: &[NAME, Column::text("Type", "What the secret is for."), Column::text("Data", "How many keys it has."), AGE],
    cells: |object, now| {
        let secret: &Secret = typed(object);
        vec![
            name(&secret.metadata),
            Value::from(secret.type_.as_deref().unwrap_or_default()),
            Value::from(secret.data.as_ref().map_or(0, |data| data.len())),
            age(&secret.metadata, now),
        ]
    },
};

pub(crate) const LEASE: Printer = Printer {
    columns: &[NAME, Column::text("Holder", "Who holds the lease."), AGE],
    cells: |object, now| {
        let lease: &Lease = typed(object);
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        vec![name(&lease.metadata), Value::from(holder), age(&lease.metadata, now)]
    },
};
