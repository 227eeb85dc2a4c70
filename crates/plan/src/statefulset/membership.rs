//! Which pods and revisions are the set's.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kinds::Ordinals;

use super::identity::ordinal_of;
use super::member::Member;
use super::spec::Spec;
use super::{Action, Observed};

/// The set's pods, sorted into those that are wanted and those that are not.
pub(super) struct Members<'a> {
    /// In range, by ascending ordinal.
    pub(super) replicas: Vec<Member<'a>>,
    /// Out of range, by descending ordinal.
    pub(super) condemned: Vec<Member<'a>>,
    /// Pods of nobody that have names of the set, by ordinal.
    pub(super) strangers: BTreeMap<u32, &'a Pod>,
}

impl<'a> Members<'a> {
    pub(super) fn of(observed: &'a Observed, spec: &Spec<'_>, now: Timestamp) -> Self {
        let mut members = Self { replicas: Vec::with_capacity(observed.pods.len()), condemned: Vec::new(), strangers: BTreeMap::new() };
        for pod in &observed.pods {
            let Some(ordinal) = ordinal(pod, spec).filter(|_| pod.metadata.namespace.as_deref() == Some(spec.namespace)) else {
                continue;
            };
            match controller(&pod.metadata) {
                Some(owner) if owner.uid == spec.uid => members.sort_in(Member::of(ordinal, pod, spec.min_ready, now), spec),
                Some(_) => {}
                None => drop(members.strangers.insert(ordinal, pod)),
            }
        }
        members.replicas.sort_unstable_by_key(|member| member.ordinal);
        members.condemned.sort_unstable_by_key(|member| std::cmp::Reverse(member.ordinal));
        members
    }

    fn sort_in(&mut self, member: Member<'a>, spec: &Spec<'_>) {
        match spec.ordinals.contains(member.ordinal) {
            true => self.replicas.push(member),
            false => self.condemned.push(member),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Member<'a>> {
        self.replicas.iter().chain(&self.condemned)
    }

    /// Every wanted ordinal with its pod, ascending. Lazy: there may be billions.
    pub(super) fn slots<'b>(&'b self, wanted: &'b Ordinals) -> impl Iterator<Item = (u32, Option<&'b Member<'a>>)> {
        let mut replicas = self.replicas.iter().peekable();
        wanted.iter().map(move |ordinal| (ordinal, replicas.next_if(|member| member.ordinal == ordinal)))
    }
}

/// Takes in and gives up pods and revisions.
pub(super) fn changes(observed: &Observed, spec: &Spec<'_>) -> Vec<Action> {
    let revisions = observed.revisions.iter().filter(|revision| controller(&revision.metadata).is_none() && is_own(revision, spec));
    let revisions = revisions.map(|revision| adopt_revision(revision, spec));
    revisions.chain(observed.pods.iter().filter_map(|pod| pod_change(pod, spec))).collect()
}

/// Whether a revision is the set's, or could be.
pub(super) fn is_own(revision: &ControllerRevision, spec: &Spec<'_>) -> bool {
    let owned = controller(&revision.metadata).is_none_or(|owner| owner.uid == spec.uid);
    owned && spec.selector.matches(revision.metadata.labels.as_ref())
}

fn pod_change(pod: &Arc<Pod>, spec: &Spec<'_>) -> Option<Action> {
    let fits = || ordinal(pod, spec).is_some() && spec.selector.matches(pod.metadata.labels.as_ref());
    match controller(&pod.metadata) {
        Some(owner) if owner.uid == spec.uid && !fits() => Some(release(pod, spec)),
        None if pod.metadata.deletion_timestamp.is_none() && fits() => Some(adopt(pod, spec)),
        _ => None,
    }
}

fn adopt(pod: &Pod, spec: &Spec<'_>) -> Action {
    let owners = with_owner(&pod.metadata, spec);
    let (name, uid, resource_version) = identify(&pod.metadata);
    Action::AdoptPod { name, uid, resource_version, owners }
}

fn release(pod: &Pod, spec: &Spec<'_>) -> Action {
    let owners = pod.metadata.owner_references.iter().flatten().filter(|owner| owner.uid != spec.uid).cloned().collect();
    let (name, uid, resource_version) = identify(&pod.metadata);
    Action::ReleasePod { name, uid, resource_version, owners }
}

fn adopt_revision(revision: &ControllerRevision, spec: &Spec<'_>) -> Action {
    let (name, _, resource_version) = identify(&revision.metadata);
    Action::AdoptRevision { name, resource_version, owners: with_owner(&revision.metadata, spec) }
}

/// The owners with the set as the one who controls.
fn with_owner(meta: &ObjectMeta, spec: &Spec<'_>) -> Vec<OwnerReference> {
    let others = meta.owner_references.iter().flatten().filter(|owner| owner.uid != spec.uid).cloned();
    others.chain([spec.owner()]).collect()
}

fn identify(meta: &ObjectMeta) -> (String, String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&meta.name), text(&meta.uid), text(&meta.resource_version))
}

fn ordinal(pod: &Pod, spec: &Spec<'_>) -> Option<u32> {
    ordinal_of(spec.name, pod.metadata.name.as_deref()?).map(|ordinal| ordinal.0)
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}
