//! What is to be done about one object.

use std::collections::BTreeSet;

use kinds::Uid;

use super::graph::{Graph, Item, Owner};
use super::{FOREGROUND, ORPHAN};

/// One write about the object that was judged, or about a dependent of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Delete it; `foreground` if its own dependents are to go first.
    Delete { uid: Uid, foreground: bool },
    /// Take these owners from its list.
    RemoveOwners { uid: Uid, owners: BTreeSet<Uid> },
    /// Take this finalizer from its list.
    RemoveFinalizer { uid: Uid, finalizer: &'static str },
}

/// What is to be done, or found out first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub actions: Vec<Action>,
    /// Owners to look for on the server, and to [`Graph::confirm_gone`] if they are not there; then to judge again.
    pub unknown_owners: Vec<Owner>,
    /// Owners that can't own it: they live in another namespace.
    pub foreign_owners: Vec<Owner>,
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It exists and keeps its dependents.
    Solid,
    /// It goes as soon as its dependents have gone.
    Waiting,
    Gone,
    Unknown,
    /// It lives in another namespace, where it owns nothing of this one.
    Foreign,
}

impl Graph {
    /// What is to be done about the object with this uid. A verdict that was carried out is followed by an empty one.
    pub fn judge(&self, uid: &Uid) -> Verdict {
        let Some(item) = self.get(uid) else { return Verdict::default() };
        if item.orphans_dependents() {
            return self.orphan(item);
        }
        if item.goes_in_foreground() && !self.dependents_of(uid).any(|dependent| self.blocks(dependent, uid)) {
            let action = Action::RemoveFinalizer { uid: uid.clone(), finalizer: FOREGROUND };
            return Verdict { actions: vec![action], ..Verdict::default() };
        }
        if item.deleting { Verdict::default() } else { self.judge_dependent(item) }
    }

    fn blocks(&self, dependent: &Uid, owner: &Uid) -> bool {
        let item = self.get(dependent);
        item.is_some_and(|item| item.owners.iter().any(|entry| entry.uid == *owner && entry.blocks()))
    }

    /// First every dependent forgets the owner, then the owner goes.
    fn orphan(&self, item: &Item) -> Verdict {
        let forget = |dependent: &Uid| Action::RemoveOwners { uid: dependent.clone(), owners: BTreeSet::from([item.uid.clone()]) };
        let mut actions: Vec<_> = self.dependents_of(&item.uid).map(forget).collect();
        if actions.is_empty() {
            actions.push(Action::RemoveFinalizer { uid: item.uid.clone(), finalizer: ORPHAN });
        }
        Verdict { actions, ..Verdict::default() }
    }

    fn judge_dependent(&self, item: &Item) -> Verdict {
        let standings: Vec<_> = item.owners.iter().map(|owner| (owner, self.standing(item, owner))).collect();
        let with = |wanted: Standing| standings.iter().filter(move |(_, standing)| *standing == wanted).map(|(owner, _)| (*owner).clone());
        let verdict = Verdict { foreign_owners: with(Standing::Foreign).collect(), ..Verdict::default() };
        let unknown: Vec<_> = with(Standing::Unknown).collect();
        if !unknown.is_empty() {
            return Verdict { unknown_owners: unknown, ..verdict };
        }
        let leaving: BTreeSet<_> = with(Standing::Gone).chain(with(Standing::Waiting)).map(|owner| owner.uid).collect();
        let kept = with(Standing::Solid).next().is_some() || with(Standing::Foreign).next().is_some();
        let uid = item.uid.clone();
        let action = match (leaving.is_empty(), kept) {
            (true, _) => return verdict,
            (false, true) => Action::RemoveOwners { uid, owners: leaving },
            (false, false) => {
                Action::Delete { foreground: self.goes_after_dependents(item, with(Standing::Waiting).next().is_some()), uid }
            }
        };
        Verdict { actions: vec![action], ..verdict }
    }

    /// A dependent of an owner that waits lets its own dependents go first too, so that the owner waits for the whole tree.
    fn goes_after_dependents(&self, item: &Item, owner_waits: bool) -> bool {
        item.has_finalizer(FOREGROUND) || (owner_waits && self.dependents_of(&item.uid).next().is_some())
    }

    fn standing(&self, item: &Item, owner: &Owner) -> Standing {
        match self.get(&owner.uid) {
            Some(known) if !known.key.namespace.is_empty() && known.key.namespace != item.key.namespace => Standing::Foreign,
            Some(known) if known.goes_in_foreground() && owner.blocks() => Standing::Waiting,
            Some(_) => Standing::Solid,
            None if self.is_gone(&owner.uid) => Standing::Gone,
            None => Standing::Unknown,
        }
    }
}
