//! The connection between one controller and the server, on which things go wrong.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apiserver::Server;
use apiserver::auth::Identity;
use store::{Revision, Store};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::Perturbation;
use crate::connection::Connection;

/// A controller that made no request for so long rests.
const REST: Duration = Duration::from_millis(25);
/// The kinds whose lists and watches go wrong: those that the controller decides by.
pub(crate) const KINDS: [&str; 4] = ["statefulsets", "pods", "persistentvolumeclaims", "controllerrevisions"];

/// Counts what passes, and does the one thing wrong that it is for.
pub struct Wire {
    perturbation: Perturbation,
    store: Arc<dyn Store>,
    state: Mutex<State>,
    crashed: Notify,
    /// How often all watches were ended.
    cuts: watch::Sender<u32>,
}

#[derive(Debug)]
struct State {
    armed: bool,
    /// Which start of the controller is alive.
    life: u32,
    writes: usize,
    events: usize,
    /// The server's revision when the wire was armed, and after each write.
    revisions: Vec<Revision>,
    /// Kinds whose next list is an old one.
    old_lists: BTreeSet<&'static str>,
    /// Kinds whose next watch begins only when the controller rests.
    held: BTreeSet<&'static str>,
    /// Kinds whose next watch is refused.
    expired: BTreeSet<&'static str>,
    last_request: Instant,
}

impl Wire {
    /// A wire that does this wrong once it is armed.
    pub fn new(perturbation: Perturbation, store: Arc<dyn Store>) -> Arc<Self> {
        let state = State {
            armed: false,
            life: 0,
            writes: 0,
            events: 0,
            revisions: Vec::new(),
            old_lists: BTreeSet::new(),
            held: BTreeSet::new(),
            expired: BTreeSet::new(),
            last_request: Instant::now(),
        };
        Arc::new(Self { perturbation, store, state: Mutex::new(state), crashed: Notify::new(), cuts: watch::Sender::new(0) })
    }

    /// Begins to count.
    pub fn arm(&self) {
        let revision = self.store.revision();
        let mut state = self.state();
        (state.armed, state.revisions) = (true, vec![revision]);
    }

    /// How many writes and events have passed since it was armed.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.writes, state.events)
    }

    /// A client for a controller that starts now. It is silent once that controller has died.
    pub fn client(self: &Arc<Self>, server: &Server, user: &str) -> kube::Client {
        let inner = server.in_process(Identity::new(user, &[]));
        let life = self.state().life;
        kube::Client::new(Connection::new(self.clone(), inner, life), "default")
    }

    /// Waits until the controller has to die.
    pub async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// Whether no request was made for a while.
    pub fn rests(&self) -> bool {
        self.state().last_request.elapsed() > REST
    }

    /// Ends all watches, none of which can be resumed.
    pub fn cut(&self) {
        self.state().expired.extend(KINDS);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_dead(&self, life: u32) -> bool {
        self.state().life != life
    }

    /// Notes a write that the server has done; whether the controller dies of it.
    pub(crate) fn wrote(&self) -> bool {
        let revision = self.store.revision();
        let mut state = self.state();
        if !state.armed {
            return false;
        }
        state.writes += 1;
        state.revisions.push(revision);
        let dies = match self.perturbation {
            Perturbation::Crash { write } => state.writes == write,
            Perturbation::OldLists { write, .. } if state.writes == write => {
                (state.old_lists, state.held) = (KINDS.into(), KINDS.into());
                true
            }
            _ => false,
        };
        if dies {
            state.life += 1;
            self.crashed.notify_one();
        }
        dies
    }

    /// What becomes of the next event of a kind.
    pub(crate) fn fate(&self, kind: &'static str) -> Fate {
        let mut state = self.state();
        if !state.armed {
            return Fate::Passes;
        }
        state.events += 1;
        match self.perturbation {
            Perturbation::Broken { event } if state.events == event => {
                state.held.insert(kind);
                Fate::EndsWatch
            }
            Perturbation::Expired { event } if state.events == event => {
                state.held.insert(kind);
                state.expired.insert(kind);
                Fate::EndsWatch
            }
            Perturbation::Lost { event } if state.events == event => Fate::IsLost,
            _ => Fate::Passes,
        }
    }

    /// The revision of an old list, if the next list of the kind is to be one.
    pub(crate) fn old_list(&self, kind: &'static str) -> Option<Revision> {
        let mut state = self.state();
        let Perturbation::OldLists { list, .. } = self.perturbation else { return None };
        state.old_lists.remove(kind).then(|| state.revisions.get(list).copied()).flatten()
    }

    /// Notes that the controller asks for something.
    pub(crate) fn noted(&self) {
        self.state().last_request = Instant::now();
    }

    /// Whether the next watch of a kind has to wait until the controller rests.
    pub(crate) fn is_held(&self, kind: &'static str) -> bool {
        self.state().held.remove(kind)
    }

    /// Whether the next watch of a kind is refused.
    pub(crate) fn is_expired(&self, kind: &'static str) -> bool {
        self.state().expired.remove(kind)
    }

    /// Tells when all watches end.
    pub(crate) fn cuts(&self) -> watch::Receiver<u32> {
        self.cuts.subscribe()
    }

    pub(crate) async fn until_rest(&self) {
        while !self.rests() {
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// What becomes of an event.
pub(crate) enum Fate {
    Passes,
    IsLost,
    EndsWatch,
}
