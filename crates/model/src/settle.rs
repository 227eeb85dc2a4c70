//! What becomes of a set that is left alone.

use plan::statefulset::{WaitingOn, ordinal_of};

use crate::canonical::Sums;
use crate::configuration::{BROKEN, Change};
use crate::controller::Controller;
use crate::event::Event;
use crate::happen::{happen, is_broken, make};
use crate::invariants::revisions::wanted_image;
use crate::invariants::{Invariant, Verdict, is_going, require, revision_of};
use crate::state::{State, Views};

/// More turns than any set of this size needs.
const MOST_TURNS: usize = 300;

/// States that are known to settle as desired.
#[derive(Default)]
pub(crate) struct Settling {
    known: Sums,
}

impl Settling {
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

/// Where only the user can help, the user does: deletes pods under `OnDelete`, and lowers a partition that keeps pods at a
/// revision that can't work. Whether anything was done.
fn lend_a_hand(controller: &mut Controller, state: &mut State) -> Result<bool, crate::Violation> {
    let plan = controller.plan(state);
    if !matches!(plan.waiting_on, Some(WaitingOn::UserDeletion { .. } | WaitingOn::PodReady { .. })) {
        return Ok(false);
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
    let Some(spec) = world.set.spec.as_ref() else { return Ok(()) };
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    let wanted: Vec<_> = (start..start + spec.replicas.unwrap_or(1)).map(|ordinal| format!("web-{ordinal}")).collect();
    let is: Vec<_> = world.pods.keys().cloned().collect();
    if is != wanted {
        return fail(format!("there are pods {is:?}, wanted are {wanted:?}; waits: {:?}", plan.waiting_on));
    }
    if let Some((name, _)) = world.pods.iter().find(|(_, pod)| !plan::forecast::is_ready(pod) || is_going(&pod.metadata)) {
        return fail(format!("{name} does not serve; waits: {:?}", plan.waiting_on));
    }
    if spec.volume_claim_templates.is_some()
        && let Some(name) =
            wanted.iter().find(|name| world.claims.get(&format!("data-{name}")).is_none_or(|claim| is_going(&claim.metadata)))
    {
        return fail(format!("{name} has no claim"));
    }
    has_revisions(state, start)
}

/// From the partition on all pods have the update revision, and the status says so.
fn has_revisions(state: &State, start: i32) -> Verdict {
    let world = &state.world;
    let status = world.set.status.clone().unwrap_or_default();
    let (current, update) = (status.current_revision.unwrap_or_default(), status.update_revision.unwrap_or_default());
    let Strategy { on_delete, partition } = strategy(state);
    let first = u32::try_from(start + partition).unwrap_or(0);
    for (name, pod) in &world.pods {
        let ordinal = ordinal_of("web", name).map_or(0, |ordinal| ordinal.0);
        let is = revision_of(pod);
        let allowed = is == update || ordinal < first;
        require(allowed, Invariant::DesiredState, || format!("{name} is at {is}, not at {update}"))?;
    }
    let count = i32::try_from(world.pods.len()).unwrap_or(i32::MAX);
    let says = (status.replicas, status.ready_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    require(says == (count, count, count), Invariant::DesiredState, || format!("the status says {says:?} of {count} pods"))?;
    let everywhere = world.pods.values().all(|pod| revision_of(pod) == update) && (partition == 0 || count > 0);
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
