//! Notices nodes that fell silent, and cares for the pods that nobody else can.
//!
//! # Guarantees
//! * A node's silence is measured by this process's clock, from the moment it began to listen: a restart finds no node lost.
//! * Timers are set to the next deadline; nothing is looked at in between.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::{Recorder, Severity};
use informer::{Api, Change};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kinds::ObjectKey;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use plan::nodes::{GRACE, Heard, NodeWrite, PodsPlan, concerns_pods, is_ready, is_stray, is_unassigned_and_ending, plan_node, plan_pods};
use serde_json::{Value, json};

use crate::gone::gone_is_fine;
use crate::runtime::{Controller, Outcome, ReconcileError, Runner, call};
use crate::{Clock, Informers};

const LEASES: &str = "kube-node-lease";

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, informers: &Informers, shutdown: impl Future<Output = ()> + Send) {
    // A machine that slept has not listened: its silence doesn't count.
    let clock = Clock::runtime(Timestamp::now());
    let recorder = crate::recorder(client.clone(), "node-controller", clock);
    let health = Arc::new(Health::default());
    let controller = Nodes { client, informers: informers.clone(), recorder, clock, health: health.clone() };
    let of_lease = move |change: &Change<Lease>| health.lease_changed(change, clock.now());
    let health = controller.health.clone();
    let all = informers.nodes.clone();
    let of_node = move |change: &Change<Node>| {
        let mut targets = health.node_changed(change, clock.now());
        let ready = |node: &Option<Arc<Node>>| node.as_deref().is_some_and(is_ready);
        if change.old.is_some() && ready(&change.new) && !ready(&change.old) {
            // It may be the first that is healthy again, on which it depends whether the others' pods are evicted.
            targets.extend(all.list().iter().map(|node| Target::Node(node.name_any())));
        }
        targets
    };
    Runner::new(controller)
        .watch(&informers.leases, of_lease)
        .watch(&informers.nodes, of_node)
        .watch(&informers.pods, of_pod)
        .run(shutdown)
        .await;
}

/// What a round is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Node(String),
    /// A pod that may have no node to look after it.
    Pod(ObjectKey),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pod(key) => write!(f, "pod {key}"),
        }
    }
}

/// When each node was last heard from.
#[derive(Default)]
struct Health {
    heard: Mutex<HashMap<String, Heard>>,
}

impl Health {
    fn heard(&self) -> MutexGuard<'_, HashMap<String, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A renewal alone causes no round: the deadline it moves is looked at when it comes.
    fn lease_changed(&self, change: &Change<Lease>, now: Timestamp) -> Vec<Target> {
        if change.key.namespace != LEASES {
            return Vec::new();
        }
        let node = change.key.name.clone();
        let mut heard = self.heard();
        let before = heard.get(&node).copied();
        let has_lease = change.new.is_some();
        let at = if has_lease { now } else { before.map_or(now, |heard| heard.at) };
        heard.insert(node.clone(), Heard { at, has_lease });
        let was_silent = before.is_some_and(|heard| now.duration_since(heard.at) >= GRACE);
        if was_silent || before.is_none_or(|heard| heard.has_lease != has_lease) { vec![Target::Node(node)] } else { Vec::new() }
    }

    /// A status that the node wrote itself is a sign of life; what this controller writes is not.
    fn node_changed(&self, change: &Change<Node>, now: Timestamp) -> Vec<Target> {
        let name = change.key.name.clone();
        let mut heard = self.heard();
        match &change.new {
            None => drop(heard.remove(&name)),
            Some(new) => {
                let entry = heard.entry(name.clone()).or_insert(Heard { at: now, has_lease: false });
                if change.old.as_ref().is_some_and(|old| heartbeat(old) != heartbeat(new)) {
                    entry.at = now;
                }
            }
        }
        let same = |old: &Node, new: &Node| !newly_judged(old, new);
        match (&change.old, &change.new) {
            (Some(old), Some(new)) if same(old, new) => Vec::new(),
            _ => vec![Target::Node(name)],
        }
    }
}

/// The newest time the node itself has put under a condition.
fn heartbeat(node: &Node) -> Option<Timestamp> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter_map(|condition| condition.last_heartbeat_time.as_ref().map(|time| time.0)).max()
}

/// Whether something changed that conditions or taints follow from.
fn newly_judged(old: &Node, new: &Node) -> bool {
    let conditions = |node: &Node| -> Vec<(String, String)> {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.map(|condition| (condition.type_.clone(), condition.status.clone())).collect()
    };
    old.spec != new.spec || conditions(old) != conditions(new)
}

fn of_pod(change: &Change<Pod>) -> Vec<Target> {
    let Some(pod) = &change.new else { return Vec::new() };
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
    let newly_bound = node(pod).filter(|node_name| change.old.as_ref().and_then(|old| node(old)).as_ref() != Some(node_name));
    match newly_bound {
        Some(node) => vec![Target::Node(node)],
        None if is_unassigned_and_ending(pod) => vec![Target::Pod(change.key.clone())],
        None => Vec::new(),
    }
}

struct Nodes {
    client: Client,
    informers: Informers,
    recorder: Recorder,
    clock: Clock,
    health: Arc<Health>,
}

impl Controller for Nodes {
    type Key = Target;

    fn name(&self) -> &'static str {
        "nodes"
    }

    async fn reconcile(&self, target: &Target) -> Result<Outcome, ReconcileError> {
        match target {
            Target::Pod(key) => self.end_unassigned(key).await,
            Target::Node(name) => match self.informers.nodes.get(&ObjectKey::cluster(name)) {
                Some(node) => self.reconcile_node(&node).await,
                None => self.end_strays(name).await,
            },
        }
    }
}

impl Nodes {
    async fn reconcile_node(&self, node: &Node) -> Result<Outcome, ReconcileError> {
        let now = self.clock.now();
        let name = node.name_any();
        let heard = self.health.heard().get(&name).copied().unwrap_or(Heard { at: now, has_lease: false });
        let plan = plan_node(node, heard, now);
        if let Some(write) = plan.write {
            // The change comes back as a change of the node, and with it the next round.
            return self.write_node(node, write).await;
        }
        if !concerns_pods(node) {
            return Ok(plan.recheck_at.map_or(Outcome::done(), |at| Outcome::recheck_after(self.clock.until(at))));
        }
        let pods = self.pods_of(&name);
        let any_ready = self.informers.nodes.list().iter().any(|node| is_ready(node));
        let pods = plan_pods(node, &pods, any_ready, now);
        let recheck = plan.recheck_at.into_iter().chain(pods.recheck_at).min();
        self.care_for(pods).await?;
        Ok(recheck.map_or(Outcome::done(), |at| Outcome::recheck_after(self.clock.until(at))))
    }

    fn pods_of(&self, node: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.informers.pods.list();
        pods.retain(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node));
        pods
    }

    async fn write_node(&self, node: &Node, write: NodeWrite) -> Result<Outcome, ReconcileError> {
        let api = Api::<Node>::all(self.client.clone());
        let (name, params) = (node.name_any(), PostParams::default());
        let doing = || format!("writing node {name}");
        match write {
            NodeWrite::Status(new) => {
                call(doing, api.replace_status(&name, &params, &new)).await?;
                let message = format!("Node {name} status is now: NodeNotReady");
                self.recorder.record(node, Severity::Normal, "NodeNotReady", message);
            }
            NodeWrite::Taints(new) => drop(call(doing, api.replace(&name, &params, &new)).await?),
        }
        Ok(Outcome::done())
    }

    async fn care_for(&self, plan: PodsPlan) -> Result<(), ReconcileError> {
        for pod in plan.unready {
            self.patch_condition(&pod, json!({"type": "Ready", "status": "False"})).await?;
            self.recorder.record(&*pod, Severity::Warning, "NodeNotReady", "Node is not ready".to_owned());
        }
        for eviction in plan.evictions {
            let message = format!("Taint manager: deleting due to NoExecute taint {}", eviction.taint);
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": message});
            self.patch_condition(&eviction.pod, condition).await?;
            let deletion = format!("Marking for deletion Pod {}", key_of(&eviction.pod));
            self.recorder.record(&*eviction.pod, Severity::Normal, "TaintManagerEviction", deletion);
            self.delete(&eviction.pod, None).await?;
        }
        Ok(())
    }

    async fn patch_condition(&self, pod: &Pod, mut condition: Value) -> Result<(), ReconcileError> {
        condition["lastTransitionTime"] = json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.clock.now()));
        self.patch_status(pod, json!({"conditions": [condition]})).await
    }

    async fn patch_status(&self, pod: &Pod, status: Value) -> Result<(), ReconcileError> {
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
        let doing = || format!("writing the status of pod {}", key_of(pod));
        gone_is_fine(call(doing, self.pods(pod).patch_status(&pod.name_any(), &PatchParams::default(), &patch)).await.map(drop))
    }

    async fn delete(&self, pod: &Pod, grace: Option<u32>) -> Result<(), ReconcileError> {
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let params = DeleteParams { grace_period_seconds: grace, preconditions: Some(preconditions), ..DeleteParams::default() };
        let doing = || format!("deleting pod {}", key_of(pod));
        gone_is_fine(call(doing, self.pods(pod).delete(&pod.name_any(), &params)).await.map(drop))
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }

    /// Ends the pods of a node that is gone, after as long as a node may be silent: it may be coming back.
    async fn end_strays(&self, node: &str) -> Result<Outcome, ReconcileError> {
        let strays = self.pods_of(node);
        if strays.is_empty() {
            self.health.heard().remove(node);
            return Ok(Outcome::done());
        }
        let now = self.clock.now();
        let since = self.health.heard().entry(node.to_owned()).or_insert(Heard { at: now, has_lease: false }).at;
        let due = since.saturating_add(GRACE).unwrap_or(Timestamp::MAX);
        if now < due {
            return Ok(Outcome::recheck_after(self.clock.until(due)));
        }
        let live = call(|| format!("looking for node {node}"), Api::<Node>::all(self.client.clone()).get_opt(node)).await?;
        for pod in strays.iter().filter(|pod| live.is_none() && is_stray(pod, |_| false)) {
            self.end_stray(pod).await?;
        }
        self.health.heard().remove(node);
        Ok(Outcome::done())
    }

    async fn end_stray(&self, pod: &Pod) -> Result<(), ReconcileError> {
        let ended = pod.status.as_ref().is_some_and(|status| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")));
        if !ended {
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.clock.now());
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": now});
            self.patch_status(pod, json!({"phase": "Failed", "conditions": [condition]})).await?;
        }
        self.delete(pod, Some(0)).await
    }

    async fn end_unassigned(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        if let Some(pod) = self.informers.pods.get(key).filter(|pod| is_unassigned_and_ending(pod)) {
            self.delete(&pod, Some(0)).await?;
        }
        Ok(Outcome::done())
    }
}

fn key_of(pod: &Pod) -> ObjectKey {
    ObjectKey::new(pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds)
    }

    fn lease(version: Option<&str>) -> Option<Arc<Lease>> {
        version.map(|version| Arc::new(serde_json::from_value(json!({"metadata": {"name": "n", "resourceVersion": version}})).unwrap()))
    }

    /// What a change of the lease of node `n` causes.
    fn renewed(health: &Health, old: Option<&str>, new: Option<&str>, seconds: i64) -> Vec<Target> {
        let change = Change { key: ObjectKey::new(LEASES, "n"), old: lease(old), new: lease(new) };
        health.lease_changed(&change, at(seconds))
    }

    fn node(heartbeat: &str, ready: &str) -> Option<Arc<Node>> {
        let conditions = json!([{"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]);
        Some(Arc::new(serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}})).unwrap()))
    }

    #[test]
    fn a_renewal_is_a_sign_of_life_and_causes_a_round_only_after_silence() {
        let health = Health::default();
        let round = vec![Target::Node("n".into())];
        assert_eq!(renewed(&health, None, Some("1"), 0), round);
        assert_eq!(renewed(&health, Some("1"), Some("2"), 10), []);
        assert_eq!(health.heard()["n"], Heard { at: at(10), has_lease: true });
        assert_eq!(renewed(&health, Some("2"), Some("3"), 60), round);
        assert_eq!(renewed(&health, Some("3"), None, 61), round);
        assert_eq!(health.heard()["n"], Heard { at: at(60), has_lease: false });
    }

    #[test]
    fn what_the_node_writes_is_a_sign_of_life_and_what_others_write_is_not() {
        let health = Health::default();
        let changed = |old, new, seconds| health.node_changed(&Change { key: ObjectKey::cluster("n"), old, new }, at(seconds)).len();
        let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z");
        assert_eq!(changed(None, node(first, "True"), 5), 1);
        assert_eq!(changed(node(first, "True"), node(second, "True"), 6), 0);
        assert_eq!(health.heard()["n"].at, at(6));
        assert_eq!(changed(node(second, "True"), node(second, "Unknown"), 50), 1);
        assert_eq!(health.heard()["n"].at, at(6));
        assert_eq!((changed(node(second, "Unknown"), None, 51), health.heard().len()), (1, 0));
    }
}
