//! The claims of an ordinal: made before its pod, owned as the retention policy asks, never deleted.

use std::fmt::Write;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kinds::Ordinal;

use super::member::Member;
use super::spec::Spec;
use super::{Action, Round, WaitingOn};

/// Builds names of claims without allocating for each.
#[derive(Default)]
pub(super) struct ClaimName(String);

impl ClaimName {
    pub(super) fn of(&mut self, template: &str, set: &str, ordinal: u32) -> &str {
        self.0.clear();
        for part in [template, "-", set, "-"] {
            self.0.push_str(part);
        }
        write!(self.0, "{ordinal}").expect("a string takes all that is written");
        &self.0
    }
}

/// What the owners of a claim should be, compared with what they are.
#[derive(Debug, PartialEq)]
enum Owners {
    AsWanted,
    Change(Vec<OwnerReference>),
    /// An owner of the right name is another object that is gone or going; the claim will follow it.
    Stale,
}

impl Round<'_> {
    /// The requests that give an ordinal its claims, before its pod is created.
    pub(super) fn claims_before_pod(&mut self, ordinal: u32) -> Result<Vec<Action>, WaitingOn> {
        let mut actions = Vec::new();
        for template in self.spec.claims {
            let name = self.claim_name.of(template.metadata.name.as_deref().unwrap_or_default(), self.spec.name, ordinal);
            match self.observed.claims.get(name) {
                None => actions.push(create(&self.spec, template, name, ordinal)),
                Some(claim) if claim.metadata.deletion_timestamp.is_some() => {
                    return Err(WaitingOn::ClaimGone { claim: name.to_owned() });
                }
                Some(claim) => match self.owners(claim, ordinal, None) {
                    Owners::AsWanted => {}
                    Owners::Change(owners) => actions.push(update(claim, ordinal, owners)),
                    Owners::Stale => return Err(WaitingOn::ClaimGone { claim: claim_name(claim).to_owned() }),
                },
            }
        }
        Ok(actions)
    }

    /// Corrects the owners of a replica's claims; `missing` also creates those that are not there.
    pub(super) fn keep_claims(&mut self, member: &Member<'_>, missing: bool) {
        for template in self.spec.claims {
            let name = self.claim_name.of(template.metadata.name.as_deref().unwrap_or_default(), self.spec.name, member.ordinal);
            match self.observed.claims.get(name) {
                None if missing => self.actions.push(create(&self.spec, template, name, member.ordinal)),
                None => {}
                Some(claim) => {
                    if let Owners::Change(owners) = self.owners(claim, member.ordinal, Some(member)) {
                        self.actions.push(update(claim, member.ordinal, owners));
                    }
                }
            }
        }
    }

    fn owners(&mut self, claim: &PersistentVolumeClaim, ordinal: u32, member: Option<&Member<'_>>) -> Owners {
        let condemned = !self.spec.ordinals.contains(ordinal);
        let current = claim.metadata.owner_references.as_deref().unwrap_or_default();
        let wanted = wanted_owner(&self.spec, condemned, member);
        if current.is_empty() {
            return wanted.map_or(Owners::AsWanted, |owner| Owners::Change(vec![owner]));
        }
        let pod = self.spec.pod_name(ordinal);
        let (own, others) = split(current, &self.spec, &pod, member.map(Member::uid));
        let is_ours = |owner: &OwnerReference| is_set(owner, &self.spec) || is_pod(owner, &pod);
        if others.iter().any(|owner| is_ours(owner)) {
            return Owners::Stale;
        }
        let others: Vec<_> = others.into_iter().cloned().collect();
        if others.iter().any(|owner| owner.controller == Some(true)) {
            if wanted.is_some() {
                self.conflicts.push(claim_name(claim).to_owned());
            }
            return if own.is_empty() { Owners::AsWanted } else { Owners::Change(others) };
        }
        let fits = match (&wanted, own.as_slice()) {
            (None, []) => true,
            (Some(wanted), [owner]) => wanted.uid == owner.uid && owner.controller == Some(true),
            _ => false,
        };
        if fits { Owners::AsWanted } else { Owners::Change(others.into_iter().chain(wanted).collect()) }
    }
}

/// The one who takes the claim along when it goes: nobody, the set, or the condemned pod.
fn wanted_owner(spec: &Spec<'_>, condemned: bool, member: Option<&Member<'_>>) -> Option<OwnerReference> {
    match member {
        Some(pod) if condemned && spec.delete_claims_when_scaled => Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }),
        _ => spec.delete_claims_with_set.then(|| spec.owner()),
    }
}

/// The references to this set and this pod, and all others.
fn split<'a>(
    owners: &'a [OwnerReference],
    spec: &Spec<'_>,
    pod: &str,
    pod_uid: Option<&str>,
) -> (Vec<&'a OwnerReference>, Vec<&'a OwnerReference>) {
    let own = |owner: &&OwnerReference| {
        (is_set(owner, spec) && owner.uid == spec.uid) || (is_pod(owner, pod) && Some(owner.uid.as_str()) == pod_uid)
    };
    owners.iter().partition(own)
}

fn is_set(owner: &OwnerReference, spec: &Spec<'_>) -> bool {
    owner.kind == "StatefulSet" && spec.kind.has_version(&owner.api_version) && owner.name == spec.name
}

fn is_pod(owner: &OwnerReference, name: &str) -> bool {
    owner.kind == "Pod" && owner.api_version == "v1" && owner.name == name
}

fn create(spec: &Spec<'_>, template: &PersistentVolumeClaim, name: &str, ordinal: u32) -> Action {
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    labels.extend(spec.wanted.selector.match_labels.clone().unwrap_or_default());
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(spec.namespace.to_owned()),
        labels: Some(labels),
        annotations: template.metadata.annotations.clone(),
        finalizers: template.metadata.finalizers.clone(),
        owner_references: wanted_owner(spec, false, None).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let claim = PersistentVolumeClaim { metadata, spec: template.spec.clone(), status: None };
    Action::CreateClaim { ordinal: Ordinal(ordinal), claim: Box::new(claim) }
}

fn update(claim: &PersistentVolumeClaim, ordinal: u32, owners: Vec<OwnerReference>) -> Action {
    let resource_version = claim.metadata.resource_version.clone().unwrap_or_default();
    Action::UpdateClaim { ordinal: Ordinal(ordinal), name: claim_name(claim).to_owned(), resource_version, owners }
}

fn claim_name(claim: &PersistentVolumeClaim) -> &str {
    claim.metadata.name.as_deref().unwrap_or_default()
}
