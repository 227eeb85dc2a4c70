//! Gives each pod a node.
//!
//! One task keeps the sum of the cluster current, decides with [`plan::schedule::place`], and counts its decisions in at once;
//! the writes go on beside it. A pod that fits nowhere waits for a change that may help, not for a timer.
//!
//! # Guarantees
//! * Pods are tried by priority, then by age.
//! * A pod whose claims wait for its node is bound after they are.
//! * What is not decided stays free: a failed write gives the room back.

mod effects;
mod pending;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use events::{Recorder, Severity};
use futures::FutureExt;
use informer::{Change, Informer, Subscription, Watched};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kinds::ObjectKey;
use kube::{Client, ResourceExt};
use plan::schedule::{Cluster, Storage, Unschedulable, VolumeDemand, VolumeObstacle, place, volume_demand};
use tokio::task::JoinSet;

use crate::{Clock, Informers};
use effects::{Effect, Finished};
use pending::{Entry, Pending, Phase};

/// How many writes may be under way.
const EFFECTS: usize = 256;
/// A pod that fits nowhere is told so if that lasts longer: a claim may be seen a moment after its pod.
const TELL_AFTER: Duration = Duration::from_millis(50);
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Runs the scheduler until `shutdown`.
pub async fn run(client: Client, informers: &Informers, shutdown: impl Future<Output = ()> + Send) {
    let recorder = crate::recorder(client.clone(), "default-scheduler", Clock::default());
    let mut scheduler = Scheduler {
        client,
        informers: informers.clone(),
        recorder,
        cluster: Cluster::default(),
        pending: Pending::default(),
        effects: JoinSet::new(),
        timers: JoinSet::new(),
    };
    tokio::select! {
        () = shutdown => {}
        () = scheduler.run() => {}
    }
}

struct Scheduler {
    client: Client,
    informers: Informers,
    recorder: Recorder,
    cluster: Cluster,
    pending: Pending,
    /// Writes under way, at most [`EFFECTS`].
    effects: JoinSet<Finished>,
    /// At most two for a pod that waits.
    timers: JoinSet<Finished>,
}

impl Scheduler {
    async fn run(&mut self) {
        let Informers { nodes, namespaces, pods, claims, volumes, storage_classes, .. } = self.informers.clone();
        tokio::join!(nodes.synced(), namespaces.synced(), claims.synced(), volumes.synced(), storage_classes.synced());
        pods.synced().await;
        let (mut nodes, mut namespaces, mut pods) = (opened(&nodes), opened(&namespaces), opened(&pods));
        let (mut claims, mut volumes, mut classes) = (opened(&claims), opened(&volumes), opened(&storage_classes));
        // What exists at the start is taken in before the first decision.
        now(&mut nodes).iter().for_each(|change| self.node_changed(change));
        now(&mut namespaces).iter().for_each(|change| self.namespace_changed(change));
        loop {
            self.decide();
            tokio::select! {
                changes = nodes.changes() => changes.iter().for_each(|change| self.node_changed(change)),
                changes = namespaces.changes() => changes.iter().for_each(|change| self.namespace_changed(change)),
                changes = pods.changes() => changes.into_iter().for_each(|change| self.pod_changed(change)),
                changes = claims.changes() => changes.iter().for_each(|change| self.claim_changed(change)),
                changes = volumes.changes() => changes.iter().for_each(|change| self.volume_changed(change)),
                _ = classes.changes() => self.pending.wake_all(),
                Some(finished) = self.effects.join_next() => self.finished(finished),
                Some(finished) = self.timers.join_next() => self.finished(finished),
            }
        }
    }

    fn node_changed(&mut self, change: &Change<Node>) {
        let matters = match &change.new {
            Some(node) => self.cluster.put_node(node),
            None => {
                self.cluster.remove_node(&change.key.name);
                self.pending.waiting_for_claims_on(&change.key.name).into_iter().for_each(|key| self.give_up(&key));
                true
            }
        };
        if matters {
            self.pending.wake_all();
        }
    }

    fn namespace_changed(&mut self, change: &Change<Namespace>) {
        let matters = match &change.new {
            Some(namespace) => self.cluster.put_namespace(namespace),
            None => {
                self.cluster.remove_namespace(&change.key.name);
                false
            }
        };
        if matters {
            self.pending.wake_all();
        }
    }

    fn pod_changed(&mut self, change: Change<Pod>) {
        let Some(pod) = change.new else { return self.forget(&change.key) };
        if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty()) {
            self.pending.remove(&change.key);
            if self.cluster.put_pod(&pod) {
                self.pending.wake_all();
            }
        } else if pending::is_for_us(&pod) {
            self.pod_waits(&change.key, pod);
        } else {
            self.forget(&change.key);
        }
    }

    fn pod_waits(&mut self, key: &ObjectKey, pod: Arc<Pod>) {
        let successor = self.pending.get(key).is_some_and(|entry| entry.pod.metadata.uid != pod.metadata.uid);
        if successor {
            self.forget(key);
        }
        self.pending.put(key, pod);
    }

    /// The pod is gone, has ended, or is not ours: its room is free.
    fn forget(&mut self, key: &ObjectKey) {
        self.pending.remove(key);
        if self.cluster.remove_pod(key) {
            self.pending.wake_all();
        }
    }

    fn claim_changed(&mut self, change: &Change<PersistentVolumeClaim>) {
        for pod in self.pending.users_of(&change.key) {
            self.recheck(&pod);
        }
    }

    fn volume_changed(&mut self, change: &Change<PersistentVolume>) {
        let reference = change.new.as_ref().and_then(|volume| volume.spec.as_ref()?.claim_ref.as_ref());
        match reference {
            Some(claim) => {
                let claim = ObjectKey::new(claim.namespace.clone().unwrap_or_default(), claim.name.clone().unwrap_or_default());
                self.pending.users_of(&claim).iter().for_each(|pod| self.recheck(pod));
            }
            None => self.pending.wake_all(),
        }
    }

    /// Looks again at a pod whose claims have changed.
    fn recheck(&mut self, key: &ObjectKey) {
        let Some(entry) = self.pending.get(key) else { return };
        match &entry.phase {
            Phase::Parked { .. } => self.pending.wake(key),
            Phase::Claims { node } => {
                let (node, pod) = (node.clone(), entry.pod.clone());
                match self.volume_demand(&pod) {
                    Ok(volumes) if !self.cluster.reaches(&node, &volumes) => self.give_up(key),
                    Ok(volumes) if volumes.waiting.is_empty() => self.bind(key, &node),
                    Ok(volumes) if !self.all_promised(&volumes, &node) => self.give_up(key),
                    Ok(_) => {}
                    Err(_) => self.give_up(key),
                }
            }
            Phase::Ready | Phase::Choosing { .. } | Phase::Binding { .. } => {}
        }
    }

    /// Whether each claim still carries the node it was given: a provisioner takes it away when it can't make the volume.
    fn all_promised(&self, volumes: &VolumeDemand, node: &str) -> bool {
        let promised = |key: &ObjectKey| {
            let claim = self.informers.claims.get(key)?;
            claim.annotations().get(plan::binding::SELECTED_NODE).cloned()
        };
        volumes.waiting.iter().all(|key| promised(key).as_deref() == Some(node))
    }

    /// Takes back what was decided for a pod, which is tried again.
    fn give_up(&mut self, key: &ObjectKey) {
        self.cluster.remove_pod(key);
        self.pending.make_ready(key);
    }

    /// Decides for every pod that is ready, as long as there is room for their writes.
    fn decide(&mut self) {
        while self.effects.len() < EFFECTS {
            let Some(key) = self.pending.next() else { return };
            self.attempt(&key);
        }
    }

    fn attempt(&mut self, key: &ObjectKey) {
        let Some(Entry { pod, demand, .. }) = self.pending.get(key) else { return };
        let (pod, demand) = (pod.clone(), demand.clone());
        let by_volumes = |obstacle: VolumeObstacle| Unschedulable::by_volumes(self.cluster.node_count(), obstacle);
        let volumes = self.volume_demand(&pod).map_err(by_volumes);
        let placed = volumes.and_then(|volumes| Ok((place(&self.cluster, &demand, &volumes)?, volumes)));
        let (node, volumes) = match placed {
            Ok((placement, volumes)) => (placement.node, volumes),
            Err(why) => return self.park(key, why.to_string()),
        };
        self.cluster.assign(demand, &node);
        self.pending.wake_dependents();
        match volumes.waiting.is_empty() {
            true => self.bind(key, &node),
            false => self.choose(key, node, volumes.waiting),
        }
    }

    fn volume_demand(&self, pod: &Pod) -> Result<VolumeDemand, VolumeObstacle> {
        let informers = &self.informers;
        let storage = Storage {
            claim: &|key| informers.claims.get(key),
            volume: &|name| informers.volumes.get(&ObjectKey::cluster(name)),
            class: &|name| informers.storage_classes.get(&ObjectKey::cluster(name)),
            volumes: &|| informers.volumes.list(),
            has_node: &|name| self.cluster.has_node(name),
        };
        volume_demand(pod, &storage)
    }

    fn park(&mut self, key: &ObjectKey, message: String) {
        if self.pending.park(key, message.clone())
            && let Some(entry) = self.pending.get(key)
        {
            let finished = Finished::Lasted { key: key.clone(), uid: entry.uid(), message };
            self.timers.spawn(tokio::time::sleep(TELL_AFTER).map(|()| finished));
        }
    }

    fn bind(&mut self, key: &ObjectKey, node: &str) {
        self.start(key, Phase::Binding { node: node.to_owned() }, Effect::Bind { node: node.to_owned() });
    }

    fn choose(&mut self, key: &ObjectKey, node: String, claims: Vec<ObjectKey>) {
        let effect = Effect::Choose { node: node.clone(), claims };
        self.start(key, Phase::Choosing { node }, effect);
    }

    fn start(&mut self, key: &ObjectKey, phase: Phase, effect: Effect) {
        let Some(entry) = self.pending.enter(key, phase) else { return };
        let (pod, uid, key) = (entry.pod.clone(), entry.uid(), key.clone());
        let (client, claims, recorder) = (self.client.clone(), self.informers.claims.clone(), self.recorder.clone());
        self.effects.spawn(async move {
            let result = effects::execute(&client, &claims, &pod, &effect).await;
            if let (Effect::Bind { node }, Ok(())) = (&effect, &result) {
                let message = format!("Successfully assigned {key} to {node}");
                recorder.record(&*pod, Severity::Normal, "Scheduled", message);
            }
            Finished::Effect { key, uid, result }
        });
    }

    fn finished(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        match finished {
            Ok(Finished::Effect { key, uid, result }) if self.pending.is_current(&key, &uid) => self.effect_ended(&key, result),
            Ok(Finished::Lasted { key, uid, message }) if self.pending.is_current(&key, &uid) => self.tell(&key, message),
            Ok(Finished::Retry { key, uid }) if self.pending.is_current(&key, &uid) => self.pending.wake(&key),
            Ok(Finished::Told | Finished::Effect { .. } | Finished::Lasted { .. } | Finished::Retry { .. }) => {}
            Err(error) => tracing::error!(%error, "a write of the scheduler panicked"),
        }
    }

    fn effect_ended(&mut self, key: &ObjectKey, result: Result<(), crate::runtime::ReconcileError>) {
        let Some(entry) = self.pending.get(key) else { return };
        match (result, entry.phase.clone()) {
            (Ok(()), Phase::Choosing { node }) => {
                self.pending.enter(key, Phase::Claims { node });
                self.recheck(key);
            }
            (Ok(()), Phase::Ready | Phase::Parked { .. } | Phase::Claims { .. } | Phase::Binding { .. }) => {}
            (Err(error), _) => self.retry(key, &error),
        }
    }

    fn retry(&mut self, key: &ObjectKey, error: &crate::runtime::ReconcileError) {
        tracing::debug!(pod = %key, %error, "scheduling is tried again");
        self.cluster.remove_pod(key);
        let Some((uid, failures)) = self.pending.failed(key) else { return };
        let delay = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LONGEST_RETRY);
        let finished = Finished::Retry { key: key.clone(), uid };
        self.timers.spawn(tokio::time::sleep(delay).map(|()| finished));
    }

    /// Tells users that a pod fits nowhere, if that is news.
    fn tell(&mut self, key: &ObjectKey, message: String) {
        let Some(entry) = self.pending.get(key).filter(|entry| entry.is_parked_with(&message)) else { return };
        if entry.said() == Some(message.as_str()) {
            return;
        }
        self.recorder.record(&*entry.pod, Severity::Warning, "FailedScheduling", message.clone());
        let (client, pod, clock) = (self.client.clone(), entry.pod.clone(), Clock::default());
        self.effects.spawn(async move {
            if let Err(error) = effects::tell(&client, &pod, &message, clock.now()).await {
                tracing::debug!(%error, "a pod's condition could not be written");
            }
            Finished::Told
        });
    }
}

fn opened<K: Watched>(informer: &Informer<K>) -> Subscription<K> {
    informer.subscribe()
}

/// The changes that are there without waiting.
fn now<K: Watched>(subscription: &mut Subscription<K>) -> Vec<Change<K>> {
    subscription.changes().now_or_never().unwrap_or_default()
}

/// Keys in no particular need of order, each once.
type Keys = BTreeSet<ObjectKey>;
