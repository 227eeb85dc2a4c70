//! What may become of claims.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use plan::statefulset::{Action, ordinal_of};

use super::pods::claims_of;
use super::{Invariant, Judge, Verdict, name_of, require};

impl Judge<'_> {
    /// The owners a claim is about to have: whoever owns it takes it along, so a pod may own only a claim that is to be
    /// scaled away, and the set only one that is to go with it.
    ///
    /// # Errors
    /// If the policy does not ask for it.
    pub fn owners_of_claim(&self, claim: &ObjectMeta, owners: Option<&[OwnerReference]>) -> Verdict {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
        let (with_set, scaled) = (
            deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
            deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        );
        let name = claim.name.as_deref().unwrap_or_default();
        for owner in owners.into_iter().flatten().filter(|owner| !is_kept(claim, owner)) {
            let allowed = match owner.kind.as_str() {
                "Pod" => scaled && ordinal_of(self.set, &owner.name).is_some_and(|ordinal| !self.wants(ordinal.0)),
                "StatefulSet" => with_set,
                _ => true,
            };
            require(allowed, Invariant::ClaimsAreKept, || format!("{name} is given to {} {}", owner.kind, owner.name))?;
        }
        Ok(())
    }

    /// A replica that is replaced leaves its claims behind, so by then it must not own them. `before` is what is done first.
    pub(super) fn keeps_claims(&self, pod: &Pod, before: &[Action]) -> Verdict {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let is_owned = |owners: Option<&Vec<OwnerReference>>| owners.into_iter().flatten().any(|owner| owner.uid == uid);
        let owned = |claim: &&str| match before.iter().rev().find_map(|action| new_owners(action, claim)) {
            Some(owners) => is_owned(Some(owners)),
            None => self.observed.claims.get(*claim).is_some_and(|claim| is_owned(claim.metadata.owner_references.as_ref())),
        };
        let lost = claims_of(pod).into_iter().find(owned);
        require(lost.is_none(), Invariant::ClaimsAreKept, || format!("{} goes and takes {} along", name_of(pod), lost.unwrap_or_default()))
    }
}

/// The owners an action gives to a claim.
fn new_owners<'a>(action: &'a Action, claim: &str) -> Option<&'a Vec<OwnerReference>> {
    match action {
        Action::UpdateClaim { name, owners, .. } if name == claim => Some(owners),
        _ => None,
    }
}

/// Whether the claim has this owner already.
fn is_kept(claim: &ObjectMeta, owner: &OwnerReference) -> bool {
    claim.owner_references.iter().flatten().any(|known| known.uid == owner.uid)
}
