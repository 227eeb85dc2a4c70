//! Who owns whom.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kinds::{ObjectKey, Resource, Uid};

use super::{FOREGROUND, ORPHAN};

/// How many owners are remembered as gone for good. A uid never comes back.
const REMEMBERED: usize = 4096;

/// An object, as far as ownership goes.
#[derive(Clone, Debug)]
pub struct Item {
    pub resource: &'static Resource,
    pub key: ObjectKey,
    pub uid: Uid,
    pub resource_version: String,
    pub owners: Vec<Owner>,
    pub finalizers: Vec<String>,
    pub deleting: bool,
}

/// An entry of `ownerReferences`.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    pub reference: OwnerReference,
    pub uid: Uid,
}

impl Owner {
    /// Whether the owner, going in the foreground, waits for the dependent.
    pub fn blocks(&self) -> bool {
        self.reference.block_owner_deletion == Some(true)
    }
}

impl Item {
    /// The object of a kind with this metadata.
    pub fn of(resource: &'static Resource, meta: &ObjectMeta) -> Self {
        let owner = |reference: &OwnerReference| Owner { uid: Uid(reference.uid.clone()), reference: reference.clone() };
        Self {
            resource,
            key: ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default()),
            uid: Uid(meta.uid.clone().unwrap_or_default()),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owners: meta.owner_references.iter().flatten().map(owner).collect(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    pub(super) fn has_finalizer(&self, wanted: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == wanted)
    }

    /// It goes after its dependents.
    pub fn goes_in_foreground(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }

    /// It leaves its dependents behind.
    pub fn orphans_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(ORPHAN)
    }

    /// Whether what ownership depends on is the same.
    fn means_the_same(&self, other: &Self) -> bool {
        (&self.owners, &self.finalizers, self.deleting) == (&other.owners, &other.finalizers, other.deleting)
    }
}

/// Every object and its dependents.
#[derive(Debug, Default)]
pub struct Graph {
    items: HashMap<Uid, Item>,
    /// Dependents by owner, whether or not the owner is known.
    dependents: HashMap<Uid, BTreeSet<Uid>>,
    gone: HashSet<Uid>,
    gone_order: VecDeque<Uid>,
}

impl Graph {
    /// Takes over an object as it is now; the uids to judge again because of it.
    pub fn put(&mut self, item: Item) -> Vec<Uid> {
        let uid = item.uid.clone();
        let news = self.items.get(&uid).is_none_or(|known| !known.means_the_same(&item));
        if news {
            self.unlink(&uid);
            for owner in &item.owners {
                self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            }
        }
        let leaving = item.goes_in_foreground() || item.orphans_dependents();
        // Whoever owned it or owns it now may have waited for this.
        let before = self.items.get(&uid).into_iter().flat_map(|known| &known.owners);
        let owners: BTreeSet<_> =
            before.chain(&item.owners).map(|owner| owner.uid.clone()).filter(|owner| self.is_waiting(owner)).collect();
        self.items.insert(uid.clone(), item);
        if !news {
            return Vec::new();
        }
        let dependents = self.dependents_of(&uid).filter(|_| leaving).cloned();
        dependents.chain(owners).chain([uid.clone()]).collect()
    }

    /// Forgets an object that is gone; the uids to judge again because of it.
    pub fn remove(&mut self, uid: &Uid) -> Vec<Uid> {
        let owners: Vec<_> = self.items.get(uid).into_iter().flat_map(|item| item.owners.iter().map(|owner| owner.uid.clone())).collect();
        self.unlink(uid);
        self.items.remove(uid);
        self.confirm_gone(uid.clone());
        let waiting = owners.into_iter().filter(|owner| self.is_waiting(owner));
        waiting.chain(self.dependents_of(uid).cloned()).collect()
    }

    fn unlink(&mut self, uid: &Uid) {
        let Some(item) = self.items.get(uid) else { return };
        for owner in &item.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    fn is_waiting(&self, owner: &Uid) -> bool {
        self.items.get(owner).is_some_and(|item| item.goes_in_foreground() || item.orphans_dependents())
    }

    /// Remembers that the server knows no object of this uid.
    pub fn confirm_gone(&mut self, uid: Uid) {
        if self.gone.insert(uid.clone()) {
            self.gone_order.push_back(uid);
        }
        if self.gone_order.len() > REMEMBERED
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    pub(super) fn is_gone(&self, uid: &Uid) -> bool {
        self.gone.contains(uid)
    }

    /// One object.
    pub fn get(&self, uid: &Uid) -> Option<&Item> {
        self.items.get(uid)
    }

    /// The uids of all objects that there could be something to do about: those with owners, and those on their way.
    pub fn all_to_judge(&self) -> Vec<Uid> {
        let candidates = self.items.values().filter(|item| item.deleting || !item.owners.is_empty());
        candidates.map(|item| item.uid.clone()).collect()
    }

    /// The objects that name this owner.
    pub fn dependents_of(&self, uid: &Uid) -> impl Iterator<Item = &Uid> {
        self.dependents.get(uid).into_iter().flatten()
    }
}
