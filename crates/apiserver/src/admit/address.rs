//! The addresses that services can have.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use thiserror::Error;

/// Addresses at a range's beginning that are given only to those who ask for them: `kubernetes`, DNS and the like.
const ASKED_ONLY: u32 = 16;
/// Random tries before the range is searched from its beginning.
const TRIES: u32 = 8;

/// A range of IPv4 addresses: `10.96.0.0/12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    network: u32,
    bits: u8,
}

/// The text is not a range that services' addresses can come from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    #[error("{0:?} is not a range of IPv4 addresses such as 10.96.0.0/12")]
    Text(String),
    #[error("{0:?} must leave between 4 and 24 bits for addresses")]
    Size(String),
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let malformed = || RangeError::Text(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(malformed)?;
        let address: Ipv4Addr = address.parse().map_err(|_| malformed())?;
        let bits: u8 = bits.parse().map_err(|_| malformed())?;
        if !(8..=28).contains(&bits) {
            return Err(RangeError::Size(text.to_owned()));
        }
        Ok(Self { network: address.to_bits() & (u32::MAX << (32 - bits)), bits })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.network), self.bits)
    }
}

impl Range {
    /// The n-th address; the first belongs to the Service `kubernetes`, the tenth to DNS. `None` beyond the range.
    pub fn nth(self, n: u32) -> Option<Ipv4Addr> {
        let last = self.last();
        (1..=last).contains(&n).then(|| Ipv4Addr::from_bits(self.network + n))
    }

    /// How many addresses there are: neither the network's own nor the broadcast's is one.
    fn last(self) -> u32 {
        (1 << (32 - self.bits)) - 2
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits().checked_sub(self.network).is_some_and(|n| (1..=self.last()).contains(&n))
    }
}

/// Why an address can't be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum TakeError {
    #[error("provided IP is already allocated")]
    Taken,
    #[error("the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}")]
    Outside { address: Ipv4Addr, range: Range },
    #[error("range is full")]
    Full,
}

/// Which addresses of a range are taken.
#[derive(Debug)]
pub(super) struct Pool {
    range: Range,
    /// Those of stored services.
    stored: BTreeSet<Ipv4Addr>,
    /// Those of services that are about to be stored.
    claimed: BTreeSet<Ipv4Addr>,
}

impl Pool {
    /// A pool with every address free.
    pub(super) fn new(range: Range) -> Self {
        Self { range, stored: BTreeSet::new(), claimed: BTreeSet::new() }
    }

    /// The address of the Service `kubernetes`.
    pub(super) fn first(&self) -> Option<Ipv4Addr> {
        self.range.nth(1)
    }

    fn is_free(&self, address: Ipv4Addr) -> bool {
        !self.stored.contains(&address) && !self.claimed.contains(&address)
    }

    /// Claims this address.
    pub(super) fn claim(&mut self, address: Ipv4Addr) -> Result<(), TakeError> {
        if !self.range.contains(address) {
            return Err(TakeError::Outside { address, range: self.range });
        }
        if !self.is_free(address) {
            return Err(TakeError::Taken);
        }
        self.claimed.insert(address);
        Ok(())
    }

    /// Claims any address. `random` gives numbers to choose by.
    pub(super) fn claim_any(&mut self, mut random: impl FnMut() -> u64) -> Result<Ipv4Addr, TakeError> {
        let (asked_only, last) = (ASKED_ONLY.min(self.range.last() / 2), self.range.last());
        let choices = u64::from(last - asked_only);
        let chosen = (0..TRIES).filter_map(|_| u32::try_from(random() % choices).ok()).map(|n| asked_only + 1 + n);
        // When those are taken, whatever is free; never the first, it is not for everyone.
        let searched = (asked_only + 1..=last).chain(2..=asked_only);
        let range = self.range;
        let address = chosen.chain(searched).filter_map(|n| range.nth(n)).find(|address| self.is_free(*address));
        let address = address.ok_or(TakeError::Full)?;
        self.claimed.insert(address);
        Ok(address)
    }

    /// Ends a claim: the address is free, unless its service is stored.
    pub(super) fn unclaim(&mut self, address: Ipv4Addr) {
        self.claimed.remove(&address);
    }

    /// A service with this address is stored. One outside the range (the range was changed) is let be.
    pub(super) fn store(&mut self, address: Ipv4Addr) {
        self.stored.insert(address);
    }

    /// It is stored no more.
    pub(super) fn release(&mut self, address: Ipv4Addr) {
        self.stored.remove(&address);
    }

    /// Forgets which are stored.
    pub(super) fn clear(&mut self) {
        self.stored.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_knows_its_addresses() {
        let services = range("10.96.1.7/24");
        assert_eq!(services.to_string(), "10.96.1.0/24");
        assert_eq!(services.nth(1), Some(Ipv4Addr::new(10, 96, 1, 1)));
        assert_eq!((services.nth(0), services.nth(255)), (None, None));
        for bad in ["", "10.0.0.0", "10.0.0.0/x", "::/64", "10.0.0.0/31", "10.0.0.0/0"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_address_but_the_first_is_given_once_and_then_the_range_is_full() {
        let mut pool = Pool::new(range("10.0.0.0/28"));
        let given: BTreeSet<_> = std::iter::from_fn(|| pool.claim_any(|| 0).ok()).collect();
        assert_eq!(given.len(), 13);
        assert!(!given.contains(&Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(pool.claim_any(|| 7), Err(TakeError::Full));
        pool.unclaim(Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(pool.claim_any(|| 7), Ok(Ipv4Addr::new(10, 0, 0, 9)));
    }

    #[test]
    fn an_address_is_taken_by_a_claim_or_by_what_is_stored() {
        let (mut pool, address) = (Pool::new(range("10.0.0.0/24")), Ipv4Addr::new(10, 0, 0, 10));
        pool.claim(address).unwrap();
        pool.store(address);
        pool.unclaim(address);
        assert_eq!(pool.claim(address), Err(TakeError::Taken));
        pool.release(address);
        assert_eq!(pool.claim(address), Ok(()));
        pool.release(address);
        assert_eq!(pool.claim(address), Err(TakeError::Taken));
    }

    #[test]
    fn addresses_taken_or_outside_are_refused() {
        let mut pool = Pool::new(range("10.0.0.0/24"));
        pool.claim(Ipv4Addr::new(10, 0, 0, 10)).unwrap();
        assert_eq!(pool.claim(Ipv4Addr::new(10, 0, 0, 10)), Err(TakeError::Taken));
        for outside in [[10, 0, 1, 1], [9, 0, 0, 1], [10, 0, 0, 0], [10, 0, 0, 255]] {
            assert!(matches!(pool.claim(outside.into()), Err(TakeError::Outside { .. })));
        }
    }
}
