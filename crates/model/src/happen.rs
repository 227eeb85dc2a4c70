//! What each event does.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateWaiting, ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::extensions::{PAUSED, RESERVED_ORDINALS};
use plan::forecast::{World, is_ready};
use plan::statefulset::ordinal_of;

use crate::canonical;
use crate::configuration::{BROKEN, Change, word};
use crate::controller::{Controller, Cut};
use crate::event::Event;
use crate::invariants::{Verdict, phase, ready_since};
use crate::state::{Kind, Objects, State, Views};

/// Later than every step of a pod, so that it was ready once.
const LATER: SignedDuration = SignedDuration::from_hours(1);

/// Lets an event happen.
pub(crate) fn happen(controller: &mut Controller, state: &mut State, event: &Event) -> Verdict {
    if event.fault().is_some() {
        state.faults_left = state.faults_left.saturating_sub(1);
    }
    let before = state.world.clone();
    match event {
        Event::Round => controller.round(state, None)?,
        Event::Crash { actions, status } => {
            controller.round(state, Some(Cut { actions: *actions, status: *status }))?;
            state.views = Views::default();
        }
        Event::Advance(pod) => advance(&mut state.world, pod),
        Event::Collect => drop(state.world.collect_garbage()),
        Event::Change(list, change) => {
            state.progress.get_mut(*list).into_iter().for_each(|done| *done += 1);
            make(state, change);
        }
        Event::Fail(pod) => fail(&mut state.world, pod),
        Event::Unready(pod) => unready(&mut state.world, pod),
        Event::Loop(pod) => crash_loop(&mut state.world, pod),
        Event::Delete(pod) => drop(state.world.delete_pod(pod)),
        Event::Lose(pod) => {
            unready(&mut state.world, pod);
            state.lost.push(pod.clone());
            state.lost.sort();
        }
        Event::Return => state.lost.clear(),
        Event::Assign(pod) => assign(&mut state.world, pod),
        Event::Lag(kind) => state.views.hold(*kind, &before),
        Event::Deliver(kind) => state.views.catch_up(*kind),
        Event::Miss(kind, name) => miss(state, *kind, name),
        Event::Remember => state.memory = Some(Arc::new(before.clone())),
        Event::Restart(kind) => restart(state, *kind),
    }
    canonical::changed(state, &before);
    let pods = &state.world.pods;
    state.lost.retain(|name| pods.contains_key(name));
    Ok(())
}

/// Whether a pod can't become ready.
pub(crate) fn is_broken(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref()) == Some(BROKEN)
}

/// A phase along; a ready pod becomes available when it has been ready for long enough, and one that has ended grows old
/// enough to be replaced.
pub(crate) fn advance(world: &mut World, name: &str) {
    if world.advance_pod(name, is_broken) {
        return;
    }
    if world.pods.get(name).is_some_and(|pod| has_ended(pod) && is_young(pod, world.now)) {
        let born = Time(world.now - LATER);
        world.change_pod(name, |pod| pod.metadata.creation_timestamp = Some(born));
    }
    let waits = world.set.spec.as_ref().is_some_and(|spec| spec.min_ready_seconds.unwrap_or(0) > 0);
    let long_ago = world.now - LATER;
    if waits && world.pods.get(name).is_some_and(|pod| is_ready(pod) && ready_since(pod) != Some(long_ago)) {
        world.change_pod(name, |pod| set_ready(pod, true, Time(long_ago)));
    }
}

fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

fn is_young(pod: &Pod, now: Timestamp) -> bool {
    pod.metadata.creation_timestamp.as_ref().is_some_and(|born| born.0 >= now)
}

fn later() -> Time {
    Time(Timestamp::UNIX_EPOCH + LATER)
}

fn unready(world: &mut World, name: &str) {
    if world.pods.get(name).is_some_and(|pod| is_ready(pod)) {
        world.change_pod(name, |pod| set_ready(pod, false, later()));
    }
}

fn fail(world: &mut World, name: &str) {
    world.change_pod(name, |pod| {
        set_ready(pod, false, later());
        pod.status.get_or_insert_default().phase = Some("Failed".to_owned());
    });
}

fn crash_loop(world: &mut World, name: &str) {
    let waiting = ContainerStateWaiting { reason: Some("CrashLoopBackOff".to_owned()), message: None };
    let state = Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() });
    let container = ContainerStatus { name: "main".to_owned(), state, ..ContainerStatus::default() };
    world.change_pod(name, |pod| {
        set_ready(pod, false, later());
        pod.status.get_or_insert_default().container_statuses = Some(vec![container]);
    });
}

fn assign(world: &mut World, name: &str) {
    world.change_pod(name, |pod| pod.spec.get_or_insert_default().node_name = Some("slow".to_owned()));
}

fn set_ready(pod: &mut Pod, ready: bool, since: Time) {
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "Ready");
    conditions.push(PodCondition {
        type_: "Ready".to_owned(),
        status: if ready { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(since),
        ..PodCondition::default()
    });
}

/// All but one object of a kind as it is.
fn miss(state: &mut State, kind: Kind, name: &str) {
    match kind {
        Kind::Pods => miss_one(&mut state.views.pods, &state.world.pods, name),
        Kind::Claims => miss_one(&mut state.views.claims, &state.world.claims, name),
        Kind::Set | Kind::Revisions => {}
    }
}

fn miss_one<K>(view: &mut Option<Objects<K>>, is: &Objects<K>, name: &str) {
    let Some(view) = view else { return };
    let old = view.get(name).cloned();
    *view = is.clone();
    match old {
        Some(old) => drop(view.insert(name.to_owned(), old)),
        None => drop(view.remove(name)),
    }
}

fn restart(state: &mut State, kind: Option<Kind>) {
    let Some(memory) = state.memory.take() else { return };
    state.views = Views::default();
    let kinds = kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
    kinds.into_iter().for_each(|kind| state.views.hold(kind, &memory));
}

/// What the user does.
pub(crate) fn make(state: &mut State, change: &Change) {
    let world = &mut state.world;
    match *change {
        Change::Image(image) => world.change_spec(|spec| {
            let containers = spec.template.spec.iter_mut().flat_map(|pod| pod.containers.first_mut());
            containers.for_each(|container| container.image = Some(image.to_owned()));
        }),
        Change::Scale(replicas) => world.change_spec(|spec| spec.replicas = Some(replicas)),
        Change::Partition(partition) => world.change_spec(|spec| {
            let block = spec.update_strategy.as_mut().and_then(|strategy| strategy.rolling_update.as_mut());
            block.into_iter().for_each(|block| block.partition = Some(partition));
        }),
        Change::Start(start) => world.change_spec(|spec| spec.ordinals.get_or_insert_default().start = start.into()),
        Change::Retention(deleted, scaled) => world.change_spec(|spec| {
            let policy = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
            (policy.when_deleted, policy.when_scaled) = (Some(word(deleted).to_owned()), Some(word(scaled).to_owned()));
        }),
        Change::Pause(pause) => world.annotate(PAUSED, if pause { "true" } else { "false" }),
        Change::Reserve(ordinals) => world.annotate(RESERVED_ORDINALS, ordinals),
        Change::Promote(ordinal) => promote(world, ordinal),
        Change::Recreate => recreate(state),
        Change::Delete => Arc::make_mut(&mut world.set).metadata.deletion_timestamp = Some(Time(world.now)),
    }
}

fn promote(world: &mut World, primary: u32) {
    let role = |name: &str| if ordinal_of("web", name).is_some_and(|ordinal| ordinal.0 == primary) { "primary" } else { "replica" };
    let pods: Vec<_> = world.pods.keys().map(|name| (name.clone(), role(name))).collect();
    for (name, role) in pods {
        world.change_pod(&name, |pod| drop(pod.metadata.labels.get_or_insert_default().insert("role".to_owned(), role.to_owned())));
    }
}

/// The set goes and leaves everything behind; then one of its name is created.
fn recreate(state: &mut State) {
    let old = state.world.set.metadata.uid.clone().unwrap_or_default();
    let number = old.rsplit_once('~').and_then(|(_, number)| number.parse::<u32>().ok()).unwrap_or(0);
    let set = Arc::make_mut(&mut state.world.set);
    set.metadata.uid = Some(format!("web~{}", number + 1));
    (set.metadata.generation, set.status) = (Some(1), None);
    disown(&mut state.world.pods, &old);
    disown(&mut state.world.claims, &old);
    disown(&mut state.world.revisions, &old);
}

fn disown<K>(objects: &mut Objects<K>, uid: &str)
where
    K: k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta> + Clone,
{
    for object in objects.values_mut() {
        let owners = &mut Arc::make_mut(object).metadata_mut().owner_references;
        owners.iter_mut().for_each(|owners| owners.retain(|owner| owner.uid != uid));
    }
}
