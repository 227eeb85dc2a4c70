//! Gathers from the views what a plan depends on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kinds::ObjectKey;
use plan::statefulset::{Observed, claim_names, hook_owner, revision_prefix};

use super::StatefulSets;

impl StatefulSets {
    pub(super) fn observe(&self, set: &Arc<StatefulSet>) -> Observed {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let mut pods = self.pods.owned_by(uid);
        pods.retain(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
        let uids = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref());
        let hook_pods = uids.flat_map(|uid| self.pods.owned_by(uid)).filter(|pod| hook_owner(pod).is_some()).collect();
        pods.extend(self.pods.orphans(namespace));
        Observed {
            kind: self.kind,
            claims: self.observed_claims(set, &pods, namespace),
            revisions: self.observed_revisions(set, namespace, uid),
            running_hooks: self.hooks.running(),
            hook_pods,
            pods,
            set: set.clone(),
        }
    }

    fn observed_claims(&self, set: &StatefulSet, pods: &[Arc<Pod>], namespace: &str) -> HashMap<String, Arc<PersistentVolumeClaim>> {
        let names = claim_names(set, pods).into_iter();
        names.filter_map(|name| self.claims.get(&ObjectKey::new(namespace, name.clone())).map(|claim| (name, claim))).collect()
    }

    fn observed_revisions(&self, set: &StatefulSet, namespace: &str, uid: &str) -> Vec<Arc<ControllerRevision>> {
        let prefix = revision_prefix(set.metadata.name.as_deref().unwrap_or_default());
        let mut revisions = self.revisions.owned_by(uid);
        revisions.extend(self.revisions.orphans(namespace));
        revisions.extend(self.revisions.with_prefix(namespace, &prefix));
        let by_name: BTreeMap<_, _> = revisions.into_iter().map(|revision| (revision.metadata.name.clone(), revision)).collect();
        by_name.into_values().collect()
    }
}
