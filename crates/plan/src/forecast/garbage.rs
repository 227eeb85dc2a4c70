//! What goes because its owner is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use super::World;
use super::pods::{has_ended, is_pending, mounted};
use crate::statefulset::ordinal_of;

/// How an object stands with its owners.
enum Standing {
    /// It has none, or all are there.
    Kept,
    /// Some are gone, and others keep it: only these references stay.
    Fewer(Vec<OwnerReference>),
    /// All are gone.
    Garbage,
}

impl World {
    /// Takes away what lost all of its owners, and finishes the deletion of claims that no pod uses any more; whether there
    /// was anything to do. A set that is being deleted counts as gone. Claims in use stay until their pod is gone.
    pub fn collect_garbage(&mut self) -> bool {
        let pods = self.collect_pods();
        let revisions = self.collect_revisions();
        let claims = self.collect_claims();
        pods | revisions | claims | self.finish_claims()
    }

    fn collect_pods(&mut self) -> bool {
        let garbage: Vec<_> = self.pods.values().filter(|pod| self.is_garbage(&pod.metadata)).map(|pod| name_of(&pod.metadata)).collect();
        garbage.iter().filter(|name| self.delete_pod(name)).count() > 0
    }

    fn collect_revisions(&mut self) -> bool {
        let garbage = self.revisions.values().filter(|revision| self.is_garbage(&revision.metadata));
        let garbage: Vec<_> = garbage.map(|revision| name_of(&revision.metadata)).collect();
        garbage.iter().filter(|name| self.revisions.remove(*name).is_some()).count() > 0
    }

    fn collect_claims(&mut self) -> bool {
        let now = self.now;
        let judged: Vec<_> = self.claims.values().map(|claim| (name_of(&claim.metadata), self.standing(&claim.metadata))).collect();
        let mut changed = false;
        for (name, standing) in judged {
            changed |= match standing {
                Standing::Kept => false,
                Standing::Fewer(owners) => self.change_claim(&name, |claim| claim.metadata.owner_references = Some(owners)),
                Standing::Garbage => self.change_claim(&name, |claim| claim.metadata.deletion_timestamp = Some(Time(now))),
            };
        }
        changed
    }

    fn finish_claims(&mut self) -> bool {
        let in_use: BTreeSet<_> = self.pods.values().filter(|pod| runs(pod)).flat_map(|pod| mounted(pod).map(str::to_owned)).collect();
        let before = self.claims.len();
        self.claims.retain(|name, claim| claim.metadata.deletion_timestamp.is_none() || in_use.contains(name));
        self.claims.len() != before
    }

    fn is_garbage(&self, meta: &ObjectMeta) -> bool {
        matches!(self.standing(meta), Standing::Garbage)
    }

    fn standing(&self, meta: &ObjectMeta) -> Standing {
        let owners = meta.owner_references.as_deref().unwrap_or_default();
        let kept: Vec<_> = owners.iter().filter(|owner| !self.is_gone(owner)).cloned().collect();
        match kept.len() {
            _ if meta.deletion_timestamp.is_some() => Standing::Kept,
            count if count == owners.len() => Standing::Kept,
            0 => Standing::Garbage,
            _ => Standing::Fewer(kept),
        }
    }

    /// Only owners that would be in this world if they existed can be known to be gone.
    fn is_gone(&self, owner: &OwnerReference) -> bool {
        let set = &self.set.metadata;
        let set_name = set.name.as_deref().unwrap_or_default();
        match owner.kind.as_str() {
            "Pod" if ordinal_of(set_name, &owner.name).is_some() => {
                let pod = self.pods.get(&owner.name);
                pod.is_none_or(|pod| pod.metadata.uid.as_deref() != Some(owner.uid.as_str()))
            }
            "StatefulSet" if owner.name == set_name => set.uid.as_deref() != Some(owner.uid.as_str()) || set.deletion_timestamp.is_some(),
            _ => false,
        }
    }
}

fn runs(pod: &Arc<Pod>) -> bool {
    !is_pending(pod) && !has_ended(pod)
}

fn name_of(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}
