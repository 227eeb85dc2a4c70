//! Binds claims and volumes to each other, and protects both while they are in use.
//!
//! # Guarantees
//! * A volume is called released, and a claim lost, only after the server itself said that the other is gone.
//! * Each write carries the resource version that was looked at; two claims never get one volume.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::{Recorder, Severity};
use informer::{Api, Change};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kinds::ObjectKey;
use kube::api::PostParams;
use kube::{Client, ResourceExt};
use plan::binding::{
    ClaimPlan, ClaimState, ClaimView, Note, Step, VolumeView, Waiting, is_default_class, plan_claim, plan_volume, wanted_volume,
};
use plan::nodes::is_ready;
use plan::schedule::claims_of;

use crate::runtime::{Controller, Outcome, ReconcileError, Runner, Writes, call};
use crate::{Clock, Informers};

/// More steps than binding has.
const STEPS: usize = 8;

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, informers: &Informers, shutdown: impl Future<Output = ()> + Send) {
    let recorder = crate::recorder(client.clone(), "persistentvolume-controller", Clock::default());
    let controller = Binding { client, informers: informers.clone(), recorder, waiting: Mutex::default(), written: Mutex::default() };
    let (all, pending, of_class, of_node) = (informers.clone(), informers.clone(), informers.clone(), informers.clone());
    Runner::new(controller)
        .watch(&informers.claims, move |change| of_claim(change, &all))
        .watch(&informers.volumes, move |change| of_volume(change, &pending))
        .watch(&informers.storage_classes, move |_| unbound(&of_class))
        .watch(&informers.nodes, move |change| of_ready_node(change, &of_node))
        .watch(&informers.pods, of_pod)
        .run(shutdown)
        .await;
}

/// What a round is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Claim(ObjectKey),
    Volume(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

/// The claim, the volume it names, and, when it goes, every volume that was meant for it.
fn of_claim(change: &Change<PersistentVolumeClaim>, informers: &Informers) -> Vec<Target> {
    let named = change.old.iter().chain(&change.new).filter_map(|claim| wanted_volume(claim)).map(str::to_owned);
    let mut volumes: Vec<_> = named.collect();
    if change.new.is_none() {
        let meant = |volume: &Arc<PersistentVolume>| claim_key(volume).as_ref() == Some(&change.key);
        volumes.extend(informers.volumes.list().iter().filter(|volume| meant(volume)).map(|volume| volume.name_any()));
    }
    std::iter::once(Target::Claim(change.key.clone())).chain(volumes.into_iter().map(Target::Volume)).collect()
}

/// The claim that a volume refers to.
fn claim_key(volume: &PersistentVolume) -> Option<ObjectKey> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(ObjectKey::new(reference.namespace.clone()?, reference.name.clone()?))
}

/// The volume, the claim it refers to, and, if it is free, every claim that waits.
fn of_volume(change: &Change<PersistentVolume>, informers: &Informers) -> Vec<Target> {
    let claims = change.old.iter().chain(&change.new).filter_map(|volume| claim_key(volume)).map(Target::Claim);
    let mut targets: Vec<_> = std::iter::once(Target::Volume(change.key.name.clone())).chain(claims).collect();
    if change.new.as_ref().is_some_and(|volume| claim_key(volume).is_none()) {
        targets.extend(unbound(informers));
    }
    targets
}

fn unbound(informers: &Informers) -> Vec<Target> {
    let claims = informers.claims.list().into_iter().filter(|claim| plan::binding::bound_to(claim).is_none());
    claims.map(|claim| Target::Claim(key_of(&claim))).collect()
}

fn of_ready_node(change: &Change<Node>, informers: &Informers) -> Vec<Target> {
    let ready = |node: &Option<Arc<Node>>| node.as_deref().is_some_and(is_ready);
    if ready(&change.new) && !ready(&change.old) { unbound(informers) } else { Vec::new() }
}

/// A claim that was kept for a pod may go with it.
fn of_pod(change: &Change<Pod>) -> Vec<Target> {
    match (&change.old, &change.new) {
        (Some(old), None) => claims_of(old).into_iter().map(Target::Claim).collect(),
        _ => Vec::new(),
    }
}

fn key_of(claim: &PersistentVolumeClaim) -> ObjectKey {
    ObjectKey::new(claim.namespace().unwrap_or_default(), claim.name_any())
}

struct Binding {
    client: Client,
    informers: Informers,
    recorder: Recorder,
    /// What each claim was last said to wait for.
    waiting: Mutex<HashMap<ObjectKey, Waiting>>,
    /// What each target's last round wrote.
    written: Mutex<HashMap<Target, RoundWrites>>,
}

#[derive(Clone, Default)]
struct RoundWrites {
    claims: Writes,
    volumes: Writes,
}

impl Controller for Binding {
    type Key = Target;

    fn name(&self) -> &'static str {
        "binding"
    }

    async fn reconcile(&self, target: &Target) -> Result<Outcome, ReconcileError> {
        let mut written = locked(&self.written).get(target).cloned().unwrap_or_default();
        written.claims.seen_by(&self.informers.claims).await?;
        written.volumes.seen_by(&self.informers.volumes).await?;
        locked(&self.written).remove(target);
        match target {
            Target::Claim(key) => self.reconcile_claim(key).await?,
            Target::Volume(name) => self.reconcile_volume(name).await?,
        }
        Ok(Outcome::done())
    }
}

impl Binding {
    async fn reconcile_claim(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let Some(mut claim) = self.informers.claims.get(key) else {
            locked(&self.waiting).remove(key);
            return Ok(());
        };
        let mut volume = None;
        for _ in 0..STEPS {
            let plan = self.plan_claim(&claim, volume.as_ref()).await?;
            self.tell_claim(key, &claim, plan.waiting, plan.note);
            let Some(step) = plan.step else { break };
            match self.execute(&Target::Claim(key.clone()), step).await? {
                Written::Claim(new) => claim = new,
                Written::Volume(new) => volume = Some(new),
            }
        }
        Ok(())
    }

    /// `reserved` is the volume as this round has just written it.
    async fn plan_claim(
        &self,
        claim: &PersistentVolumeClaim,
        reserved: Option<&Arc<PersistentVolume>>,
    ) -> Result<ClaimPlan, ReconcileError> {
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
        let named = match wanted_volume(claim) {
            Some(name) if reserved.is_some_and(|volume| volume.name_any() == name) => reserved.cloned(),
            Some(name) => self.volume(name).await?,
            None => None,
        };
        Ok(plan_claim(&ClaimView {
            claim,
            named,
            volumes: &|| self.volumes_with(reserved),
            class: class.and_then(|name| self.informers.storage_classes.get(&ObjectKey::cluster(name))),
            default_class: self.default_class(),
            nodes: &|| self.ready_nodes(),
            used: claim.metadata.deletion_timestamp.is_some() && self.is_used(claim),
        }))
    }

    /// The volume as the view shows it, or, if it doesn't, as the server does.
    async fn volume(&self, name: &str) -> Result<Option<Arc<PersistentVolume>>, ReconcileError> {
        if let Some(known) = self.informers.volumes.get(&ObjectKey::cluster(name)) {
            return Ok(Some(known));
        }
        let live = call(|| format!("looking for volume {name}"), self.volumes_api().get_opt(name)).await?;
        Ok(live.map(Arc::new))
    }

    fn volumes_with(&self, written: Option<&Arc<PersistentVolume>>) -> Vec<Arc<PersistentVolume>> {
        let mut volumes = self.informers.volumes.list();
        if let Some(written) = written {
            volumes.retain(|volume| volume.metadata.name != written.metadata.name);
            volumes.push(written.clone());
        }
        volumes
    }

    /// The newest of the default classes, as upstream chooses among several.
    fn default_class(&self) -> Option<String> {
        let mut defaults = self.informers.storage_classes.list();
        defaults.retain(|class: &Arc<StorageClass>| is_default_class(class));
        let newest = defaults.iter().rev().max_by_key(|class| class.creation_timestamp().map(|time| time.0));
        newest.map(|class| class.name_any())
    }

    fn ready_nodes(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.informers.nodes.list();
        nodes.retain(|node| is_ready(node) && node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true));
        nodes
    }

    fn is_used(&self, claim: &PersistentVolumeClaim) -> bool {
        let key = key_of(claim);
        let pods = self.informers.pods.in_namespace(&key.namespace);
        let has_node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
        pods.iter().any(|pod| has_node(pod) && claims_of(pod).contains(&key))
    }

    fn tell_claim(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, waiting: Option<Waiting>, note: Option<Note>) {
        let mut told = locked(&self.waiting);
        let news = match waiting {
            Some(waiting) => told.insert(key.clone(), waiting.clone()) != Some(waiting),
            None => told.remove(key).is_some() || note.is_some(),
        };
        drop(told);
        if let Some(note) = note.filter(|_| news) {
            self.recorder.record(claim, severity(&note), note.reason, note.message);
        }
    }

    /// Makes one write, and remembers what the round's target has still to see of it.
    async fn execute(&self, target: &Target, step: Step) -> Result<Written, ReconcileError> {
        let params = PostParams::default();
        let doing = || format!("binding {target}");
        let written = match step {
            Step::WriteClaim(claim) => {
                Written::Claim(call(doing, self.claims_api(&claim).replace(&claim.name_any(), &params, &claim)).await?.into())
            }
            Step::WriteClaimStatus(claim) => {
                Written::Claim(call(doing, self.claims_api(&claim).replace_status(&claim.name_any(), &params, &claim)).await?.into())
            }
            Step::WriteVolume(volume) => {
                Written::Volume(call(doing, self.volumes_api().replace(&volume.name_any(), &params, &volume)).await?.into())
            }
            Step::WriteVolumeStatus(volume) => {
                Written::Volume(call(doing, self.volumes_api().replace_status(&volume.name_any(), &params, &volume)).await?.into())
            }
        };
        let mut all = locked(&self.written);
        let round = all.entry(target.clone()).or_default();
        match &written {
            Written::Claim(claim) => round.claims.wrote(&**claim),
            Written::Volume(volume) => round.volumes.wrote(&**volume),
        }
        Ok(written)
    }

    async fn reconcile_volume(&self, name: &str) -> Result<(), ReconcileError> {
        let Some(mut volume) = self.informers.volumes.get(&ObjectKey::cluster(name)) else { return Ok(()) };
        for _ in 0..STEPS {
            let claim = self.claim_state(&volume).await?;
            let plan = plan_volume(&VolumeView { volume: &volume, claim, now: Clock::default().now() });
            if let Some(note) = plan.note {
                self.recorder.record(&*volume, severity(&note), note.reason, note.message);
            }
            let Some(step) = plan.step else { break };
            if let Written::Volume(new) = self.execute(&Target::Volume(name.to_owned()), step).await? {
                volume = new;
            }
        }
        Ok(())
    }

    /// The claim a volume refers to. That it is gone, only the server itself can say: much follows from it.
    async fn claim_state(&self, volume: &PersistentVolume) -> Result<ClaimState, ReconcileError> {
        let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()) else { return Ok(ClaimState::None) };
        let key = ObjectKey::new(reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
        let uid = reference.uid.unwrap_or_default();
        let meant = |claim: &PersistentVolumeClaim| uid.is_empty() || claim.metadata.uid.as_ref() == Some(&uid);
        if let Some(claim) = self.informers.claims.get(&key).filter(|claim| meant(claim)) {
            return Ok(ClaimState::Present(claim));
        }
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        let live = call(|| format!("looking for claim {key}"), api.get_opt(&key.name)).await?;
        Ok(match live.filter(|claim| meant(claim)) {
            Some(claim) => ClaimState::Present(Arc::new(claim)),
            // Reserved by hand for a claim that does not exist yet.
            None if uid.is_empty() => ClaimState::None,
            None => ClaimState::Gone,
        })
    }

    fn claims_api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default())
    }

    fn volumes_api(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }
}

/// What a step has written, as the server answered.
enum Written {
    Claim(Arc<PersistentVolumeClaim>),
    Volume(Arc<PersistentVolume>),
}

fn severity(note: &Note) -> Severity {
    if note.warning { Severity::Warning } else { Severity::Normal }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
