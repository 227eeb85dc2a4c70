//! What the scheduler writes.

use futures::future::try_join_all;
use informer::{Api, Informer};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::ObjectKey;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use plan::binding::SELECTED_NODE;
use serde_json::json;

use crate::runtime::{ReconcileError, Writes, call};

/// A decision to be written.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Tells the claims of a pod the node it goes to.
    Choose { node: String, claims: Vec<ObjectKey> },
    /// Assigns the pod to its node.
    Bind { node: String },
}

/// What has ended beside the scheduler's loop. The uid tells the pod from a successor of the same name.
#[derive(Debug)]
pub(super) enum Finished {
    Effect {
        key: ObjectKey,
        uid: Option<String>,
        result: Result<(), ReconcileError>,
    },
    /// A pod has had no place for long enough to be told.
    Lasted {
        key: ObjectKey,
        uid: Option<String>,
        message: String,
    },
    /// A pod whose writes failed may be tried again.
    Retry {
        key: ObjectKey,
        uid: Option<String>,
    },
    Told,
}

pub(super) async fn execute(
    client: &Client,
    seen: &Informer<PersistentVolumeClaim>,
    pod: &Pod,
    effect: &Effect,
) -> Result<(), ReconcileError> {
    match effect {
        Effect::Choose { node, claims } => choose(client, seen, node, claims).await,
        Effect::Bind { node } => bind(client, pod, node).await,
    }
}

/// Writes the node into each claim, and waits until that can be seen.
async fn choose(client: &Client, seen: &Informer<PersistentVolumeClaim>, node: &str, claims: &[ObjectKey]) -> Result<(), ReconcileError> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {SELECTED_NODE: node}}}));
    let written = try_join_all(claims.iter().map(|key| {
        let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &key.namespace);
        let patch = &patch;
        async move { call(|| format!("choosing the node of claim {key}"), api.patch(&key.name, &PatchParams::default(), patch)).await }
    }));
    let mut writes = Writes::default();
    written.await?.iter().for_each(|claim| writes.wrote(claim));
    writes.seen_by(seen).await
}

async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), ReconcileError> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": namespace, "name": name, "uid": pod.uid()},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let api = Api::<Pod>::namespaced(client.clone(), &namespace);
    let params = PostParams::default();
    let doing = || format!("binding pod {namespace}/{name} to {node}");
    call(doing, api.create_subresource("binding", &name, &params, binding.to_string().into_bytes())).await
}

/// Writes into the pod's status why it has no node.
pub(super) async fn tell(client: &Client, pod: &Pod, message: &str, now: Timestamp) -> Result<(), ReconcileError> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let known = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let before = known.into_iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let since = before.and_then(|condition| condition.last_transition_time.clone()).unwrap_or(Time(now));
    let condition =
        json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, "lastTransitionTime": since});
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
    let api = Api::<Pod>::namespaced(client.clone(), &namespace);
    let doing = || format!("telling pod {namespace}/{name} why it has no node");
    call(doing, api.patch_status(&name, &PatchParams::default(), &patch)).await.map(drop)
}
