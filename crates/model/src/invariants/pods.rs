//! Which pods may come and go.

use k8s_openapi::api::core::v1::Pod;
use kinds::gate::{PASSED, PRE_DELETE, PROGRESS};
use plan::statefulset::{Action, DeleteReason, Plan, ordinal_of};

use super::{Invariant, Judge, Verdict, is_going, name_of, phase, ready_since, require, revision_of};

impl Judge<'_> {
    /// How many pods a plan moves.
    pub(super) fn moves(&self, plan: &Plan) -> Verdict {
        let created = plan.actions.iter().filter(|action| matches!(action, Action::CreatePod { .. })).count();
        let taken = plan.actions.iter().filter(|action| takes_down(action)).count();
        let updates = plan.actions.iter().filter(|action| updates(action)).count();
        let most = if updates == taken { self.max_unavailable() } else { 1 };
        let moderate = created <= self.absent_from_batch() + 1 && (created == 0 || taken == 0) && taken <= most;
        require(!self.is_ordered() || moderate, Invariant::OneAtATime, || {
            format!("{created} pods are created and {taken} taken down in one plan")
        })?;
        self.budget(plan)
    }

    fn budget(&self, plan: &Plan) -> Verdict {
        let taken = plan.actions.iter().filter(|action| takes_down(action)).filter_map(Action::ordinal);
        self.disruption(&taken.map(|ordinal| ordinal.0).collect::<Vec<_>>())
    }

    /// Pods at these ordinals that are about to be deleted together: those that serve and are wanted are taken down only as
    /// long as enough others serve.
    ///
    /// # Errors
    /// If too few are left.
    pub fn disruption(&self, ordinals: &[u32]) -> Verdict {
        let taken = ordinals.iter().filter(|ordinal| self.wants(**ordinal) && self.serves(**ordinal)).count();
        let unavailable = self.wanted.iter().filter(|ordinal| !self.serves(**ordinal)).count();
        require(taken == 0 || taken + unavailable <= self.max_unavailable(), Invariant::UnavailabilityBudget, || {
            format!("{taken} pods that serve are deleted while {unavailable} don't, and {} may not", self.max_unavailable())
        })
    }

    /// Each action of a plan by itself; and claims come before the pod that mounts them.
    pub(super) fn in_turn(&self, actions: &[Action]) -> Verdict {
        for (at, action) in actions.iter().enumerate() {
            self.action(action)?;
            match action {
                Action::CreatePod { ordinal, pod } => {
                    let wanted = self.wants(ordinal.0);
                    require(wanted, Invariant::DesiredState, || format!("{} is created and not wanted", name_of(&**pod)))?;
                    self.has_claims(pod, &actions[..at])?;
                }
                Action::DeletePod { name, reason, .. } if !self.is_through_gate(name, reason) => {
                    require(false, Invariant::GateIsPassed, || format!("{action}, and its hook did not succeed"))?;
                }
                Action::UpdateInPlace { name, revision, .. } => {
                    let passes = self.has_passed(name, &update_to(revision));
                    require(passes, Invariant::GateIsPassed, || format!("{action}, and its hook did not succeed"))?;
                }
                Action::DeletePod { ordinal, .. } if self.wants(ordinal.0) => {
                    self.pods.get(&ordinal.0).map_or(Ok(()), |pod| self.keeps_claims(pod, &actions[..at]))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the hook of the set has succeeded for what a pod goes for.
    fn is_through_gate(&self, name: &str, reason: &DeleteReason) -> bool {
        match reason {
            DeleteReason::Outdated { wanted, .. } => self.has_passed(name, &update_to(wanted)),
            DeleteReason::ScaledDown => self.has_passed(name, "\"ScaleDown\""),
            DeleteReason::Ended | DeleteReason::Stuck { .. } => true,
        }
    }

    /// Whether the hook has succeeded for this purpose, if the pod is ready and there is a hook.
    fn has_passed(&self, name: &str, purpose: &str) -> bool {
        let has_gate = self.observed.set.metadata.annotations.iter().flatten().any(|(key, _)| key == PRE_DELETE);
        let pod = self.pods.values().find(|pod| name_of(**pod) == name && ready_since(pod).is_some());
        let Some(pod) = pod.filter(|_| has_gate) else { return true };
        let find = |key: &str| pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
        find(PASSED).is_some() && find(PROGRESS).is_some_and(|progress| progress.contains(purpose))
    }

    fn has_claims(&self, pod: &Pod, before: &[Action]) -> Verdict {
        let created =
            |name: &str| before.iter().any(|action| matches!(action, Action::CreateClaim { claim, .. } if name_of(&**claim) == name));
        let there = |name: &str| self.observed.claims.get(name).is_some_and(|claim| !is_going(&claim.metadata));
        let missing = claims_of(pod).into_iter().find(|name| !there(name) && !created(name));
        require(missing.is_none(), Invariant::ClaimsPrecedePods, || format!("{} is created without {missing:?}", name_of(pod)))
    }

    /// A pod that is about to exist.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn creation(&self, pod: &Pod) -> Verdict {
        let name = name_of(pod);
        let ordinal = ordinal_of(self.set, name).map_or(u32::MAX, |ordinal| ordinal.0);
        require(!self.pods.contains_key(&ordinal), Invariant::OnePodPerOrdinal, || {
            format!("{name} is created while there is a pod of this name")
        })?;
        let lower: Vec<_> = self.wanted.iter().filter(|lower| **lower < ordinal && !self.serves(**lower)).collect();
        require(!self.is_ordered() || lower.len() <= self.absent_from_batch(), Invariant::OrderedReady, || {
            format!("{name} is created while {lower:?} do not serve")
        })?;
        self.revision_of_new_pod(ordinal, pod)
    }

    /// How many replicas may be absent below one that is created: the rest of a batch that an update took down together.
    fn absent_from_batch(&self) -> usize {
        let rolls_out = self.update_revision().is_some() && self.current_revision() != self.update_revision();
        if rolls_out { self.max_unavailable() - 1 } else { 0 }
    }

    /// A pod that is about to be deleted: not one that is on its way, and only for a reason.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn deletion(&self, name: &str, uid: &str) -> Verdict {
        let found = ordinal_of(self.set, name).and_then(|ordinal| Some((ordinal.0, *self.pods.get(&ordinal.0)?)));
        let Some((ordinal, pod)) = found.filter(|(_, pod)| pod.metadata.uid.as_deref() == Some(uid)) else {
            return require(false, Invariant::DeletesWhatItSaw, || format!("{name} with uid {uid:?} was not observed"));
        };
        require(!is_going(&pod.metadata), Invariant::HealthyPodsStay, || format!("{name} is on its way already"))?;
        match self.wants(ordinal) {
            true => self.replacement(ordinal, pod),
            false => self.scale_down(ordinal, pod),
        }
    }

    /// From the top, while all that stay serve, the highest first.
    fn scale_down(&self, ordinal: u32, pod: &Pod) -> Verdict {
        let higher = self.pods.iter().find(|(other, pod)| **other > ordinal && !self.wants(**other) && self.is_own(pod));
        let higher = higher.map(|(other, _)| other);
        let absent = self.wanted.iter().find(|replica| !self.serves(**replica));
        require(!self.is_ordered() || (higher.is_none() && absent.is_none()), Invariant::OrderedReady, || {
            format!("{} goes while {higher:?} is there and {absent:?} does not serve", name_of(pod))
        })
    }

    fn replacement(&self, ordinal: u32, pod: &Pod) -> Verdict {
        if matches!(phase(pod), "Failed" | "Succeeded") {
            return Ok(());
        }
        let reason = self.outdated(ordinal, pod);
        require(reason.is_none(), Invariant::HealthyPodsStay, || format!("{}: {}", name_of(pod), reason.unwrap_or_default()))?;
        let waiting = self.wanted.iter().find(|other| **other != ordinal && !self.serves(**other));
        let alone = !self.is_ordered() || self.max_unavailable() > 1 || !self.is_available(pod) || waiting.is_none();
        require(alone, Invariant::OrderedReady, || format!("{} is replaced while {waiting:?} does not serve", name_of(pod)))?;
        self.in_order(pod)
    }

    /// A pod that serves is updated when none of a lower rank is left.
    fn in_order(&self, pod: &Pod) -> Verdict {
        let first = self.partition().unwrap_or(0);
        let is_left = |other: &Pod| {
            let ended = matches!(phase(other), "Failed" | "Succeeded");
            !ended && !is_going(&other.metadata) && Some(revision_of(other)) != self.update_revision()
        };
        let mut left = self.pods.iter().filter(|(ordinal, other)| **ordinal >= first && self.wants(**ordinal) && is_left(other));
        let earlier = left.find(|(_, other)| self.is_available(pod) && self.rank(other) < self.rank(pod)).map(|(ordinal, _)| ordinal);
        require(earlier.is_none(), Invariant::UpdateOrder, || format!("{} is updated before {earlier:?}", name_of(pod)))
    }

    /// Why a replica must not be replaced, if so.
    fn outdated(&self, ordinal: u32, pod: &Pod) -> Option<&'static str> {
        let update = self.update_revision();
        let first = self.partition().unwrap_or(0);
        let is_ready = ready_since(pod).is_some();
        match () {
            () if !self.updates_itself() => Some("only the user deletes pods of this set"),
            () if self.is_paused() => Some("rollouts are paused"),
            () if update.is_none() => Some("there is no update revision yet"),
            () if ordinal >= first && update == Some(revision_of(pod)) && self.partition().is_some() => Some("it has the update revision"),
            () if ordinal >= first && is_ready && update == Some(revision_of(pod)) => Some("it is ready at the update revision"),
            () if ordinal < first && is_ready => Some("it is ready and below the partition"),
            () if ordinal < first && self.current_revision() == Some(revision_of(pod)) => {
                Some("it has the current revision, below the partition")
            }
            () => None,
        }
    }
}

/// The purpose of a hook before an update, as it is noted.
fn update_to(revision: &str) -> String {
    format!("\"Update {revision}\"")
}

/// Whether a pod of the set no longer serves after it.
fn takes_down(action: &Action) -> bool {
    matches!(action, Action::DeletePod { .. } | Action::UpdateInPlace { .. })
}

/// Whether it takes a pod down for the rollout.
fn updates(action: &Action) -> bool {
    matches!(action, Action::DeletePod { reason: DeleteReason::Outdated { .. }, .. } | Action::UpdateInPlace { .. })
}

/// The names of the claims a pod mounts.
pub(crate) fn claims_of(pod: &Pod) -> Vec<&str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).map(|source| source.claim_name.as_str()).collect()
}
