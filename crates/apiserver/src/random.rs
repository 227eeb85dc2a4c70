//! What must not be guessable or must be unique: uids, generated names, serial numbers.

use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes from the kernel.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel's random source answers once the system is up");
    bytes
}

/// A random uid (version 4).
pub fn uid() -> String {
    let mut bytes: [u8; 16] = bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The longest name that `generateName` produces, in bytes.
const GENERATED_NAME_BYTES: usize = 63;
const SUFFIX: usize = 5;
/// No vowels and nothing that looks like one: a suffix is never a word.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name that begins with a prefix and ends with five random characters. A prefix that is too long is cut.
pub fn name(prefix: &str) -> String {
    let mut end = prefix.len().min(GENERATED_NAME_BYTES - SUFFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    name.extend(bytes::<{ SUFFIX * 2 }>().chunks_exact(2).map(|pair| {
        let number = usize::from(u16::from_le_bytes([pair[0], pair[1]]));
        char::from(ALPHABET[number % ALPHABET.len()])
    }));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_of_version_4_and_differ() {
        let uid = uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uid.as_bytes()[19]));
        assert_ne!(uid, super::uid());
    }

    #[test]
    fn generated_names_keep_the_prefix_within_the_limit() {
        let name = super::name("web-");
        assert!(name.starts_with("web-") && name.len() == 9);
        assert_eq!(super::name(&"é".repeat(80)).len(), 63);
    }
}
