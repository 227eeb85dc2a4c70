//! Nodes that make their pods Running and Ready without containers, for tests of controllers and operators.
//!
//! One task serves all of them, with a bounded number of requests under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use informer::Informer;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kinds::ObjectKey;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use plan::pod::{Attempt, AttemptState, Container, Ended, Hook, Observed, Role, Sandbox, roles};
use tokio::task::JoinSet;

use crate::Task;
use crate::registration;
use crate::worker::report;

/// The annotation of a node without containers.
pub const ANNOTATION: &str = "steadfast.dev/simulated";
/// Requests under way at most.
const CONCURRENCY: usize = 64;
/// After a request that failed.
const RETRY: Duration = Duration::from_millis(500);
/// How often all leases are renewed.
const RENEWAL: Duration = Duration::from_secs(15);
/// Where pods' addresses begin: shared address space, which no network routes.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([100, 64, 0, 1]);
const ADDRESSES: u32 = 1 << 22;

/// The simulated nodes of an instance. Dropping it ends the simulation.
pub struct SimulatedNodes {
    _tasks: [Task; 2],
}

impl std::fmt::Debug for SimulatedNodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedNodes").finish_non_exhaustive()
    }
}

/// Registers nodes `<prefix>0`, `<prefix>1` ... and serves their pods.
pub async fn start(client: Client, pods: Informer<Pod>, prefix: &str, count: u32) -> Result<SimulatedNodes, kube::Error> {
    let names: Vec<String> = (0..count).map(|number| format!("{prefix}{number}")).collect();
    for name in &names {
        registration::register(&client, &node(name)).await?;
    }
    let nodes = names.iter().cloned().collect();
    let simulation = Simulation { shared: Arc::new(Shared { client: client.clone(), pods, nodes, next_address: AtomicU32::new(0) }) };
    Ok(SimulatedNodes { _tasks: [Task::start(simulation.run()), Task::start(keep_alive(client, names))] })
}

async fn keep_alive(client: Client, names: Vec<String>) {
    loop {
        for name in &names {
            if let Err(error) = registration::renew(&client, name, None).await {
                tracing::debug!(node = name, %error, "the lease of a simulated node was not renewed");
            }
        }
        tokio::time::sleep(RENEWAL).await;
    }
}

fn node(name: &str) -> Node {
    let now = Time(Timestamp::now());
    let capacity = [("cpu", "64"), ("memory", "256Gi"), ("pods", "1000"), ("ephemeral-storage", "1Ti")];
    let capacity: BTreeMap<_, _> = capacity.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into();
    let ready = NodeCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        reason: Some("Simulated".to_owned()),
        message: Some("this node runs no containers".to_owned()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now),
    };
    Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(registration::labels(name, &BTreeMap::new())),
            annotations: Some(BTreeMap::from([(ANNOTATION.to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            allocatable: Some(capacity.clone()),
            capacity: Some(capacity),
            addresses: Some(vec![NodeAddress { type_: "Hostname".to_owned(), address: name.to_owned() }]),
            conditions: Some(vec![ready]),
            ..NodeStatus::default()
        }),
    }
}

struct Shared {
    client: Client,
    pods: Informer<Pod>,
    nodes: BTreeSet<String>,
    next_address: AtomicU32,
}

struct Simulation {
    shared: Arc<Shared>,
}

impl Simulation {
    /// Serves changes in their order; of one pod there is one request at a time.
    async fn run(self) {
        let mut changes = self.shared.pods.subscribe();
        let mut queue = Queue::default();
        let mut requests = JoinSet::new();
        loop {
            while requests.len() < CONCURRENCY {
                let Some(key) = queue.take() else { break };
                let shared = self.shared.clone();
                requests.spawn(async move {
                    let well = shared.serve(&key).await;
                    (key, well)
                });
            }
            tokio::select! {
                changes = changes.changes() => {
                    let mine = changes.into_iter().filter(|change| change.new.as_ref().is_some_and(|pod| self.shared.is_mine(pod)));
                    mine.for_each(|change| queue.put(change.key));
                }
                Some(Ok((key, well))) = requests.join_next() => queue.finished(key, well),
            }
        }
    }
}

/// Pods that wait, each once, and those that are being served.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<ObjectKey>,
    waiting: BTreeSet<ObjectKey>,
    busy: BTreeSet<ObjectKey>,
}

impl Queue {
    fn put(&mut self, key: ObjectKey) {
        if self.waiting.insert(key.clone()) && !self.busy.contains(&key) {
            self.order.push_back(key);
        }
    }

    fn take(&mut self) -> Option<ObjectKey> {
        let key = self.order.pop_front()?;
        self.waiting.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    fn finished(&mut self, key: ObjectKey, well: bool) {
        self.busy.remove(&key);
        if self.waiting.remove(&key) || !well {
            self.put(key);
        }
    }
}

impl Shared {
    fn is_mine(&self, pod: &Pod) -> bool {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        node.is_some_and(|node| self.nodes.contains(node))
    }

    /// Does what the pod's newest version asks for. False if it is to be tried again.
    async fn serve(&self, key: &ObjectKey) -> bool {
        let Some(pod) = self.pods.get(key).filter(|pod| self.is_mine(pod)) else { return true };
        let result = match pod.metadata.deletion_timestamp {
            Some(_) => self.delete(&pod).await,
            None => self.report(&pod).await,
        };
        match result {
            Ok(()) => true,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(error) => {
                tracing::debug!(pod = %key, %error, "a simulated pod is tried again");
                tokio::time::sleep(RETRY).await;
                false
            }
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), kube::Error> {
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..DeleteParams::default() };
        self.api(pod).delete(pod.metadata.name.as_deref().unwrap_or_default(), &parameters).await.map(drop)
    }

    async fn report(&self, pod: &Pod) -> Result<(), kube::Error> {
        let recorded = pod.status.clone().unwrap_or_default();
        let address = recorded.pod_ip.clone().unwrap_or_else(|| self.address());
        let status = running(pod, &address, Timestamp::now());
        let Some(patch) = report::patch(pod.metadata.uid.as_deref().unwrap_or_default(), &recorded, &status) else { return Ok(()) };
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        self.api(pod).patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default())
    }

    fn address(&self) -> String {
        let number = self.next_address.fetch_add(1, Ordering::Relaxed) % ADDRESSES;
        Ipv4Addr::from(FIRST_ADDRESS + number).to_string()
    }
}

/// The status of a pod whose containers all run and whose init containers are done.
fn running(pod: &Pod, address: &str, now: Timestamp) -> PodStatus {
    let containers = pod.spec.iter().flat_map(roles).map(|(role, spec)| (spec.name.clone(), container(role, pod, now))).collect();
    let observed = Observed {
        pod,
        gone: false,
        host_addresses: &[],
        rejection: None,
        sandbox: Sandbox::Ready,
        address: Some(address),
        attached: true,
        volumes_ready: true,
        volumes_removed: false,
        detached: false,
        containers: &containers,
        failures: &BTreeMap::new(),
        seen_at: now,
    };
    plan::pod::plan(&observed, now).status
}

fn container(role: Role, pod: &Pod, now: Timestamp) -> Container {
    // As recorded, so that a pod that runs is not reported again.
    let started_at = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(now, |time| time.0);
    let state = match role {
        Role::Init => AttemptState::Ended(Ended {
            started_at: Some(started_at),
            finished_at: started_at,
            exit_code: 0,
            signal: None,
            out_of_memory: false,
            unknown: false,
            message: None,
        }),
        Role::Sidecar | Role::Main => AttemptState::Running { started_at },
    };
    Container {
        attempts: vec![Attempt { number: 0, state, image_id: "simulated".to_owned(), earlier_sandbox: false }],
        startup: Some(true),
        readiness: Some(true),
        post_start: Hook::Done,
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_simulated_pod_is_ready_in_one_report() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web-0", "namespace": "shop", "uid": "u" },
            "spec": { "initContainers": [{ "name": "i" }], "containers": [{ "name": "c", "readinessProbe": {}, "startupProbe": {} }] },
        }))
        .unwrap();
        let status = running(&pod, "100.64.0.1", Timestamp::from_second(1000).unwrap());
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert!(status.conditions.as_ref().unwrap().iter().all(|condition| condition.status == "True"));
        pod.status = Some(status.clone());
        assert_eq!(running(&pod, "100.64.0.1", Timestamp::from_second(2000).unwrap()), status, "later it is the same");
    }

    #[test]
    fn a_pod_is_served_by_one_request_at_a_time_and_never_forgotten() {
        let mut queue = Queue::default();
        let key = ObjectKey::new("n", "p");
        queue.put(key.clone());
        queue.put(key.clone());
        assert_eq!((queue.take(), queue.take()), (Some(key.clone()), None));
        queue.put(key.clone());
        assert_eq!(queue.take(), None);
        queue.finished(key.clone(), true);
        assert_eq!((queue.take(), queue.take()), (Some(key.clone()), None));
        queue.finished(key.clone(), false);
        assert_eq!(queue.take(), Some(key));
    }
}
