//! What a pod's claims say about where it can go.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::StorageClass;
use kinds::ObjectKey;
use thiserror::Error;

use super::demand::Labels;
use super::refusal::Refusal;
use super::rules::{NodeRule, NodeTerm};
use crate::binding::{self, NO_PROVISIONER, SELECTED_NODE};

/// Where claims, volumes and classes are looked up.
pub struct Storage<'a> {
    pub claim: &'a dyn Fn(&ObjectKey) -> Option<Arc<PersistentVolumeClaim>>,
    pub volume: &'a dyn Fn(&str) -> Option<Arc<PersistentVolume>>,
    pub class: &'a dyn Fn(&str) -> Option<Arc<StorageClass>>,
    /// All volumes; asked for only if a claim waits for one that someone made in advance.
    pub volumes: &'a dyn Fn() -> Vec<Arc<PersistentVolume>>,
    /// Whether there is such a node.
    pub has_node: &'a dyn Fn(&str) -> bool,
}

/// What keeps a pod from every node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VolumeObstacle {
    #[error("persistentvolumeclaim {0:?} not found")]
    NoClaim(String),
    #[error("persistentvolumeclaim {0:?} is being deleted")]
    Deleting(String),
    #[error("persistentvolumeclaim {claim:?} bound to non-existent persistentvolume {volume:?}")]
    Lost { claim: String, volume: String },
    #[error("pod has unbound immediate PersistentVolumeClaims")]
    UnboundImmediate,
    #[error("storageclass.storage.k8s.io {0:?} not found")]
    NoClass(String),
}

/// What a pod's volumes ask of its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeDemand {
    /// Where the bound volumes can be reached; all of them must hold.
    bound: Vec<NodeRule>,
    /// Where volumes may be provisioned; all of them must hold.
    provisionable: Vec<NodeRule>,
    /// For each claim that waits for a volume made in advance: where each candidate can be reached.
    candidates: Vec<Vec<Candidate>>,
    /// Claims that only one pod may use.
    pub(super) exclusive: Vec<ObjectKey>,
    /// The node that a claim has already been promised to.
    promised: Vec<String>,
    /// The claims that are not bound yet and wait for the choice of a node.
    pub waiting: Vec<ObjectKey>,
}

#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    volume: String,
    reach: Option<NodeRule>,
}

/// What the volumes of a pod ask of its node, or what is wrong with them whichever the node.
pub fn volume_demand(pod: &Pod, storage: &Storage<'_>) -> Result<VolumeDemand, VolumeObstacle> {
    let mut demand = VolumeDemand::default();
    for key in claims_of(pod) {
        let claim = (storage.claim)(&key).ok_or_else(|| VolumeObstacle::NoClaim(key.name.clone()))?;
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(VolumeObstacle::Deleting(key.name));
        }
        if is_exclusive(&claim) {
            demand.exclusive.push(key.clone());
        }
        match binding::bound_to(&claim) {
            Some(volume) => demand.add_bound(&key, volume, storage)?,
            None => demand.add_unbound(key, &claim, storage)?,
        }
    }
    Ok(demand)
}

fn is_exclusive(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    modes.into_iter().any(|mode| mode == "ReadWriteOncePod")
}

/// The claims that a pod mounts, those made for it among them.
pub fn claims_of(pod: &Pod) -> Vec<ObjectKey> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{pod_name}-{}", volume.name)),
        (None, None) => None,
    };
    volumes.filter_map(claim).map(|name| ObjectKey::new(namespace, name)).collect()
}

impl VolumeDemand {
    fn add_bound(&mut self, claim: &ObjectKey, volume: &str, storage: &Storage<'_>) -> Result<(), VolumeObstacle> {
        let lost = || VolumeObstacle::Lost { claim: claim.name.clone(), volume: volume.to_owned() };
        let found = (storage.volume)(volume).ok_or_else(lost)?;
        self.bound.extend(binding::reach(&found));
        Ok(())
    }

    fn add_unbound(&mut self, key: ObjectKey, claim: &PersistentVolumeClaim, storage: &Storage<'_>) -> Result<(), VolumeObstacle> {
        let name = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
        if name.is_empty() || binding::wanted_volume(claim).is_some() {
            return Err(VolumeObstacle::UnboundImmediate);
        }
        let class = (storage.class)(name).ok_or_else(|| VolumeObstacle::NoClass(name.to_owned()))?;
        if !binding::waits_for_consumer(&class) {
            return Err(VolumeObstacle::UnboundImmediate);
        }
        let promised = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SELECTED_NODE));
        // A promise to a node that is gone can't be kept.
        self.promised.extend(promised.filter(|node| (storage.has_node)(node)).cloned());
        if class.provisioner == NO_PROVISIONER {
            self.candidates.push(candidates(claim, storage));
        } else {
            self.provisionable.extend(class.allowed_topologies.as_deref().filter(|terms| !terms.is_empty()).map(topologies));
        }
        self.waiting.push(key);
        Ok(())
    }

    pub(super) fn check(&self, node: &str, labels: &Labels) -> Result<(), Refusal> {
        let admitted = |rule: &NodeRule| rule.admits(node, labels);
        if !self.bound.iter().all(admitted) {
            return Err(Refusal::VolumeAffinity);
        }
        let kept = self.promised.iter().all(|promised| promised == node);
        if !kept || !self.provisionable.iter().all(admitted) || !self.enough_candidates(node, labels) {
            return Err(Refusal::NoVolume);
        }
        Ok(())
    }

    /// Whether each claim finds a volume of its own here.
    fn enough_candidates(&self, node: &str, labels: &Labels) -> bool {
        let mut taken: Vec<&str> = Vec::new();
        self.candidates.iter().all(|candidates| {
            let reachable = |candidate: &&Candidate| candidate.reach.as_ref().is_none_or(|rule| rule.admits(node, labels));
            let free = candidates.iter().filter(reachable).find(|candidate| !taken.contains(&candidate.volume.as_str()));
            taken.extend(free.map(|candidate| candidate.volume.as_str()));
            free.is_some()
        })
    }
}

fn candidates(claim: &PersistentVolumeClaim, storage: &Storage<'_>) -> Vec<Candidate> {
    let volumes = (storage.volumes)();
    let suitable = volumes.iter().filter(|volume| binding::suits(claim, volume));
    let candidate = |volume: &Arc<PersistentVolume>| Candidate {
        volume: volume.metadata.name.clone().unwrap_or_default(),
        reach: binding::reach(volume),
    };
    let mut candidates: Vec<_> = suitable.map(|volume| (binding::capacity(volume), candidate(volume))).collect();
    candidates.sort_by(|a, b| (a.0, &a.1.volume).cmp(&(b.0, &b.1.volume)));
    candidates.into_iter().map(|(_, candidate)| candidate).collect()
}

fn topologies(terms: &[TopologySelectorTerm]) -> NodeRule {
    let term = |term: &TopologySelectorTerm| {
        let expressions = term.match_label_expressions.iter().flatten();
        NodeTerm::of_values(expressions.map(|expression| (expression.key.as_str(), expression.values.as_slice())))
    };
    NodeRule::any_of(terms.iter().map(term).collect())
}
