//! The Node objects.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures::{StreamExt, TryStreamExt, stream};
use informer::Api;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use thiserror::Error;

use super::addresses::Addresses;
use super::execute::{RequestError, answered, is_code};
use super::{Member, Options, SIMULATED, SimulatedNodes, lease};

/// Nodes that are registered at the same time.
const CONCURRENCY: usize = 16;
/// More than any test asks for, so that only what a test limits itself is scarce.
const CAPACITY: [(&str, &str); 4] = [("cpu", "1000"), ("memory", "4Ti"), ("pods", "10000"), ("ephemeral-storage", "100Ti")];

/// Why the nodes could not be registered.
#[derive(Debug, Error)]
pub enum RegisterError {
    #[error("{nodes} nodes and their pods need more addresses than {network}/{prefix} has; give a larger network")]
    NetworkTooSmall { nodes: u32, network: Ipv4Addr, prefix: u8 },
    #[error("node {name} exists and is not simulated; choose another name prefix")]
    NotSimulated { name: String },
    #[error("registering node {name}: {source}")]
    Request {
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RegisterError {
    fn request(name: &str, source: RequestError) -> Self {
        Self::Request { name: name.to_owned(), source: Box::new(source) }
    }
}

/// Makes the Node objects and their leases, or brings those of an earlier run up to date. Returns when all are Ready.
pub async fn register(client: &Client, options: &Options) -> Result<SimulatedNodes, RegisterError> {
    let (network, prefix) = options.pod_network;
    let too_small = || RegisterError::NetworkTooSmall { nodes: options.nodes, network, prefix };
    let mut addresses = Addresses::of_network(options.pod_network);
    let hosts = addresses.split_first(options.nodes).ok_or_else(too_small)?;
    let member = |(number, address)| Member { name: format!("{}-{number}", options.name_prefix), address };
    let members: Vec<_> = hosts.into_iter().enumerate().map(member).collect();
    let registrations: Vec<_> = members.iter().cloned().map(|member| register_one(client.clone(), member)).collect();
    stream::iter(registrations).buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await?;
    Ok(SimulatedNodes { members, addresses })
}

async fn register_one(client: Client, member: Member) -> Result<(), RegisterError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let wanted = node(&member, Timestamp::now());
    let failed = |source| RegisterError::request(&member.name, source);
    match answered(nodes.create(&PostParams::default(), &wanted)).await {
        Err(error) if is_code(&error, 409) => reuse(&nodes, &member.name, &wanted).await?,
        other => drop(other.map_err(failed)?),
    }
    lease::renew(&client, &member).await.map_err(failed)
}

async fn reuse(nodes: &Api<Node>, name: &str, wanted: &Node) -> Result<(), RegisterError> {
    let failed = |source| RegisterError::request(name, source);
    let found = answered(nodes.get(name)).await.map_err(failed)?;
    if !found.metadata.annotations.is_some_and(|annotations| annotations.contains_key(SIMULATED)) {
        return Err(RegisterError::NotSimulated { name: name.to_owned() });
    }
    let parameters = PatchParams::default();
    let labels = Patch::Merge(json!({"metadata": {"labels": wanted.metadata.labels}}));
    answered(nodes.patch(name, &parameters, &labels)).await.map_err(failed)?;
    let status = Patch::Merge(json!({"status": wanted.status}));
    answered(nodes.patch_status(name, &parameters, &status)).await.map(drop).map_err(failed)
}

fn node(member: &Member, now: Timestamp) -> Node {
    let capacity: BTreeMap<_, _> = CAPACITY.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into();
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    Node {
        metadata: ObjectMeta {
            name: Some(member.name.clone()),
            labels: Some(labels(&member.name)),
            annotations: Some(BTreeMap::from([(SIMULATED.to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        },
        status: Some(NodeStatus {
            addresses: Some(vec![address("InternalIP", member.address.to_string()), address("Hostname", member.name.clone())]),
            allocatable: Some(capacity.clone()),
            capacity: Some(capacity),
            conditions: Some(conditions(now)),
            node_info: Some(system_info(&member.name)),
            ..NodeStatus::default()
        }),
        ..Node::default()
    }
}

fn labels(name: &str) -> BTreeMap<String, String> {
    let labels = [("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux"), ("kubernetes.io/arch", architecture())];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// As images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn conditions(now: Timestamp) -> Vec<NodeCondition> {
    let states = [("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True")];
    let condition = |(type_, status): (&str, &str)| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some("Simulated".to_owned()),
        message: Some("the node is simulated and runs no containers".to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    states.map(condition).into()
}

fn system_info(name: &str) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        container_runtime_version: format!("simulated://{}", env!("CARGO_PKG_VERSION")),
        kubelet_version: kinds::KUBERNETES_VERSION.to_owned(),
        machine_id: name.to_owned(),
        operating_system: "linux".to_owned(),
        os_image: "simulated".to_owned(),
        system_uuid: name.to_owned(),
        ..NodeSystemInfo::default()
    }
}
