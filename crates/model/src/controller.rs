//! The controller: plans from its views, and acts under the server's preconditions.

use std::rc::Rc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use plan::forecast::World;
use plan::statefulset::{Action, Observed, Plan, status_differs};

use crate::canonical::{self, BySum};
use crate::invariants::{Invariant, Judge, Verdict, require};
use crate::state::{Kind, State};

/// The planner under test.
pub type Planner = fn(&Observed, Timestamp) -> Plan;

/// Plans, and remembers what it planned: equal views have equal plans.
pub(crate) struct Controller {
    planner: Planner,
    planned: BySum<Planned>,
}

/// A plan, and whether it keeps the rules.
#[derive(Clone)]
struct Planned {
    plan: Rc<Plan>,
    verdict: Verdict,
}

/// How much of a plan is carried out before the controller dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) actions: usize,
    pub(crate) status: bool,
}

impl Controller {
    pub(crate) fn new(planner: Planner) -> Self {
        Self { planner, planned: BySum::default() }
    }

    /// What the controller would do.
    pub(crate) fn plan(&mut self, state: &State) -> Rc<Plan> {
        self.planned(state).plan
    }

    fn planned(&mut self, state: &State) -> Planned {
        let (planner, now) = (self.planner, state.world.now);
        let planned = self.planned.entry(state.view_sum()).or_insert_with(|| {
            let view = state.observed();
            let plan = planner(&view, now);
            let verdict = Judge::of(&view, now).map_or(Ok(()), |judge| judge.plan(&plan));
            Planned { plan: Rc::new(plan), verdict }
        });
        planned.clone()
    }

    /// One round, whole or cut short.
    pub(crate) fn round(&mut self, state: &mut State, cut: Option<Cut>) -> Verdict {
        let Planned { plan, verdict } = self.planned(state);
        verdict?;
        let cut = cut.unwrap_or(Cut { actions: plan.actions.len(), status: true });
        let seen = state.views.set.as_ref().unwrap_or(&state.world.set).clone();
        if cut.status {
            write_status(state, &seen, &plan);
        }
        let acted = act(state, &seen, &plan.actions[..cut.actions.min(plan.actions.len())])?;
        // Its own writes are awaited.
        plan.actions[..acted].iter().for_each(|action| state.views.catch_up(kind_of(action)));
        Ok(())
    }
}

/// The status goes out beside the actions. It tells of what was observed; if the set has changed since, it is refused.
fn write_status(state: &mut State, seen: &StatefulSet, plan: &Plan) {
    let is_same = seen.metadata.resource_version == state.world.set.metadata.resource_version;
    if is_same && status_differs(seen.status.as_ref(), &plan.status) {
        let before = state.world.clone();
        state.world.write_status(&plan.status);
        canonical::changed(state, &before);
        state.views.catch_up(Kind::Set);
    }
}

/// Carries actions out up to the first that is refused; how many.
fn act(state: &mut State, seen: &StatefulSet, actions: &[Action]) -> Result<usize, crate::Violation> {
    let fresh = state.views.are_fresh();
    if actions.iter().any(Action::relies_on_set) && !is_unchanged(&state.world, seen) {
        return Ok(0);
    }
    for (done, action) in actions.iter().enumerate() {
        judge_against_world(&state.world, action, fresh)?;
        let before = state.world.clone();
        let result = state.world.apply(&as_executed(&state.world, action));
        if let Err(refused) = result {
            let known = fresh && !is_name_of_another(&state.world, action);
            require(!known, Invariant::DoneAsPlanned, || format!("{action}: {refused}"))?;
            return Ok(done);
        }
        canonical::changed(state, &before);
    }
    Ok(actions.len())
}

/// Whether the server's own set is the one that was observed, and stays.
fn is_unchanged(world: &World, seen: &StatefulSet) -> bool {
    let (seen, is) = (&seen.metadata, &world.set.metadata);
    let same = seen.uid == is.uid && seen.generation == is.generation && seen.annotations == is.annotations;
    same && is.deletion_timestamp.is_none()
}

/// What must hold however old the view is.
fn judge_against_world(world: &World, action: &Action, fresh: bool) -> Verdict {
    match action {
        Action::CreatePod { pod, .. } if fresh && !is_name_of_another(world, action) => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            require(!world.pods.contains_key(name), Invariant::OnePodPerOrdinal, || format!("{name} is there already"))
        }
        Action::UpdateClaim { .. } => {
            let observed = world.observed();
            let known = Judge::of(&observed, world.now).filter(|_| names_known_claim(world, action));
            known.map_or(Ok(()), |judge| judge.action(action))
        }
        _ => Ok(()),
    }
}

/// Whether a pod of somebody else, which the controller can't see, has the name of one that is created. It may be of an
/// earlier set of this name, and goes when it is found to be garbage.
fn is_name_of_another(world: &World, action: &Action) -> bool {
    let Action::CreatePod { pod, .. } = action else { return false };
    let there = pod.metadata.name.as_ref().and_then(|name| world.pods.get(name));
    let owners = there.iter().flat_map(|pod| pod.metadata.owner_references.iter().flatten());
    owners.into_iter().any(|owner| owner.controller == Some(true) && Some(&owner.uid) != world.set.metadata.uid.as_ref())
}

fn names_known_claim(world: &World, action: &Action) -> bool {
    matches!(action, Action::UpdateClaim { name, .. } if world.claims.contains_key(name))
}

/// A deletion without a uid takes whatever has the name, as at an API server.
fn as_executed(world: &World, action: &Action) -> Action {
    match action {
        Action::DeletePod { ordinal, name, uid, reason } if uid.is_empty() => {
            let uid = world.pods.get(name).and_then(|pod| pod.metadata.uid.clone()).unwrap_or_default();
            Action::DeletePod { ordinal: *ordinal, name: name.clone(), uid, reason: reason.clone() }
        }
        other => other.clone(),
    }
}

fn kind_of(action: &Action) -> Kind {
    match action {
        Action::AdoptRevision { .. } | Action::CreateRevision(_) | Action::RenumberRevision { .. } | Action::DeleteRevision { .. } => {
            Kind::Revisions
        }
        Action::RollBack { .. } => Kind::Set,
        Action::CreateClaim { .. } | Action::UpdateClaim { .. } => Kind::Claims,
        Action::AdoptPod { .. }
        | Action::ReleasePod { .. }
        | Action::CreatePod { .. }
        | Action::UpdatePod { .. }
        | Action::MarkPod { .. }
        | Action::RunGate { .. }
        | Action::CreateHookPod { .. }
        | Action::DeleteHookPod { .. }
        | Action::UpdateInPlace { .. }
        | Action::DeletePod { .. } => Kind::Pods,
    }
}
