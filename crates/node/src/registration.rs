//! The Node object and its lease.

use std::collections::BTreeMap;
use std::time::Duration;

use informer::Api;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::Config;

/// How often the node says that it lives.
const RENEWAL: Duration = Duration::from_secs(10);
/// For how long that holds.
const LEASE_SECONDS: i32 = 40;
/// Every so many renewals the status is written even if nothing changed.
const STATUS_EVERY: u32 = 30;
const NAMESPACE: &str = "kube-node-lease";
const MAX_PODS: u32 = 250;

/// This machine as a Node object.
pub(crate) fn node(config: &Config) -> Node {
    let memory = read_kib("/proc/meminfo", "MemTotal:").unwrap_or(0) * 1024;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let storage = nix::sys::statvfs::statvfs(&config.data_dir).map_or(0, |stat| stat.blocks() * stat.fragment_size());
    let capacity: BTreeMap<_, _> = [
        ("cpu", cores.to_string()),
        ("memory", format!("{}Ki", memory / 1024)),
        ("ephemeral-storage", format!("{}Ki", storage / 1024)),
        ("pods", MAX_PODS.to_string()),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .into();
    let ips = config.addresses.iter().map(|address| NodeAddress { type_: "InternalIP".to_owned(), address: address.clone() });
    let host = NodeAddress { type_: "Hostname".to_owned(), address: config.node_name.clone() };
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(&config.node_name, &config.labels)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: config.pod_cidr.clone(),
            pod_cidrs: config.pod_cidr.clone().map(|cidr| vec![cidr]),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus {
            capacity: Some(capacity.clone()),
            allocatable: Some(capacity),
            addresses: Some(ips.chain([host]).collect()),
            node_info: Some(system_info()),
            ..NodeStatus::default()
        }),
    }
}

/// The labels every node has, and its own.
pub(crate) fn labels(name: &str, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let usual = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    let mut labels: BTreeMap<_, _> = usual.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    labels.extend(own.clone());
    labels
}

/// As images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn system_info() -> NodeSystemInfo {
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os_image = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"').to_owned();
    let machine_id = line("/etc/machine-id");
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("steadfast://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: line("/proc/sys/kernel/osrelease"),
        kubelet_version: kinds::KUBERNETES_VERSION.to_owned(),
        kube_proxy_version: String::new(),
        system_uuid: machine_id.clone(),
        machine_id,
        operating_system: "linux".to_owned(),
        os_image,
        swap: None,
    }
}

fn read_kib(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// What the node says of itself. `since` is when it became so.
fn conditions(pressure: Pressure, since: Timestamp, now: Timestamp) -> Vec<NodeCondition> {
    let condition = |name: &str, holds: bool, reason: &str, message: &str| NodeCondition {
        type_: name.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(since)),
    };
    let Pressure { memory, disk } = pressure;
    let of = |holds: bool, yes: &'static str, no: &'static str| if holds { yes } else { no };
    vec![
        condition(
            "MemoryPressure",
            memory,
            of(memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
            "less than 100 MiB of memory is a shortage",
        ),
        condition(
            "DiskPressure",
            disk,
            of(disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
            "less than 5 % of free disk space is a shortage",
        ),
        condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
    ]
}

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pressure {
    memory: bool,
    disk: bool,
}

impl Pressure {
    fn look() -> Self {
        let memory = read_kib("/proc/meminfo", "MemAvailable:").is_some_and(|kib| kib < 100 * 1024);
        let disk = nix::sys::statvfs::statvfs("/").is_ok_and(|stat| stat.blocks_available() * 20 < stat.blocks());
        Self { memory, disk }
    }
}

/// Makes the Node object, or brings an older one up to date.
pub(crate) async fn register(client: &Client, node: &Node) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let name = node.metadata.name.clone().unwrap_or_default();
    match nodes.create(&PostParams::default(), node).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = json!({ "metadata": { "labels": node.metadata.labels, "annotations": node.metadata.annotations } });
            nodes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)?;
        }
        other => drop(other?),
    }
    let now = Timestamp::now();
    write_status(&nodes, node, Pressure::look(), now, now).await
}

async fn write_status(nodes: &Api<Node>, node: &Node, pressure: Pressure, since: Timestamp, now: Timestamp) -> Result<(), kube::Error> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let mut status = node.status.clone().unwrap_or_default();
    status.conditions = Some(conditions(pressure, since, now));
    nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.map(drop)
}

/// Renews the lease, and the status when it changed, for ever.
pub(crate) async fn keep_alive(client: Client, node: Node) {
    let nodes: Api<Node> = Api::all(client.clone());
    let name = node.metadata.name.clone().unwrap_or_default();
    let mut owner = None;
    let (mut told, mut since) = (Pressure::look(), Timestamp::now());
    for round in 0_u32.. {
        if owner.is_none() {
            owner = nodes.get_opt(&name).await.ok().flatten().and_then(|node| node.metadata.uid);
        }
        if let Err(error) = renew(&client, &name, owner.clone()).await {
            tracing::warn!(%error, "the node's lease was not renewed");
        }
        let (pressure, now) = (Pressure::look(), Timestamp::now());
        if pressure != told || round % STATUS_EVERY == STATUS_EVERY - 1 {
            since = if pressure == told { since } else { now };
            match write_status(&nodes, &node, pressure, since, now).await {
                Ok(()) => told = pressure,
                // Someone deleted it: a node that lives has an object.
                Err(kube::Error::Api(status)) if status.code == 404 => drop(register(&client, &node).await),
                Err(error) => tracing::warn!(%error, "the node's status was not written"),
            }
        }
        tokio::time::sleep(RENEWAL).await;
    }
}

/// Says that the node lives.
pub(crate) async fn renew(client: &Client, name: &str, owner: Option<String>) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let patch = json!({ "spec": { "renewTime": now, "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS } });
    match leases.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => return other.map(drop),
    }
    let owner = owner.map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid,
        ..OwnerReference::default()
    });
    let lease = Lease {
        metadata: ObjectMeta { name: Some(name.to_owned()), owner_references: owner.map(|owner| vec![owner]), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    leases.create(&PostParams::default(), &lease).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            node_name: "n".to_owned(),
            data_dir: directory.path().to_owned(),
            run_dir: directory.path().to_owned(),
            addresses: vec!["192.0.2.1".to_owned()],
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            pod_cidr: None,
        };
        let node = node(&config);
        let capacity = node.status.unwrap().capacity.unwrap();
        for name in ["cpu", "memory", "ephemeral-storage", "pods"] {
            assert!(capacity[name].0.parse::<kinds::Quantity>().unwrap().value() > 0, "{name}");
        }
        let labels = node.metadata.labels.unwrap();
        assert_eq!((labels["kubernetes.io/hostname"].as_str(), labels["disk"].as_str()), ("n", "ssd"));
    }
}
