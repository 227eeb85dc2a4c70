//! The pods without a node.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kinds::ObjectKey;
use plan::schedule::{Demand, claims_of};

use super::Keys;

const SCHEDULER: &str = "default-scheduler";

/// Every pod that waits for a node, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: BTreeMap<ObjectKey, Entry>,
    /// The pods to try next, the most important first.
    ready: BTreeMap<Rank, ObjectKey>,
    parked: Keys,
    /// Pods by the claims they use.
    users: BTreeMap<ObjectKey, Keys>,
}

/// By priority, then by age; the key makes it unique.
type Rank = (Reverse<i32>, Timestamp, ObjectKey);

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) pod: Arc<Pod>,
    pub(super) demand: Arc<Demand>,
    pub(super) phase: Phase,
    /// Writes that failed since the pod was last tried with success.
    failures: u32,
}

/// Each phase from `Choosing` on holds room on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be tried.
    Ready,
    /// Tried, and fits nowhere, or its writes failed. A change may help.
    Parked { message: String },
    /// The claims are being told the node.
    Choosing { node: String },
    /// The claims know the node and are not bound yet.
    Claims { node: String },
    /// Being bound, or bound and not yet seen so.
    Binding { node: String },
}

impl Entry {
    pub(super) fn uid(&self) -> Option<String> {
        self.pod.metadata.uid.clone()
    }

    pub(super) fn is_parked_with(&self, wanted: &str) -> bool {
        matches!(&self.phase, Phase::Parked { message } if message == wanted)
    }

    /// What the pod's condition says about why it has no node.
    pub(super) fn said(&self) -> Option<&str> {
        let conditions = self.pod.status.as_ref()?.conditions.as_ref()?;
        let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
        scheduled.message.as_deref()
    }

    fn rank(&self, key: &ObjectKey) -> Rank {
        let priority = self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let created = self.pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0);
        (Reverse(priority), created, key.clone())
    }
}

/// Whether a pod without a node is ours to place: it lives, is not gated, and names no other scheduler.
pub(super) fn is_for_us(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ended = pod.status.as_ref().is_some_and(|status| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")));
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let ours = spec.scheduler_name.as_deref().is_none_or(|name| name == SCHEDULER);
    ours && !gated && !ended && pod.metadata.deletion_timestamp.is_none()
}

impl Pending {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Takes over a pod as it is now. A change that can't matter wakes nobody.
    pub(super) fn put(&mut self, key: &ObjectKey, pod: Arc<Pod>) {
        let demand = Arc::new(Demand::of(&pod));
        if let Some(entry) = self.entries.get_mut(key) {
            let same = entry.demand == demand;
            (entry.pod, entry.demand) = (pod, demand);
            if !same {
                self.wake(key);
            }
            return;
        }
        for claim in claims_of(&pod) {
            self.users.entry(claim).or_default().insert(key.clone());
        }
        let entry = Entry { pod, demand, phase: Phase::Ready, failures: 0 };
        self.ready.insert(entry.rank(key), key.clone());
        self.entries.insert(key.clone(), entry);
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.ready.remove(&entry.rank(key));
        self.parked.remove(key);
        for claim in claims_of(&entry.pod) {
            if let Some(users) = self.users.get_mut(&claim) {
                users.remove(key);
                if users.is_empty() {
                    self.users.remove(&claim);
                }
            }
        }
    }

    /// The next pod to try.
    pub(super) fn next(&mut self) -> Option<ObjectKey> {
        self.ready.pop_first().map(|(_, key)| key)
    }

    pub(super) fn users_of(&self, claim: &ObjectKey) -> Vec<ObjectKey> {
        self.users.get(claim).into_iter().flatten().cloned().collect()
    }

    pub(super) fn waiting_for_claims_on(&self, lost: &str) -> Vec<ObjectKey> {
        let waiting = self.entries.iter().filter(|(_, entry)| matches!(&entry.phase, Phase::Claims { node } if node == lost));
        waiting.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn is_current(&self, key: &ObjectKey, uid: &Option<String>) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.pod.metadata.uid == *uid)
    }

    /// Moves a pod into a phase in which it is neither tried nor parked.
    pub(super) fn enter(&mut self, key: &ObjectKey, phase: Phase) -> Option<&Entry> {
        self.parked.remove(key);
        let entry = self.entries.get_mut(key)?;
        entry.phase = phase;
        Some(entry)
    }

    /// Puts a pod aside. Whether what it waits for is news.
    pub(super) fn park(&mut self, key: &ObjectKey, message: String) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let news = entry.said() != Some(&message);
        entry.phase = Phase::Parked { message };
        self.parked.insert(key.clone());
        news
    }

    /// Puts a pod aside after a failed write; its uid and how often that has happened.
    pub(super) fn failed(&mut self, key: &ObjectKey) -> Option<(Option<String>, u32)> {
        let entry = self.entries.get_mut(key)?;
        entry.failures = entry.failures.saturating_add(1);
        entry.phase = Phase::Parked { message: String::new() };
        Some((entry.uid(), entry.failures))
    }

    /// Tries a parked pod again.
    pub(super) fn wake(&mut self, key: &ObjectKey) {
        if self.entries.get(key).is_some_and(|entry| matches!(entry.phase, Phase::Parked { .. })) {
            self.make_ready(key);
        }
    }

    pub(super) fn wake_all(&mut self) {
        for key in std::mem::take(&mut self.parked) {
            self.wake(&key);
        }
    }

    /// Tries those again that other pods may have made room for by being placed.
    pub(super) fn wake_dependents(&mut self) {
        let depends = |key: &&ObjectKey| self.entries.get(*key).is_some_and(|entry| entry.demand.depends_on_peers());
        let keys: Vec<_> = self.parked.iter().filter(depends).cloned().collect();
        keys.iter().for_each(|key| self.wake(key));
    }

    pub(super) fn make_ready(&mut self, key: &ObjectKey) {
        self.parked.remove(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.phase = Phase::Ready;
            self.ready.insert(entry.rank(key), key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, spec: Value) -> (ObjectKey, Arc<Pod>) {
        let value = json!({"metadata": {"namespace": "default", "name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec});
        (ObjectKey::new("default", name), Arc::new(serde_json::from_value(value).unwrap()))
    }

    fn put(pending: &mut Pending, name: &str, spec: Value) -> ObjectKey {
        let (key, pod) = pod(name, spec);
        pending.put(&key, pod);
        key
    }

    #[test]
    fn the_important_are_tried_before_the_old_and_the_old_before_the_young() {
        let mut pending = Pending::default();
        put(&mut pending, "b", json!({"containers": []}));
        put(&mut pending, "a", json!({"containers": []}));
        put(&mut pending, "z", json!({"containers": [], "priority": 5}));
        let order: Vec<_> = std::iter::from_fn(|| pending.next()).map(|key| key.name).collect();
        assert_eq!(order, ["z", "a", "b"]);
    }

    #[test]
    fn a_parked_pod_is_tried_again_when_woken_and_not_when_its_status_changes() {
        let mut pending = Pending::default();
        let key = put(&mut pending, "a", json!({"containers": []}));
        pending.next();
        assert!(pending.park(&key, "0/0".into()));
        put(&mut pending, "a", json!({"containers": []}));
        assert_eq!(pending.next(), None);
        pending.wake_all();
        assert_eq!(pending.next(), Some(key));
    }

    #[test]
    fn users_of_a_claim_are_known_until_they_are_gone() {
        let mut pending = Pending::default();
        let spec = json!({"containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
        let key = put(&mut pending, "a", spec);
        let claim = ObjectKey::new("default", "data");
        assert_eq!(pending.users_of(&claim), std::slice::from_ref(&key));
        pending.remove(&key);
        assert!(pending.users_of(&claim).is_empty() && pending.users.is_empty() && pending.next().is_none());
    }

    #[test]
    fn gated_ended_and_foreign_pods_are_not_ours() {
        let ours = |spec: Value| is_for_us(&pod("a", spec).1);
        assert!(ours(json!({"containers": []})));
        assert!(!ours(json!({"containers": [], "schedulingGates": [{"name": "g"}]})));
        assert!(!ours(json!({"containers": [], "schedulerName": "other"})));
    }
}
