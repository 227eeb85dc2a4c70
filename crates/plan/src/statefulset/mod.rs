//! Ordered, named, stateful instances.
//!
//! [`plan`] looks at a set, its pods, claims and revisions, and says what to do next, in which order, and what it waits for.
//! Words are upstream's: the pods in `[start, start + replicas)` are the *replicas*, those outside are *condemned*;
//! *ordered* is the `OrderedReady` policy; the *current* revision is the one a rollout comes from, the *update* revision
//! the one it goes to.
//!
//! # Guarantees
//! * At most one live pod per ordinal: names are derived from ordinals, and a name is used again only after the pod is gone.
//! * Claims are never deleted. They precede their pod.
//! * Ordered: a plan creates at most one pod, or deletes at most one, and does so only if every replica before it is available.
//!   An update deletes up to `maxUnavailable` at once, and while they come back as many are created at once ([`replicas`]);
//!   a replica that is stuck at a superseded revision is replaced whatever the others are like ([`rollout`]).
//! * A change of membership or revisions is planned alone: what follows from it is decided when it can be observed.
//! * Planning a state that is as desired gives no action.
//!
//! # Where it differs from upstream
//! * A replica at a superseded revision that can't become available is replaced without waiting for it, when ordered too
//!   ([`rollout`]).
//! * Scaling to zero under a partition does not make the update revision the current one ([`status`]).
//! * An update that stalls is told of in conditions ([`conditions`]), and is undone if the set asks for it ([`rollback`]).
//! * Sets can pass over ordinals, pause rollouts, and order them by role ([`kinds::extensions`]).
//! * Templates are compared by meaning, not by bytes ([`revisions`]).

mod action;
mod claims;
mod conditions;
mod gate;
mod hook_pods;
mod identity;
mod in_place;
mod member;
mod membership;
mod replicas;
mod revisions;
mod rollback;
mod rollout;
mod spec;
mod status;
mod template;
mod waiting;

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetCondition, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kinds::SetKind;
use kinds::extensions::Malformed;

pub use action::{Action, DeleteReason, Mark, Marking};
pub use gate::HookRun;
pub use hook_pods::{hook_owner, is_hook_pod};
pub use identity::{REVISION_LABEL, ordinal_of, parent_of};
pub use member::{PodHealth, health_of};
pub use revisions::revision_prefix;
pub use status::differs as status_differs;
pub(crate) use template::same_field;
pub use template::template_in;
pub use waiting::WaitingOn;

use claims::ClaimName;
use member::Member;
use membership::Members;
use revisions::{Chosen, Missing};
use spec::Spec;
use template::Template;

/// How many pods one plan creates at most; the next plan goes on.
const MOST_CREATIONS: usize = 5_000;

/// Everything a decision depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Under which name the set is served: as this, it owns.
    pub kind: SetKind,
    pub set: Arc<StatefulSet>,
    /// The pods whose controller the set is, and those of its namespace that have none.
    pub pods: Vec<Arc<Pod>>,
    /// The claims of the set's namespace by name; those that [`claim_names`] does not name may be missing.
    pub claims: HashMap<String, Arc<PersistentVolumeClaim>>,
    /// The revisions whose controller the set is, those of its namespace that have none, and those whose name begins with
    /// the set's [`revision_prefix`].
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The uids of the pods whose pre-delete hook is running now.
    pub running_hooks: HashSet<String>,
    /// The pods that run pre-delete hooks of the set's pods.
    pub hook_pods: Vec<Arc<Pod>>,
}

/// What to do next. Actions are carried out in order, up to the first that fails; then everything is observed anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// What the set's status should say.
    pub status: StatefulSetStatus,
    /// Why nothing more is done now. `None` if the set is as desired, or the actions themselves bring it there.
    pub waiting_on: Option<WaitingOn>,
    /// When time alone changes what to do.
    pub recheck_at: Option<Timestamp>,
    /// When the set counts as stalled, if it does not come forward: time to look again as well.
    pub deadline: Option<Timestamp>,
    /// Claims whose retention policy can't be followed, as somebody else controls them.
    pub conflicts: Vec<String>,
    /// Annotations that can't be read, and are not followed.
    pub malformed: Vec<Malformed>,
}

/// Decides what to do next.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let spec = match Spec::of(&observed.set, observed.kind) {
        Ok(spec) => spec,
        Err(waiting) => return Plan::idle(observed, waiting),
    };
    if observed.set.metadata.deletion_timestamp.is_some() {
        return while_deleted(observed, &spec, now);
    }
    let membership = membership::changes(observed, &spec);
    if !membership.is_empty() {
        return Plan::alone(observed, membership);
    }
    let chosen = match revisions::choose(observed, &spec) {
        Ok(chosen) => chosen,
        Err(missing) => return Plan::before_revisions(observed, *missing),
    };
    let members = Members::of(observed, &spec, now);
    let mut round = Round::new(observed, spec, chosen, &members, now);
    round.decide();
    round.finish()
}

/// The names of the claims that a plan for this set and these pods may look at: for [`Observed::claims`].
pub fn claim_names(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<String> {
    let Ok(spec) = Spec::of(set, SetKind::default()) else { return Vec::new() };
    if spec.claims.is_empty() {
        return Vec::new();
    }
    let creations = if spec.ordered { spec.batch() } else { MOST_CREATIONS };
    let named = pods.iter().filter_map(|pod| ordinal_of(spec.name, pod.metadata.name.as_deref()?)).map(|ordinal| ordinal.0);
    let condemned = named.filter(|ordinal| !spec.ordinals.contains(*ordinal));
    let ordinals = spec.ordinals.iter().take(pods.len() + creations).chain(condemned);
    let templates: Vec<_> = spec.claims.iter().map(|template| template.metadata.name.as_deref().unwrap_or_default()).collect();
    ordinals.flat_map(|ordinal| templates.iter().map(move |template| format!("{template}-{}-{ordinal}", spec.name))).collect()
}

/// Whether a claim of this name could be one of the set's.
pub fn may_claim(set: &StatefulSet, claim: &str) -> bool {
    let templates = set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    let mut names = templates.filter_map(|template| template.metadata.name.as_deref());
    let name = set.metadata.name.as_deref().unwrap_or_default();
    names.any(|template| {
        let pod = claim.strip_prefix(template).and_then(|rest| rest.strip_prefix('-'));
        pod.is_some_and(|pod| ordinal_of(name, pod).is_some())
    })
}

/// A set that is being deleted is only reported on: its dependents are the garbage collector's.
fn while_deleted(observed: &Observed, spec: &Spec<'_>, now: Timestamp) -> Plan {
    let members = Members::of(observed, spec, now);
    let before = observed.set.status.clone().unwrap_or_default();
    let (current, update) = (before.current_revision.unwrap_or_default(), before.update_revision.unwrap_or_default());
    let status = status::of(observed, spec, &members, &current, &update);
    Plan { status, ..Plan::idle(observed, WaitingOn::Deletion) }
}

impl Plan {
    fn idle(observed: &Observed, waiting: WaitingOn) -> Self {
        Self { waiting_on: Some(waiting), ..Self::alone(observed, Vec::new()) }
    }

    fn before_revisions(observed: &Observed, missing: Missing) -> Self {
        let mut plan = Self::alone(observed, vec![missing.action]);
        plan.status.collision_count = missing.collisions.or(plan.status.collision_count);
        plan
    }

    /// These actions, and nothing else in this round.
    fn alone(observed: &Observed, actions: Vec<Action>) -> Self {
        let status = observed.set.status.clone().unwrap_or_default();
        Self { actions, status, waiting_on: None, recheck_at: None, deadline: None, conflicts: Vec::new(), malformed: Vec::new() }
    }
}

/// One round of decisions for a set whose membership and revisions are settled.
struct Round<'a> {
    observed: &'a Observed,
    spec: Spec<'a>,
    revisions: Chosen<'a>,
    members: &'a Members<'a>,
    update_template: Template<'a>,
    /// The template of the current revision, once it was needed; `None` inside if it can't be read.
    current_template: OnceCell<Option<Template<'a>>>,
    actions: Vec<Action>,
    waiting_on: Option<WaitingOn>,
    conflicts: Vec<String>,
    claim_name: ClaimName,
    now: Timestamp,
    recheck_at: Option<Timestamp>,
    /// The ordinals whose pods are to be taken away, gate or no gate.
    gated: BTreeSet<u32>,
    /// The names of the pods of hooks that are waited for.
    kept_hook_pods: BTreeSet<String>,
}

impl<'a> Round<'a> {
    fn new(observed: &'a Observed, spec: Spec<'a>, revisions: Chosen<'a>, members: &'a Members<'a>, now: Timestamp) -> Self {
        Self {
            observed,
            revisions,
            members,
            update_template: Template::Borrowed(&spec.wanted.template),
            spec,
            current_template: OnceCell::new(),
            actions: Vec::new(),
            waiting_on: None,
            conflicts: Vec::new(),
            claim_name: ClaimName::default(),
            now,
            recheck_at: None,
            gated: BTreeSet::new(),
            kept_hook_pods: BTreeSet::new(),
        }
    }

    fn decide(&mut self) {
        let go_on = match self.spec.ordered {
            true => self.ordered_replicas().is_continue() && self.ordered_condemned().is_continue(),
            false => {
                self.parallel_replicas();
                self.parallel_condemned();
                true
            }
        };
        if go_on {
            self.roll_out();
        }
        self.settle_gates();
        self.settle_updates();
    }

    fn finish(mut self) -> Plan {
        let now = self.now;
        let mut status = status::of(self.observed, &self.spec, self.members, self.revisions.current_name(), self.revisions.update_name());
        let (conditions, deadline) = self.conditions(&status, now);
        status.conditions = Some(conditions);
        if let Some(rollback) = self.rollback(&status) {
            return Plan { status, malformed: self.spec.malformed, ..Plan::alone(self.observed, vec![rollback]) };
        }
        let surplus = revisions::surplus(self.observed, &self.spec, &self.revisions, self.members);
        self.actions.extend(surplus);
        let recheck_at = self.members.all().filter_map(Member::changes_at).chain(self.recheck_at).filter(|at| *at > now).min();
        let (conflicts, malformed) = (self.conflicts, self.spec.malformed);
        Plan { actions: self.actions, status, waiting_on: self.waiting_on, recheck_at, deadline, conflicts, malformed }
    }

    fn conditions(&self, status: &StatefulSetStatus, now: Timestamp) -> (Vec<StatefulSetCondition>, Option<Timestamp>) {
        let (set, waiting_on) = (&*self.observed.set, self.waiting_on.as_ref());
        let round = conditions::Round { set, spec: &self.spec, members: self.members, status, actions: &self.actions, waiting_on, now };
        round.conditions()
    }

    /// Notes what is waited for; the first word counts.
    fn wait_for(&mut self, waiting: WaitingOn) {
        self.waiting_on.get_or_insert(waiting);
    }
}

#[cfg(test)]
mod tests;
