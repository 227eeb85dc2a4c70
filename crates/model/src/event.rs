//! What may happen next.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use plan::forecast::{is_pending, is_ready};
use plan::statefulset::{Plan, status_differs};

use crate::configuration::{Change, Configuration, Fault};
use crate::state::{Kind, State};

/// One thing that happens. Pods are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The controller plans and carries the plan out.
    Round,
    /// The same, but it dies after so many actions, with or without having written the status.
    Crash {
        actions: usize,
        status: bool,
    },
    /// A pod moves one phase along.
    Advance(String),
    /// The garbage collector runs.
    Collect,
    /// The user makes the next change of this list.
    Change(usize, Change),
    Fail(String),
    Unready(String),
    Loop(String),
    Delete(String),
    Lose(String),
    /// All nodes are heard of again.
    Return,
    /// A pod is given to a node, where it takes long to start.
    Assign(String),
    /// The view of a kind stands still.
    Lag(Kind),
    /// The view of a kind is up to date again.
    Deliver(Kind),
    /// The view of pods or claims is up to date again, but for one object.
    Miss(Kind, String),
    /// A state is kept, to be seen again after a restart.
    Remember,
    /// The controller starts anew, and sees one kind, or all, as it was remembered.
    Restart(Option<Kind>),
}

impl Event {
    /// What it counts as if it is something that goes wrong.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Crash { .. } => Some(Fault::Crash),
            Self::Lag(_) => Some(Fault::Lag),
            Self::Remember => Some(Fault::OldView),
            Self::Fail(_) => Some(Fault::Fail),
            Self::Unready(_) => Some(Fault::Unready),
            Self::Loop(_) => Some(Fault::Loop),
            Self::Delete(_) => Some(Fault::Delete),
            Self::Lose(_) => Some(Fault::Loss),
            Self::Assign(_) => Some(Fault::Slow),
            Self::Round
            | Self::Advance(_)
            | Self::Collect
            | Self::Change(..)
            | Self::Return
            | Self::Deliver(_)
            | Self::Miss(..)
            | Self::Restart(_) => None,
        }
    }
}

/// All that may happen in a state; `plan` is what the controller would do. Some of it may change nothing.
pub(crate) fn possible(configuration: &Configuration, state: &State, plan: &Plan) -> Vec<Event> {
    let mut events = vec![Event::Round, Event::Collect];
    events.extend(state.world.pods.keys().filter(|name| !state.lost.contains(name)).cloned().map(Event::Advance));
    let deleted = state.world.set.metadata.deletion_timestamp.is_some();
    for (list, done) in state.progress.iter().enumerate().filter(|_| !deleted) {
        events.extend(configuration.changes[list].get(usize::from(*done)).map(|change| Event::Change(list, *change)));
    }
    if !state.lost.is_empty() {
        events.push(Event::Return);
    }
    for kind in Kind::ALL.into_iter().filter(|kind| state.views.lags(*kind)) {
        events.push(Event::Deliver(kind));
        events.extend(missable(state, kind).into_iter().map(|name| Event::Miss(kind, name)));
    }
    if state.memory.is_some() {
        events.push(Event::Restart(None));
        events.extend(Kind::ALL.map(|kind| Event::Restart(Some(kind))));
    }
    if state.faults_left > 0 {
        let wrong = faults(state, plan).into_iter();
        events.extend(wrong.filter(|event| event.fault().is_none_or(|fault| configuration.kinds.contains(&fault))));
    }
    events
}

/// All that may go wrong.
fn faults(state: &State, plan: &Plan) -> Vec<Event> {
    let mut events = crashes(state, plan);
    for (name, pod) in &state.world.pods {
        let going = pod.metadata.deletion_timestamp.is_some();
        let serves = is_ready(pod) && !going;
        let rows = [
            (serves, Event::Unready as fn(String) -> Event),
            (serves, Event::Loop),
            (runs(pod) && !going, Event::Fail),
            (!going, Event::Delete),
            (!is_pending(pod) && !state.lost.contains(name), Event::Lose),
            (is_pending(pod) && !is_assigned(pod), Event::Assign),
        ];
        events.extend(rows.into_iter().filter(|(possible, _)| *possible).map(|(_, event)| event(name.clone())));
    }
    events.extend(Kind::ALL.into_iter().filter(|kind| !state.views.lags(*kind)).map(Event::Lag));
    if state.memory.is_none() {
        events.push(Event::Remember);
    }
    events
}

/// A crash after each write but the last.
fn crashes(state: &State, plan: &Plan) -> Vec<Event> {
    let seen = state.views.set.as_ref().unwrap_or(&state.world.set);
    let writes_status = status_differs(seen.status.as_ref(), &plan.status);
    let actions = plan.actions.len();
    let cuts = (0..=actions).flat_map(|actions| [(actions, false), (actions, true)]);
    let cuts = cuts.filter(|(done, status)| (writes_status || !status) && (*done < actions || *status != writes_status));
    cuts.filter(|cut| *cut != (0, false)).map(|(actions, status)| Event::Crash { actions, status }).collect()
}

/// The objects of a kind whose news may be missed while others arrive.
fn missable(state: &State, kind: Kind) -> Vec<String> {
    let (world, views) = (&state.world, &state.views);
    match kind {
        Kind::Pods => views.pods.iter().flat_map(|pods| differing(pods, &world.pods)).collect(),
        Kind::Claims => views.claims.iter().flat_map(|claims| differing(claims, &world.claims)).collect(),
        Kind::Set | Kind::Revisions => Vec::new(),
    }
}

/// The names of what is not the same in both, if there are at least two.
fn differing<K>(a: &crate::state::Objects<K>, b: &crate::state::Objects<K>) -> Vec<String> {
    let same = |name: &String| match (a.get(name), b.get(name)) {
        (Some(a), Some(b)) => std::sync::Arc::ptr_eq(a, b),
        _ => false,
    };
    let mut names: Vec<_> = a.keys().chain(b.keys()).filter(|name| !same(name)).cloned().collect();
    names.sort();
    names.dedup();
    if names.len() < 2 { Vec::new() } else { names }
}

fn runs(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

fn is_assigned(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Round => f.write_str("the controller takes a round"),
            Self::Crash { actions, status } => {
                let status = if *status { "and the status" } else { "without the status" };
                write!(f, "the controller dies after {actions} actions, {status}")
            }
            Self::Advance(pod) => write!(f, "{pod} moves along"),
            Self::Collect => f.write_str("garbage is collected"),
            Self::Change(_, change) => write!(f, "the user changes the set: {change:?}"),
            Self::Fail(pod) => write!(f, "{pod} fails"),
            Self::Unready(pod) => write!(f, "{pod} is no longer ready"),
            Self::Loop(pod) => write!(f, "a container of {pod} ends again and again"),
            Self::Delete(pod) => write!(f, "somebody deletes {pod}"),
            Self::Lose(pod) => write!(f, "the node of {pod} is lost"),
            Self::Return => f.write_str("lost nodes are back"),
            Self::Assign(pod) => write!(f, "{pod} is given to a node, and starts slowly"),
            Self::Lag(kind) => write!(f, "the view of {kind} stands still"),
            Self::Deliver(kind) => write!(f, "the view of {kind} is up to date"),
            Self::Miss(kind, name) => write!(f, "the view of {kind} is up to date but for {name}"),
            Self::Remember => f.write_str("this state is remembered"),
            Self::Restart(None) => f.write_str("the controller starts anew and sees all as remembered"),
            Self::Restart(Some(kind)) => write!(f, "the controller starts anew and sees {kind} as remembered"),
        }
    }
}
