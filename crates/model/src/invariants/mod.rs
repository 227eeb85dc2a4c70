//! What must hold at every step, whatever happens.
//!
//! A [`Judge`] knows what was observed before something is done, and says whether it may be done. It reads the objects
//! itself and shares no code with the planner. Judged by what the controller saw, a violation is the planner's fault; judged
//! by the server's own history, as the simulation does, it is somebody's in any case.

mod claims;
pub(crate) mod pods;
pub(crate) mod revisions;

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::extensions::{IN_PLACE_UPDATE, PAUSED, RESERVED_ORDINALS, UPDATE_ORDER};
use plan::statefulset::{Action, Observed, Plan, ordinal_of};
use thiserror::Error;

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    OnePodPerOrdinal,
    ClaimsAreKept,
    ClaimsPrecedePods,
    OrderedReady,
    OneAtATime,
    UnavailabilityBudget,
    HealthyPodsStay,
    GateIsPassed,
    UpdateOrder,
    DeletesWhatItSaw,
    RevisionRules,
    PromotedWhenComplete,
    HistoryInUseIsKept,
    StructureAlone,
    DeletedSetsAreLeftAlone,
    DoneAsPlanned,
    Settles,
    DesiredState,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnePodPerOrdinal => "at most one live pod per ordinal",
            Self::ClaimsAreKept => "a claim is deleted by policy only",
            Self::ClaimsPrecedePods => "claims precede their pod",
            Self::OrderedReady => "ordered pods come and go in order",
            Self::OneAtATime => "an ordered plan moves one pod, an update at most maxUnavailable",
            Self::UnavailabilityBudget => "the budget is not spent on healthy pods beyond its limit",
            Self::HealthyPodsStay => "a pod is deleted for a reason only",
            Self::GateIsPassed => "a pod that is ready goes only after its hook",
            Self::UpdateOrder => "an update takes pods in the order of their ranks",
            Self::DeletesWhatItSaw => "what is deleted is what was observed",
            Self::RevisionRules => "revisions move as the rules allow",
            Self::PromotedWhenComplete => "the update revision becomes the current one when all pods have it",
            Self::HistoryInUseIsKept => "a revision in use is kept",
            Self::StructureAlone => "a change of membership or revisions is planned alone",
            Self::DeletedSetsAreLeftAlone => "a set that is being deleted is left alone",
            Self::DoneAsPlanned => "what is planned from a true view can be done",
            Self::Settles => "a set that is left alone settles",
            Self::DesiredState => "a settled set is as desired",
        })
    }
}

/// A broken rule, and how it was broken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{invariant}: {detail}")]
pub struct Violation {
    pub invariant: Invariant,
    pub detail: String,
}

/// Whether a rule was kept.
pub type Verdict = Result<(), Violation>;

/// Fails with the detail unless the rule was kept.
pub(crate) fn require(kept: bool, invariant: Invariant, detail: impl FnOnce() -> String) -> Verdict {
    if kept { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// Knows what was observed, and judges by it.
pub struct Judge<'a> {
    observed: &'a Observed,
    spec: &'a StatefulSetSpec,
    set: &'a str,
    now: Timestamp,
    /// The ordinals that are to have a pod, ascending.
    wanted: Vec<u32>,
    /// The set's pods by ordinal.
    pods: BTreeMap<u32, &'a Pod>,
}

impl<'a> Judge<'a> {
    /// `None` if there is no set to judge by.
    pub fn of(observed: &'a Observed, now: Timestamp) -> Option<Self> {
        let (set, spec) = (observed.set.metadata.name.as_deref()?, observed.set.spec.as_ref()?);
        let ordinal = |pod: &'a Pod| Some((ordinal_of(set, pod.metadata.name.as_deref()?)?.0, pod));
        let pods = observed.pods.iter().filter_map(|pod| ordinal(pod)).collect();
        Some(Self { observed, spec, set, now, wanted: wanted(&observed.set), pods })
    }

    /// Judges a plan as a whole and each of its actions.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn plan(&self, plan: &Plan) -> Verdict {
        let lines = || plan.actions.iter().map(|action| format!("{action}; ")).collect::<String>();
        let structural = plan.actions.iter().filter(|action| is_structural(action)).count();
        require(structural == 0 || structural == plan.actions.len(), Invariant::StructureAlone, lines)?;
        let is_deleted = self.observed.set.metadata.deletion_timestamp.is_some();
        require(!is_deleted || plan.actions.is_empty(), Invariant::DeletedSetsAreLeftAlone, lines)?;
        self.moves(plan)?;
        self.status(&plan.status)?;
        self.in_turn(&plan.actions)
    }

    /// Judges one action.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn action(&self, action: &Action) -> Verdict {
        match action {
            Action::CreatePod { pod, .. } => self.creation(pod),
            Action::DeletePod { name, uid, .. } => self.deletion(name, uid),
            // It takes the pod away for a while.
            Action::UpdateInPlace { name, uid, .. } => {
                let is_asked_for = self.says(IN_PLACE_UPDATE, "true");
                require(is_asked_for, Invariant::HealthyPodsStay, || format!("{name} is updated in place, which nobody asked for"))?;
                self.deletion(name, uid)
            }
            Action::CreateHookPod { pod, .. } => self.hook_pod(pod),
            Action::CreateClaim { claim, .. } => self.owners_of_claim(&claim.metadata, claim.metadata.owner_references.as_deref()),
            Action::UpdateClaim { name, owners, .. } => match self.observed.claims.get(name) {
                Some(claim) => self.owners_of_claim(&claim.metadata, Some(owners)),
                None => require(false, Invariant::DoneAsPlanned, || format!("{name} was not observed")),
            },
            Action::CreateRevision(revision) => self.new_revision(revision),
            Action::RenumberRevision { name, number, .. } => self.renumbering(name, *number),
            Action::DeleteRevision { name, .. } => self.revision_deletion(name),
            Action::RollBack { .. }
            | Action::MarkPod { .. }
            | Action::RunGate { .. }
            | Action::DeleteHookPod { .. }
            | Action::AdoptRevision { .. }
            | Action::AdoptPod { .. }
            | Action::ReleasePod { .. }
            | Action::UpdatePod { .. } => Ok(()),
        }
    }

    /// The pod of a hook is of a pod of the set, and none itself.
    fn hook_pod(&self, pod: &Pod) -> Verdict {
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        let is_of_pod = |uid: &String| self.observed.pods.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid));
        let is_other = ordinal_of(self.set, name_of(pod)).is_none() && !self.is_own(pod);
        let holds = is_other && owners.len() == 1 && owners.iter().all(|owner| is_of_pod(&owner.uid));
        require(holds, Invariant::OnePodPerOrdinal, || format!("{} is the pod of a hook", name_of(pod)))
    }

    fn wants(&self, ordinal: u32) -> bool {
        self.wanted.contains(&ordinal)
    }

    fn says(&self, annotation: &str, value: &str) -> bool {
        said(&self.observed.set, annotation) == value
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn updates_itself(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        strategy != Some("OnDelete")
    }

    /// Whether no rollout may go on.
    fn is_paused(&self) -> bool {
        self.updates_itself() && self.says(PAUSED, "true")
    }

    /// The lowest ordinal an update may touch; `None` without an update block.
    fn partition(&self) -> Option<u32> {
        let block = self.spec.update_strategy.as_ref()?.rolling_update.as_ref()?;
        let kept = usize::try_from(block.partition.unwrap_or(0)).unwrap_or(0);
        let beyond = if kept == 0 { 0 } else { u32::MAX };
        Some(self.wanted.get(kept).copied().unwrap_or(beyond))
    }

    /// Where a pod stands in the order of the update: the first entry it fits, of those that speak of labels.
    fn rank(&self, pod: &Pod) -> usize {
        let labels = pod.metadata.labels.as_ref();
        let fits = |entry: &str| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            labels.and_then(|labels| labels.get(key)).is_some_and(|is| is == value)
        };
        let entries = said(&self.observed.set, UPDATE_ORDER).split(',').filter(|entry| !entry.is_empty());
        entries.clone().position(fits).unwrap_or(entries.count())
    }

    fn max_unavailable(&self) -> usize {
        let block = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        match block.and_then(|block| block.max_unavailable.as_ref()) {
            Some(IntOrString::Int(most)) => usize::try_from(*most).unwrap_or(1).max(1),
            Some(IntOrString::String(percent)) => {
                let percent: usize = percent.trim_end_matches('%').parse().unwrap_or(0);
                (self.wanted.len() * percent / 100).max(1)
            }
            None => 1,
        }
    }

    /// Whether the set controls a pod.
    fn is_own(&self, pod: &Pod) -> bool {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == self.observed.set.metadata.uid.as_ref())
    }

    /// Whether a pod serves and will go on.
    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = SignedDuration::from_secs(i64::from(self.spec.min_ready_seconds.unwrap_or(0)));
        let long_enough = ready_since(pod).is_some_and(|since| min_ready.is_zero() || since + min_ready <= self.now);
        !is_going(&pod.metadata) && phase(pod) == "Running" && long_enough
    }

    fn serves(&self, ordinal: u32) -> bool {
        self.pods.get(&ordinal).is_some_and(|pod| self.is_available(pod))
    }

    fn template_image(&self) -> &str {
        image(&self.spec.template)
    }
}

/// The value of an annotation; empty if there is none.
fn said<'a>(set: &'a StatefulSet, annotation: &str) -> &'a str {
    set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation)).map_or("", String::as_str)
}

/// Whether rollouts of a set are told to stand still.
pub(crate) fn is_paused(set: &StatefulSet) -> bool {
    said(set, PAUSED) == "true"
}

/// The ordinals that are to have a pod, ascending.
pub(crate) fn wanted(set: &StatefulSet) -> Vec<u32> {
    let Some(spec) = set.spec.as_ref() else { return Vec::new() };
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0).max(0).cast_unsigned();
    let replicas = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    (start..).filter(|ordinal| !is_reserved(said(set, RESERVED_ORDINALS), *ordinal)).take(replicas).collect()
}

fn is_reserved(list: &str, ordinal: u32) -> bool {
    let within = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        first.parse().is_ok_and(|first: u32| first <= ordinal) && last.parse().is_ok_and(|last: u32| ordinal <= last)
    };
    list.split(',').any(within)
}

/// Whether it is about what the set consists of, not about its pods.
fn is_structural(action: &Action) -> bool {
    matches!(
        action,
        Action::AdoptRevision { .. }
            | Action::CreateRevision(_)
            | Action::RenumberRevision { .. }
            | Action::AdoptPod { .. }
            | Action::ReleasePod { .. }
    )
}

pub(crate) fn is_going(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

pub(crate) fn name_of<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The revision a pod says it is of.
pub(crate) fn revision_of(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get("controller-revision-hash")).map_or("", String::as_str)
}

/// The image that stands for a template.
pub(crate) fn image(template: &PodTemplateSpec) -> &str {
    let container = template.spec.as_ref().and_then(|spec| spec.containers.first());
    container.and_then(|container| container.image.as_deref()).unwrap_or_default()
}

/// Since when a pod is ready, if it is.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0))
}
