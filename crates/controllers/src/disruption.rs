//! Keeps the status of each PodDisruptionBudget as its pods and their controllers say.
//!
//! # Guarantees
//! * A pod that becomes ready, or a set that is scaled, is counted without delay.
//! * A status is written only over the one it was computed from: what an eviction takes meanwhile is never given back.

use std::sync::Arc;

use events::{Recorder, Severity};
use informer::{Api, Change};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kinds::ObjectKey;
use kube::api::PostParams;
use kube::{Client, ResourceExt};
use plan::disruption::{plan_budget, selector};

use crate::runtime::{Controller, Outcome, ReconcileError, Runner, call};
use crate::{Clock, Informers};

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, informers: &Informers, shutdown: impl Future<Output = ()> + Send) {
    let recorder = crate::recorder(client.clone(), "controllermanager", Clock::Wall);
    let controller = Disruption { client, informers: informers.clone(), recorder, clock: Clock::Wall };
    let (of_pods, of_sets) = (informers.budgets.clone(), informers.budgets.clone());
    Runner::new(controller)
        .watch(&informers.budgets, |change| vec![change.key.clone()])
        .watch(&informers.pods, move |change| selecting(&of_pods.in_namespace(&change.key.namespace), change))
        .watch(&informers.statefulsets, move |change| scaled(&of_sets.in_namespace(&change.key.namespace), change))
        .run(shutdown)
        .await;
}

/// The budgets that selected the pod before, or do now.
fn selecting(budgets: &[Arc<PodDisruptionBudget>], change: &Change<Pod>) -> Vec<ObjectKey> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && looks_the_same(old, new)
    {
        return Vec::new();
    }
    let pods: Vec<_> = change.old.iter().chain(&change.new).collect();
    let selected = budgets.iter().filter(|budget| pods.iter().any(|pod| selects(budget, pod)));
    selected.map(|budget| key_of(budget)).collect()
}

/// Whether nothing changed that a budget counts by.
fn looks_the_same(old: &Pod, new: &Pod) -> bool {
    let ready = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let identity = |pod: &Pod| {
        let meta = pod.metadata.clone();
        (meta.uid, meta.deletion_timestamp.is_some(), meta.labels, meta.owner_references)
    };
    identity(old) == identity(new) && ready(old) == ready(new)
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    selector(budget).is_some_and(|selector| selector.matches(pod.metadata.labels.as_ref()))
}

/// The budgets of the namespace, when a set of it wants another number of pods: which of them it concerns, its pods say.
fn scaled(budgets: &[Arc<PodDisruptionBudget>], change: &Change<StatefulSet>) -> Vec<ObjectKey> {
    let wanted = |set: &Option<Arc<StatefulSet>>| set.as_ref().map(|set| replicas(set));
    if wanted(&change.old) == wanted(&change.new) { Vec::new() } else { budgets.iter().map(|budget| key_of(budget)).collect() }
}

/// Which set it is, and how many pods it wants.
fn replicas(set: &StatefulSet) -> (Option<String>, i32) {
    (set.uid(), set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
}

fn key_of(budget: &PodDisruptionBudget) -> ObjectKey {
    ObjectKey::new(budget.namespace().unwrap_or_default(), budget.name_any())
}

struct Disruption {
    client: Client,
    informers: Informers,
    recorder: Recorder,
    clock: Clock,
}

impl Controller for Disruption {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "disruption"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(budget) = self.informers.budgets.get(key) else { return Ok(Outcome::done()) };
        let mut pods = self.informers.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selects(&budget, pod));
        let plan = plan_budget(&budget, &pods, &|owner| self.scale(&key.namespace, owner), self.clock.now());
        for note in &plan.notes {
            let severity = if note.is_warning() { Severity::Warning } else { Severity::Normal };
            self.recorder.record(&*budget, severity, note.reason(), note.message());
        }
        if let Some(status) = plan.status {
            let changed = PodDisruptionBudget { status: Some(status), ..(*budget).clone() };
            let api = Api::<PodDisruptionBudget>::namespaced(self.client.clone(), &key.namespace);
            let doing = || format!("writing the status of disruption budget {key}");
            call(doing, api.replace_status(&key.name, &PostParams::default(), &changed)).await?;
        }
        Ok(plan.recheck_at.map_or(Outcome::done(), |at| Outcome::recheck_after(self.clock.until(at))))
    }
}

impl Disruption {
    /// How many pods their controller wants; `None` if it is not there, or of a kind that is not known.
    fn scale(&self, namespace: &str, owner: &OwnerReference) -> Option<i32> {
        if owner.kind != "StatefulSet" || owner.api_version.split_once('/').is_none_or(|(group, _)| group != "apps") {
            return None;
        }
        let set = self.informers.statefulsets.get(&ObjectKey::new(namespace, owner.name.clone()))?;
        let (uid, replicas) = replicas(&set);
        (uid.as_deref() == Some(owner.uid.as_str())).then_some(replicas)
    }
}
