//! Random choices. They need not be unforgeable, only different from each other.

use std::hash::{BuildHasher, RandomState};

/// Letters and digits that can't spell words, as upstream uses them in generated names.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Characters added to a `generateName`.
const LENGTH: usize = 5;

/// A random number.
pub(super) fn number() -> u64 {
    // Each state has keys of its own: the first comes from the system, those after it count up, and the hash mixes them.
    RandomState::new().hash_one(0_u64)
}

/// The random end of a generated name.
pub(super) fn suffix() -> String {
    let base = ALPHABET.len() as u64;
    let mut number = number();
    let mut letter = || {
        let letter = ALPHABET[usize::try_from(number % base).unwrap_or_default()];
        number /= base;
        char::from(letter)
    };
    (0..LENGTH).map(|_| letter()).collect()
}
