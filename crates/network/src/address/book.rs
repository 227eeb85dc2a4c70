//! Who has which address: pure, and with one rule above all: what is kept for a name is given to nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use kinds::ObjectKey;
use plan::service::Cidr;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Keep, PodIdentity};

/// The addresses of one network. The first is the gateway's; the lowest and the highest are nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    cidr: Cidr,
    /// How many host addresses were ever given, from the lowest on; those above are fresh.
    given: u32,
    /// Free addresses, the one that was released first in front.
    released: VecDeque<Ipv4Addr>,
    leases: Vec<Lease>,
    /// Positions in `leases` by name; rebuilt when read.
    #[serde(skip)]
    names: BTreeMap<ObjectKey, Vec<usize>>,
}

/// One address that is not free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    namespace: String,
    name: String,
    address: Ipv4Addr,
    keep: Keep,
    /// The pod that uses it now; none while it is only kept.
    uid: Option<String>,
}

/// The file does not fit this instance.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error("the file is damaged: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("addresses were given from {was}, not {is}: start with --pod-cidr {was}, or remove the file to give new ones")]
    OtherNetwork { was: String, is: String },
    #[error("the file is damaged: {0} is given twice or lies outside of the network")]
    Address(Ipv4Addr),
}

impl Book {
    pub(super) fn new(cidr: Cidr) -> Self {
        Self { cidr, given: 0, released: VecDeque::new(), leases: Vec::new(), names: BTreeMap::new() }
    }

    /// Reads a book and checks that it makes sense.
    pub(super) fn from_json(text: &[u8], cidr: Cidr) -> Result<Self, ReadError> {
        let mut book: Self = serde_json::from_slice(text)?;
        let same = book.cidr.first() == cidr.first() && book.cidr.prefix == cidr.prefix;
        if !same && book.leases.is_empty() {
            return Ok(Self::new(cidr));
        }
        if !same {
            return Err(ReadError::OtherNetwork { was: book.cidr.to_string(), is: cidr.to_string() });
        }
        book.check()?;
        book.index();
        Ok(book)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a book has string keys only")
    }

    pub(super) fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// How many addresses are in use or kept.
    pub(super) fn used(&self) -> usize {
        self.leases.len()
    }

    /// The address a reservation would find without taking a new one.
    pub(super) fn address_of(&self, key: &ObjectKey, uid: &str, keep: Keep) -> Option<Ipv4Addr> {
        let lease = &self.leases[self.find(key, uid)?];
        (lease.uid.as_deref() == Some(uid) && (lease.keep == keep || lease.keep == Keep::UntilReleased)).then_some(lease.address)
    }

    /// Gives the pod its address; none if there is no free one.
    pub(super) fn reserve(&mut self, key: &ObjectKey, uid: &str, keep: Keep) -> Option<Ipv4Addr> {
        if let Some(position) = self.find(key, uid) {
            // A namesake that lingers may have what is kept for the name; one address is enough.
            let taken = self.positions(key).iter().any(|other| self.leases[*other].keep == Keep::UntilReleased);
            let lease = &mut self.leases[position];
            lease.uid = Some(uid.to_owned());
            if keep == Keep::UntilReleased && !taken {
                lease.keep = keep;
            }
            return Some(lease.address);
        }
        let address = self.take()?;
        self.names.entry(key.clone()).or_default().push(self.leases.len());
        let (namespace, name) = (key.namespace.clone(), key.name.clone());
        self.leases.push(Lease { namespace, name, address, keep, uid: Some(uid.to_owned()) });
        Some(address)
    }

    /// The pod is gone; whether that changed anything.
    pub(super) fn detach(&mut self, key: &ObjectKey, uid: &str) -> bool {
        let held = |position: &usize| self.leases[*position].uid.as_deref() == Some(uid);
        let Some(position) = self.positions(key).iter().copied().find(|position| held(position)) else { return false };
        match self.leases[position].keep {
            Keep::WhilePodExists => self.free(position),
            Keep::UntilReleased => self.leases[position].uid = None,
        }
        true
    }

    /// The name's address is kept no longer; whether that changed anything. A pod that uses it keeps it while it exists.
    pub(super) fn release(&mut self, key: &ObjectKey) -> bool {
        let kept = |position: &usize| self.leases[*position].keep == Keep::UntilReleased;
        let Some(position) = self.positions(key).iter().copied().find(kept) else { return false };
        match self.leases[position].uid {
            Some(_) => self.leases[position].keep = Keep::WhilePodExists,
            None => self.free(position),
        }
        true
    }

    pub(super) fn kept(&self) -> Vec<ObjectKey> {
        let mut kept: Vec<_> = self.leases.iter().filter(|lease| lease.keep == Keep::UntilReleased).map(Lease::key).collect();
        kept.sort();
        kept
    }

    pub(super) fn holders(&self) -> Vec<PodIdentity> {
        let holder = |lease: &Lease| Some(PodIdentity { key: lease.key(), uid: lease.uid.clone()?, keep: lease.keep });
        self.leases.iter().filter_map(holder).collect()
    }

    /// The lease this pod has, or the one that is kept for its name.
    fn find(&self, key: &ObjectKey, uid: &str) -> Option<usize> {
        let own = |lease: &Lease| lease.uid.as_deref() == Some(uid);
        let positions = self.positions(key);
        let with = |fits: &dyn Fn(&Lease) -> bool| positions.iter().copied().find(|position| fits(&self.leases[*position]));
        with(&own).or_else(|| with(&|lease| lease.keep == Keep::UntilReleased))
    }

    fn positions(&self, key: &ObjectKey) -> &[usize] {
        self.names.get(key).map_or(&[], Vec::as_slice)
    }

    /// A free address: a fresh one while there is any, then the one that was released first.
    fn take(&mut self) -> Option<Ipv4Addr> {
        if self.given < self.capacity() {
            self.given += 1;
            // After the network's own address and the gateway's.
            return Some(Ipv4Addr::from(u32::from(self.cidr.first()) + 1 + self.given));
        }
        self.released.pop_front()
    }

    fn free(&mut self, position: usize) {
        let lease = self.leases.swap_remove(position);
        self.released.push_back(lease.address);
        self.rename(&lease.key(), position, None);
        if let Some(moved) = self.leases.get(position) {
            self.rename(&moved.key(), self.leases.len(), Some(position));
        }
    }

    /// Changes a position in the index, or takes it out.
    fn rename(&mut self, key: &ObjectKey, from: usize, to: Option<usize>) {
        let Some(positions) = self.names.get_mut(key) else { return };
        positions.retain(|position| *position != from);
        positions.extend(to);
        if positions.is_empty() {
            self.names.remove(key);
        }
    }

    /// How many addresses pods can have.
    fn capacity(&self) -> u32 {
        (!self.cidr.mask()).saturating_sub(2)
    }

    fn check(&self) -> Result<(), ReadError> {
        let first = u32::from(self.cidr.first()) + 1;
        let known = |address: Ipv4Addr| u32::from(address) > first && u32::from(address) - first <= self.given.min(self.capacity());
        let mut seen = std::collections::BTreeSet::new();
        for address in self.released.iter().copied().chain(self.leases.iter().map(|lease| lease.address)) {
            if !known(address) || !seen.insert(address) {
                return Err(ReadError::Address(address));
            }
        }
        Ok(())
    }

    fn index(&mut self) {
        for (position, lease) in self.leases.iter().enumerate() {
            self.names.entry(lease.key()).or_default().push(position);
        }
    }
}

impl Lease {
    fn key(&self) -> ObjectKey {
        ObjectKey::new(&*self.namespace, &*self.name)
    }
}
