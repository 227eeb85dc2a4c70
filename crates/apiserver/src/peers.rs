//! Whose connections are open: no peer has all that there may be.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it is told, at most, that a peer has all it may have.
const TOLD: Duration = Duration::from_secs(60);

/// Open connections by where they come from.
#[derive(Debug, Default)]
pub struct Peers {
    state: Mutex<State>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Who has none is not here.
    open: HashMap<IpAddr, usize>,
    told: Option<Instant>,
}

impl Peers {
    /// Room for one more connection of a peer, which may have so many; `None` if it has them.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, most: usize) -> Option<Place> {
        let peer = network(peer);
        let mut state = self.state();
        let open = state.open.get(&peer).copied().unwrap_or_default();
        if open < most {
            state.open.insert(peer, open + 1);
            return Some(Place { peers: Arc::clone(self), peer });
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        if state.told.is_none_or(|told| told.elapsed() > TOLD) {
            state.told = Some(Instant::now());
            tracing::warn!(%peer, most, "a peer has all the connections it may have; further ones are closed");
        }
        None
    }

    /// Connections that were closed at once since the server began.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.peers.state();
        match state.open.get_mut(&self.peer) {
            Some(open) if *open > 1 => *open -= 1,
            _ => drop(state.open.remove(&self.peer)),
        }
    }
}

/// Whoever has one address of version 6 has the other half of it, too.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_no_more_than_it_may_and_is_forgotten_when_it_goes() {
        let peers = Arc::new(Peers::default());
        let enter = |address: &str| peers.enter(address.parse().unwrap(), 2);
        let first = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(first.0.is_some() && first.1.is_some() && enter("10.0.0.1").is_none());
        let other = (enter("10.0.0.2"), enter("2001:db8::1"), enter("2001:db8::ffff:1"));
        assert!(other.0.is_some() && other.1.is_some() && other.2.is_some());
        assert!(enter("2001:db8::2").is_none() && enter("2001:db8:0:1::1").is_some());
        assert_eq!(peers.refused(), 2);
        drop(first.0);
        assert!(enter("10.0.0.1").is_some());
        drop((first.1, other));
        assert!(peers.state().open.is_empty());
    }
}
