//! What a node's conditions and taints should be.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{GRACE, NOT_READY, UNREACHABLE};

const SIMULATED: &str = "steadfast.dev/simulated";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
/// What a silent node can't know of itself any more.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Conditions that keep new pods away, and the taint each becomes.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// When a node was last heard from, by the listener's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub at: Timestamp,
    /// Whether it holds a lease: a simulated node without one is not judged.
    pub has_lease: bool,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeWrite {
    Status(Box<Node>),
    /// The node with its taints as they should be.
    Taints(Box<Node>),
}

/// What to do about a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePlan {
    /// To be made first; the plan that follows it may ask for another.
    pub write: Option<NodeWrite>,
    /// When it will have been silent for too long.
    pub recheck_at: Option<Timestamp>,
}

/// Whether the node says it is ready, and has not been found silent.
pub fn is_ready(node: &Node) -> bool {
    status_of(node, "Ready") == Some("True")
}

/// Whether the node only pretends to run pods.
pub fn is_simulated(node: &Node) -> bool {
    node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SIMULATED)).is_some_and(|value| value == "true")
}

/// What to do about a node that was last heard from then.
pub fn plan_node(node: &Node, heard: Heard, now: Timestamp) -> NodePlan {
    let judged = heard.has_lease || !is_simulated(node);
    let deadline = heard.at.saturating_add(GRACE).unwrap_or(Timestamp::MAX);
    let silent = judged && now >= deadline;
    let recheck_at = (judged && !silent).then_some(deadline);
    let status = silent.then(|| silenced(node, now)).flatten().map(NodeWrite::Status);
    let write = status.or_else(|| retainted(node, now).map(NodeWrite::Taints));
    NodePlan { write, recheck_at }
}

fn status_of<'a>(node: &'a Node, condition: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|known| known.type_ == condition).map(|known| known.status.as_str())
}

/// The node with unknown conditions, unless it has them.
fn silenced(node: &Node, now: Timestamp) -> Option<Box<Node>> {
    if CONDITIONS.iter().all(|condition| status_of(node, condition) == Some("Unknown")) {
        return None;
    }
    let mut silenced = Box::new(node.clone());
    let conditions = silenced.status.get_or_insert_default().conditions.get_or_insert_default();
    for name in CONDITIONS {
        match conditions.iter_mut().find(|condition| condition.type_ == name) {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => *known = unknown(name, known.last_heartbeat_time.clone(), now),
            None => conditions.push(unknown(name, None, now)),
        }
    }
    Some(silenced)
}

fn unknown(name: &str, heartbeat: Option<Time>, now: Timestamp) -> NodeCondition {
    let (reason, message) = match heartbeat {
        Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
        None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
    };
    NodeCondition {
        type_: name.to_owned(),
        status: "Unknown".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: heartbeat,
        last_transition_time: Some(Time(now)),
    }
}

/// The node with the taints that follow from its state, unless it has them.
fn retainted(node: &Node, now: Timestamp) -> Option<Box<Node>> {
    let known = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let wanted = wanted(node);
    let ours = |taint: &Taint| is_ours(&taint.key);
    let holds = |(key, effect): &(&str, &str)| known.iter().any(|taint| taint.key == *key && taint.effect == *effect);
    let mut taints: Vec<_> =
        known.iter().filter(|taint| !ours(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str()))).cloned().collect();
    let missing = wanted.iter().filter(|pair| !holds(pair));
    taints.extend(missing.map(|(key, effect)| Taint {
        key: (*key).to_owned(),
        effect: (*effect).to_owned(),
        time_added: Some(Time(now)),
        value: None,
    }));
    if taints == known {
        return None;
    }
    let mut retainted = Box::new(node.clone());
    retainted.spec.get_or_insert_default().taints = Some(taints).filter(|taints| !taints.is_empty());
    Some(retainted)
}

const CORDONED: &str = "node.kubernetes.io/unschedulable";

fn is_ours(key: &str) -> bool {
    [NOT_READY, UNREACHABLE, CORDONED].contains(&key) || PRESSURES.iter().any(|(_, taint)| *taint == key)
}

fn wanted(node: &Node) -> Vec<(&'static str, &'static str)> {
    let mut wanted = match status_of(node, "Ready") {
        Some("True") => Vec::new(),
        Some("False") => vec![(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)],
        Some(_) => vec![(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)],
        // It has only just been made, and has not said anything yet.
        None => vec![(NOT_READY, NO_SCHEDULE)],
    };
    let pressed = PRESSURES.iter().filter(|(condition, _)| status_of(node, condition) == Some("True"));
    wanted.extend(pressed.map(|(_, taint)| (*taint, NO_SCHEDULE)));
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((CORDONED, NO_SCHEDULE));
    }
    wanted
}
