//! What becomes of a set that is left alone.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use plan::statefulset::{WaitingOn, ordinal_of};

use crate::canonical::Sums;
use crate::configuration::{BROKEN, Change, Configuration, Fault};
use crate::controller::Controller;
use crate::event::Event;
use crate::happen::{happen, is_broken, make};
use crate::invariants::pods::claims_of;
use crate::invariants::revisions::wanted_image;
use crate::invariants::{Invariant, Verdict, is_going, is_paused, require, revision_of, wanted};
use crate::state::{State, Views};

/// More turns than any set of this size needs.
const MOST_TURNS: usize = 300;

/// States that are known to settle as desired.
pub(crate) struct Settling {
    known: Sums,
    /// Whether the controller may have begun with an old view of claims. Then it may have made a pod on a claim that goes
    /// because an earlier pod, to which the policy had given it, is gone; the claim stays until the new pod goes too.
    may_use_leaving_claims: bool,
}

impl Settling {
    pub(crate) fn of(configuration: &Configuration) -> Self {
        Self { known: Sums::default(), may_use_leaving_claims: configuration.kinds.contains(&Fault::OldView) }
    }

    /// Leaves the set alone: nodes come back, views catch up, the controller and the pods take turns. A template that can't
    /// work is replaced by the user first, and pods that only the user may delete are deleted.
    pub(crate) fn check(&mut self, controller: &mut Controller, state: &State) -> Verdict {
        let mut state = left_alone(state);
        let mut path = Vec::new();
        for _ in 0..MOST_TURNS {
            let sum = state.sum();
            if self.known.contains(&sum) {
                break;
            }
            path.push(sum);
            turn(controller, &mut state)?;
            if state.sum() == sum && !lend_a_hand(controller, &mut state)? {
                is_as_desired(controller, &state)?;
                self.has_claims(&state)?;
                break;
            }
        }
        let settled = path.len() < MOST_TURNS;
        require(settled, Invariant::Settles, || {
            let plan = controller.plan(&state);
            format!("after {MOST_TURNS} turns it still plans {:?} and waits: {:?}", plan.actions, plan.waiting_on)
        })?;
        self.known.extend(path);
        Ok(())
    }

    /// Every pod that is to have a claim has it.
    fn has_claims(&self, state: &State) -> Verdict {
        let world = &state.world;
        let stays = |name: &str| world.claims.get(name).is_some_and(|claim| self.may_use_leaving_claims || !is_going(&claim.metadata));
        let lacks = |pod: &Arc<Pod>| claims_of(pod).into_iter().any(|name| !stays(name));
        let lacking = world.pods.iter().find(|(_, pod)| lacks(pod)).map(|(name, _)| name);
        require(lacking.is_none(), Invariant::DesiredState, || format!("{lacking:?} has no claim"))
    }
}

fn left_alone(state: &State) -> State {
    let mut state =
        State { views: Views::default(), memory: None, lost: Vec::new(), progress: Vec::new(), faults_left: 0, ..state.clone() };
    if wanted_image(&state.world.set) == BROKEN {
        let before = state.world.clone();
        make(&mut state, &Change::Image("last"));
        crate::canonical::changed(&mut state, &before);
    }
    state
}

/// A round, a step of every pod, and the garbage.
fn turn(controller: &mut Controller, state: &mut State) -> Verdict {
    happen(controller, state, &Event::Round)?;
    let names: Vec<_> = state.world.pods.keys().cloned().collect();
    for name in names {
        happen(controller, state, &Event::Advance(name))?;
    }
    happen(controller, state, &Event::Collect)
}

/// Where only the user can help, the user does: resumes a rollout, deletes pods under `OnDelete`, and lowers a partition that
/// keeps pods at a revision that can't work. Whether anything was done.
fn lend_a_hand(controller: &mut Controller, state: &mut State) -> Result<bool, crate::Violation> {
    let plan = controller.plan(state);
    if !matches!(plan.waiting_on, Some(WaitingOn::Paused { .. } | WaitingOn::UserDeletion { .. } | WaitingOn::PodReady { .. })) {
        return Ok(false);
    }
    if is_paused(&state.world.set) {
        return happen(controller, state, &Event::Change(0, Change::Pause(false))).map(|()| true);
    }
    let update = plan.status.update_revision.clone().unwrap_or_default();
    let Strategy { on_delete, partition } = strategy(state);
    let mut outdated = state.world.pods.iter().filter(|(_, pod)| revision_of(pod) != update);
    let help = match on_delete {
        true => outdated.next().map(|(name, _)| Event::Delete(name.clone())),
        false => outdated.find(|(_, pod)| partition > 0 && is_broken(pod)).map(|_| Event::Change(0, Change::Partition(0))),
    };
    let Some(help) = help else { return Ok(false) };
    happen(controller, state, &help).map(|()| true)
}

/// What matters here of how a set is updated.
struct Strategy {
    on_delete: bool,
    partition: i32,
}

fn strategy(state: &State) -> Strategy {
    let strategy = state.world.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let block = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    Strategy {
        on_delete: strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete"),
        partition: block.and_then(|block| block.partition).unwrap_or(0),
    }
}

/// Whether everything is as the set asks, and nothing is left to do.
fn is_as_desired(controller: &mut Controller, state: &State) -> Verdict {
    let plan = controller.plan(state);
    let world = &state.world;
    let fail = |detail: String| require(false, Invariant::DesiredState, || detail);
    if !plan.actions.is_empty() {
        return fail(format!("it still plans {:?}", plan.actions));
    }
    if is_going(&world.set.metadata) {
        return is_gone(state);
    }
    let wanted = wanted(&world.set);
    let names: Vec<_> = wanted.iter().map(|ordinal| format!("web-{ordinal}")).collect();
    let is: Vec<_> = world.pods.keys().cloned().collect();
    if is != names {
        return fail(format!("there are pods {is:?}, wanted are {names:?}; waits: {:?}", plan.waiting_on));
    }
    if let Some((name, _)) = world.pods.iter().find(|(_, pod)| !plan::forecast::is_ready(pod) || is_going(&pod.metadata)) {
        return fail(format!("{name} does not serve; waits: {:?}", plan.waiting_on));
    }
    has_revisions(state, &wanted)
}

/// From the partition on all pods have the update revision, and the status says so.
fn has_revisions(state: &State, wanted: &[u32]) -> Verdict {
    let world = &state.world;
    let status = world.set.status.clone().unwrap_or_default();
    let (current, update) = (status.current_revision.unwrap_or_default(), status.update_revision.unwrap_or_default());
    let Strategy { on_delete, partition } = strategy(state);
    let first = wanted.get(usize::try_from(partition).unwrap_or(0)).copied().unwrap_or(u32::MAX);
    for (name, pod) in &world.pods {
        let ordinal = ordinal_of("web", name).map_or(0, |ordinal| ordinal.0);
        let is = revision_of(pod);
        let allowed = is == update || ordinal < first;
        require(allowed, Invariant::DesiredState, || format!("{name} is at {is}, not at {update}"))?;
    }
    let count = i32::try_from(world.pods.len()).unwrap_or(i32::MAX);
    let says = (status.replicas, status.ready_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    require(says == (count, count, count), Invariant::DesiredState, || format!("the status says {says:?} of {count} pods"))?;
    // Of no pods it says nothing while a rollout is held back.
    let says_nothing = count == 0 && (partition > 0 || is_paused(&world.set));
    let everywhere = world.pods.values().all(|pod| revision_of(pod) == update) && !says_nothing;
    require(!everywhere || on_delete || current == update, Invariant::DesiredState, || {
        format!("all pods have {update}, and the current revision is {current}")
    })
}

/// A deleted set takes its pods along, and its claims if it is to.
fn is_gone(state: &State) -> Verdict {
    let world = &state.world;
    require(world.pods.is_empty(), Invariant::DesiredState, || format!("pods {:?} are left", world.pods.keys()))?;
    let owned = world.claims.values().find(|claim| claim.metadata.owner_references.iter().flatten().count() > 0);
    require(owned.is_none(), Invariant::DesiredState, || {
        format!("claim {:?} is left with an owner", owned.map(|claim| &claim.metadata.name))
    })
}
