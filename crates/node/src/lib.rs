//! The node agent: brings the pods that are bound to this node to life, watches over them, reports, and cleans up.
//!
//! ```text
//! pods view ─► Agent (one dispatcher) ─► Worker (one task per pod) ─► plan::pod ─► operations: runtime, network, volumes, images
//!                                             ▲        │
//!                        runtime events ──────┘        └─► status, events ─► API
//! ```
//!
//! # Guarantees
//! * There is one start path, recovery: what runs is found and kept, what ended meanwhile is reported.
//! * A worker never waits for an operation; it sleeps until something happens. An idle pod costs nothing.
//! * A pod that is not in the API is ended only after the list of pods was seen in full.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use image::Images;
use k8s_openapi::api::core::v1::{Container, Node, ObjectReference, Pod};
use kinds::Quantity;
use network::PodNetwork;
use runtime::Runtime;
use tokio::sync::watch;

mod agent;
mod container;
mod credentials;
mod descriptor;
mod error;
mod operations;
mod paths;
mod probe;
mod provision;
mod registration;
mod rotation;
mod server;
pub mod simulated;
mod sources;
mod sticky;
mod tokens;
mod volumes;
mod worker;

pub use agent::{Agent, Connector, StartError};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use server::fuzz;
pub use sources::Views;

/// What a node is called and where it keeps its things.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// What outlives a reboot: pods' volumes and logs, local volumes.
    pub data_dir: PathBuf,
    /// What does not: secrets, in memory.
    pub run_dir: PathBuf,
    /// The node's addresses, the first is its main one.
    pub addresses: Vec<String>,
    /// Where pods ask for names; empty for the node's own servers.
    pub cluster_dns: Vec<String>,
    /// For example `cluster.local`.
    pub cluster_domain: String,
    /// Labels of the Node object beyond the usual ones.
    pub labels: BTreeMap<String, String>,
    pub pod_cidr: Option<String>,
}

/// What the agent works with.
pub struct Parts {
    pub client: kube::Client,
    pub views: Views,
    pub runtime: runtime::Opened,
    pub network: PodNetwork,
    pub images: Images,
}

/// The containers that run: the pod's uid, and the runtime's identity of the attempt.
pub(crate) type Running = BTreeSet<(String, String)>;

/// What all workers share.
pub(crate) struct Shared {
    pub paths: paths::Paths,
    pub sources: sources::Sources,
    pub runtime: Runtime,
    pub network: PodNetwork,
    pub images: Images,
    pub events: events::Recorder,
    pub tokens: tokens::Tokens,
    /// Written by the workers, each its own pod's; read by who follows logs or runs commands.
    pub running: watch::Sender<Running>,
    pub node: Node,
    pub addresses: Vec<String>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    /// The node's `/etc/resolv.conf`, as it was when the agent started.
    pub resolver_file: String,
}

impl Shared {
    /// The runtime's identity of a container's running attempt.
    pub fn running_attempt(&self, uid: &str, container: &str) -> Option<String> {
        let is_it = |id: &&(String, String)| {
            let parsed = container::specification::parse_container_id(&id.1);
            id.0 == uid && parsed.is_some_and(|(name, _)| name == container)
        };
        self.running.borrow().iter().find(is_it).map(|(_, id)| id.clone())
    }

    /// For telling people about a pod.
    pub fn log<'a>(&'a self, pod: &'a Pod) -> PodLog<'a> {
        PodLog { events: &self.events, pod }
    }

    /// The pod's own files of `/etc`.
    pub fn etc_files(&self, pod: &Pod, addresses: &[String]) -> operations::EtcFiles {
        use container::files;
        let resolver =
            files::Resolver { cluster_servers: &self.cluster_dns, cluster_domain: &self.cluster_domain, host_file: &self.resolver_file };
        BTreeMap::from([
            ("hosts", files::hosts(pod, addresses, &self.cluster_domain)),
            ("hostname", format!("{}\n", files::hostname(pod))),
            ("resolv.conf", files::resolv_conf(pod, &resolver)),
        ])
    }
}

/// Tells people about one pod.
pub(crate) struct PodLog<'a> {
    events: &'a events::Recorder,
    pod: &'a Pod,
}

impl PodLog<'_> {
    /// Records an event about the pod, or about one of its containers.
    pub fn event(&self, container: Option<&Container>, severity: events::Severity, reason: &'static str, message: String) {
        let meta = &self.pod.metadata;
        let field_path = container.map(|container| format!("spec.{}{{{}}}", self.list_of(&container.name), container.name));
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path,
        };
        self.events.record_about(&regarding, severity, reason, message);
    }
}

impl PodLog<'_> {
    /// The field that a container is listed in.
    fn list_of(&self, container: &str) -> &'static str {
        let Some(spec) = &self.pod.spec else { return "containers" };
        if spec.init_containers.iter().flatten().any(|init| init.name == container) {
            "initContainers"
        } else if spec.ephemeral_containers.iter().flatten().any(|added| added.name == container) {
            "ephemeralContainers"
        } else {
            "containers"
        }
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Task(tokio::task::AbortHandle);

impl Task {
    pub fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
