//! From the rules the kernel has to the rules it should have, touching nothing else.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Backend, Frontend, Ruleset};

/// One step towards the desired rules. Steps that remove come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing is behind this frontend any more.
    Remove { frontend: Frontend, backend: Backend },
    /// The frontend leads elsewhere; `gone` were its endpoints and are no longer.
    Replace { frontend: Frontend, old: Backend, new: Backend, gone: Vec<SocketAddrV4> },
    /// A new frontend.
    Add { frontend: Frontend, backend: Backend },
    /// No endpoint has this address any more.
    ForgetAddress(Ipv4Addr),
    /// An endpoint has this address, and may come back to itself through a frontend.
    LearnAddress(Ipv4Addr),
}

/// What leads from `current` to `desired`; nothing if they are the same.
pub fn diff(current: &Ruleset, desired: &Ruleset) -> Vec<Change> {
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for (frontend, backend) in current.frontends() {
        if !desired.frontends().contains_key(frontend) {
            removed.push(Change::Remove { frontend: *frontend, backend: backend.clone() });
        }
    }
    for (frontend, new) in desired.frontends() {
        match current.frontends().get(frontend) {
            Some(old) if same_rule(old, new) => {}
            Some(old) => added.push(replacement(*frontend, old, new)),
            None => added.push(Change::Add { frontend: *frontend, backend: new.clone() }),
        }
    }
    if !removed.is_empty() || !added.is_empty() {
        let (before, after) = (current.addresses(), desired.addresses());
        removed.extend(before.difference(&after).map(|address| Change::ForgetAddress(*address)));
        added.extend(after.difference(&before).map(|address| Change::LearnAddress(*address)));
    }
    removed.append(&mut added);
    removed
}

/// The kernel does not know whose rule it is.
fn same_rule(old: &Backend, new: &Backend) -> bool {
    old.endpoints == new.endpoints && old.affinity == new.affinity
}

fn replacement(frontend: Frontend, old: &Backend, new: &Backend) -> Change {
    let gone = BTreeSet::difference(&old.endpoints, &new.endpoints).copied().collect();
    Change::Replace { frontend, old: old.clone(), new: new.clone(), gone }
}
