//! Which sets a change concerns.

use informer::{Change, Informer};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kinds::{ObjectKey, Selector};
use plan::statefulset::{hook_owner, may_claim, parent_of};

/// The set that controls the pod, before and after, or the pod for which it runs a hook. For a pod of nobody, every set that may take it in or wants its name.
pub(super) fn of_pod(sets: &Informer<StatefulSet>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let (old, new) = (change.old.as_deref(), change.new.as_deref());
    let mut keys = owners(sets, change, old.map(|pod| &pod.metadata), new.map(|pod| &pod.metadata));
    let hook_of = new.or(old).and_then(hook_owner).and_then(|owner| parent_of(&owner.name));
    keys.extend(hook_of.map(|set| ObjectKey::new(change.key.namespace.as_str(), set)).filter(|key| sets.get(key).is_some()));
    let orphan = new.or(old).filter(|pod| controller(&pod.metadata).is_none());
    let same = |before: &Pod, after: &Pod| {
        before.metadata.labels == after.metadata.labels && before.metadata.owner_references == after.metadata.owner_references
    };
    match (old, new) {
        (Some(before), Some(after)) if same(before, after) => {}
        _ => keys.extend(orphan.into_iter().flat_map(|pod| takers(sets, &change.key, pod))),
    }
    keys
}

/// The sets that a claim may be of, if its owners changed or it is gone: nothing else about it matters to them.
pub(super) fn of_claim(sets: &Informer<StatefulSet>, change: &Change<PersistentVolumeClaim>) -> Vec<ObjectKey> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && old.metadata.owner_references == new.metadata.owner_references
    {
        return Vec::new();
    }
    if change.old.is_none() {
        return Vec::new();
    }
    let sets = sets.in_namespace(&change.key.namespace);
    sets.iter().filter(|set| may_claim(set, &change.key.name)).map(|set| key_of(set)).collect()
}

/// The set that lost a revision.
pub(super) fn of_revision(sets: &Informer<StatefulSet>, change: &Change<ControllerRevision>) -> Vec<ObjectKey> {
    match &change.new {
        Some(_) => Vec::new(),
        None => owners(sets, change, change.old.as_deref().map(|revision| &revision.metadata), None),
    }
}

/// The living sets that control an object, before and after.
fn owners<K>(sets: &Informer<StatefulSet>, change: &Change<K>, old: Option<&ObjectMeta>, new: Option<&ObjectMeta>) -> Vec<ObjectKey> {
    let references = [old.and_then(controller), new.and_then(controller)].into_iter().flatten();
    let mut keys: Vec<_> = references.filter_map(|owner| owner_key(sets, &change.key.namespace, owner)).collect();
    keys.dedup();
    keys
}

fn owner_key(sets: &Informer<StatefulSet>, namespace: &str, owner: &OwnerReference) -> Option<ObjectKey> {
    let key = ObjectKey::new(namespace, owner.name.as_str());
    let set = sets.get(&key)?;
    (set.metadata.uid.as_deref() == Some(owner.uid.as_str())).then_some(key)
}

fn takers(sets: &Informer<StatefulSet>, pod_key: &ObjectKey, pod: &Pod) -> Vec<ObjectKey> {
    let selects = |set: &StatefulSet| {
        let selector = set.spec.as_ref().map(|spec| Selector::from_label_selector(&spec.selector));
        selector.is_some_and(|selector| selector.is_ok_and(|selector| selector.matches(pod.metadata.labels.as_ref())))
    };
    let named = parent_of(&pod_key.name);
    let sets = sets.in_namespace(&pod_key.namespace);
    sets.iter().filter(|set| set.metadata.name.as_deref() == named || selects(set)).map(|set| key_of(set)).collect()
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn key_of(set: &StatefulSet) -> ObjectKey {
    ObjectKey::new(set.metadata.namespace.clone().unwrap_or_default(), set.metadata.name.clone().unwrap_or_default())
}
