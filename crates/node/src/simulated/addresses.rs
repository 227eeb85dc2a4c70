//! Which pod has which address. Only the agent's task reads and writes it.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use kinds::ObjectKey;

/// The addresses of one network: each is held by one name at most, until it is released. A name that is to be kept gets the
/// same address when it comes back, unless the network has run out meanwhile.
#[derive(Debug)]
pub(super) struct Addresses {
    first: u32,
    count: u32,
    /// Where the search for a free one goes on, counted from the first. The one just released comes last.
    next: u32,
    used: HashSet<u32>,
    holders: HashMap<ObjectKey, Holder>,
}

#[derive(Debug)]
struct Holder {
    /// Counted from the first.
    offset: u32,
    keep: bool,
    /// Kept for a name that has no pod at the moment.
    idle: bool,
}

impl Addresses {
    /// All addresses of a network that may belong to a host.
    pub(super) fn of_network((address, prefix): (Ipv4Addr, u8)) -> Self {
        let size = 1_u64 << 32_u32.saturating_sub(prefix.into());
        let base = u32::from(address) & u32::try_from(!(size - 1) & 0xffff_ffff).unwrap_or(0);
        let count = u32::try_from(size.saturating_sub(2)).unwrap_or(u32::MAX);
        Self { first: base.saturating_add(1), count, next: 0, used: HashSet::new(), holders: HashMap::new() }
    }

    /// Takes away the first ones, for good; `None` if there are not that many.
    pub(super) fn split_first(&mut self, wanted: u32) -> Option<Vec<Ipv4Addr>> {
        let rest = self.count.checked_sub(wanted)?;
        let taken = (0..wanted).map(|offset| self.at(offset)).collect();
        self.first += wanted;
        self.count = rest;
        Some(taken)
    }

    /// The address of this name; a free one if it has none. `None` if all are held.
    pub(super) fn reserve(&mut self, key: &ObjectKey, keep: bool) -> Option<Ipv4Addr> {
        if let Some(holder) = self.holders.get_mut(key) {
            (holder.keep, holder.idle) = (keep, false);
            let offset = holder.offset;
            return Some(self.at(offset));
        }
        let offset = self.free()?;
        self.hold(key, offset, keep);
        Some(self.at(offset))
    }

    /// Takes over what an earlier run gave to this name, if that is free.
    pub(super) fn adopt(&mut self, key: &ObjectKey, address: Ipv4Addr, keep: bool) {
        let offset = u32::from(address).checked_sub(self.first).filter(|offset| *offset < self.count);
        if let Some(offset) = offset.filter(|offset| !self.holders.contains_key(key) && !self.used.contains(offset)) {
            self.hold(key, offset, keep);
        }
    }

    /// The name's pod is gone.
    pub(super) fn release(&mut self, key: &ObjectKey) {
        match self.holders.get_mut(key) {
            Some(holder) if holder.keep => holder.idle = true,
            Some(holder) => {
                self.used.remove(&holder.offset);
                self.holders.remove(key);
            }
            None => {}
        }
    }

    fn hold(&mut self, key: &ObjectKey, offset: u32, keep: bool) {
        self.used.insert(offset);
        self.holders.insert(key.clone(), Holder { offset, keep, idle: false });
    }

    fn free(&mut self) -> Option<u32> {
        if self.is_full() {
            self.drop_idle();
        }
        if self.is_full() {
            return None;
        }
        let mut candidates = (self.next..self.count).chain(0..self.next);
        let free = candidates.find(|offset| !self.used.contains(offset))?;
        self.next = (free + 1) % self.count;
        Some(free)
    }

    fn is_full(&self) -> bool {
        self.used.len() >= usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    fn drop_idle(&mut self) {
        let used = &mut self.used;
        self.holders.retain(|_, holder| !holder.idle || !used.remove(&holder.offset));
    }

    fn at(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + offset)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> ObjectKey {
        ObjectKey::new("default", format!("pod-{number}"))
    }

    fn network(prefix: u8) -> Addresses {
        Addresses::of_network((Ipv4Addr::new(10, 77, 0, 9), prefix))
    }

    #[test]
    fn a_network_has_as_many_addresses_as_may_belong_to_hosts() {
        let counts = [0, 8, 24, 30, 31, 32].map(|prefix| network(prefix).count);
        assert_eq!(counts, [u32::MAX - 1, (1 << 24) - 2, 254, 2, 0, 0]);
        assert_eq!(network(24).at(0), Ipv4Addr::new(10, 77, 0, 1));
    }

    #[test]
    fn nodes_and_pods_share_no_address() {
        let mut addresses = network(29);
        assert_eq!(addresses.split_first(7), None);
        let nodes = addresses.split_first(5).unwrap();
        let pod = addresses.reserve(&key(0), false).unwrap();
        assert!(!nodes.contains(&pod));
        assert_eq!(addresses.reserve(&key(1), false), None);
    }

    #[test]
    fn a_kept_name_gets_its_address_back_until_the_network_has_run_out() {
        let mut addresses = network(30);
        let kept = addresses.reserve(&key(0), true);
        addresses.release(&key(0));
        let other = addresses.reserve(&key(1), false);
        assert_ne!(other, kept);
        assert_eq!(addresses.reserve(&key(0), true), kept);
        assert_eq!(addresses.reserve(&key(2), false), None);
        addresses.release(&key(0));
        assert_eq!(addresses.reserve(&key(2), false), kept);
    }

    proptest! {
        #[test]
        fn no_two_pods_have_one_address(steps in proptest::collection::vec((0..12_u8, 0..3_u8, any::<bool>()), 1..200)) {
            let mut addresses = network(29);
            let mut live: HashMap<u8, Ipv4Addr> = HashMap::new();
            for (pod, step, keep) in steps {
                match step {
                    0 => drop(addresses.reserve(&key(pod), keep).map(|address| live.insert(pod, address))),
                    1 if !live.contains_key(&pod) => addresses.adopt(&key(pod), Ipv4Addr::new(10, 77, 0, 8 + pod), keep),
                    1 => {}
                    _ => {
                        addresses.release(&key(pod));
                        live.remove(&pod);
                    }
                }
                let distinct: HashSet<_> = live.values().collect();
                prop_assert_eq!(distinct.len(), live.len());
                prop_assert_eq!(addresses.used.len(), addresses.holders.len());
            }
        }
    }
}
