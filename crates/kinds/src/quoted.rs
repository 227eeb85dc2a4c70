//! Quoted texts in JSON.

/// Bytes that are looked at together.
const STEP: usize = size_of::<u64>();

/// Where a quoted text ends, behind its quote; it begins, behind its quote, at a byte. `None` if it does not end.
pub fn end(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        // Most are too short for a search that needs a call.
        while let Some(step) = json.get(at..at + STEP).and_then(|step| step.try_into().ok()) {
            let word = u64::from_le_bytes(step);
            let found = has(word, b'"') | has(word, b'\\');
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += STEP;
        }
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The highest bit of each byte that is this one. Bits above the lowest may be wrong.
fn has(word: u64, byte: u8) -> u64 {
    const LOWEST: u64 = u64::from_le_bytes([0x01; STEP]);
    let zero_if_same = word ^ (LOWEST * u64::from(byte));
    zero_if_same.wrapping_sub(LOWEST) & !zero_if_same & (LOWEST << 7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_ends_at_its_first_quote_that_is_not_escaped(text in r#"[a#\]\\"\x00\x80-\xff]{0,40}"#, at in 0_usize..8) {
            let json = text.as_bytes();
            let mut expected = at;
            let expected = loop {
                match json.get(expected) {
                    None => break None,
                    Some(b'"') => break Some(expected + 1),
                    Some(b'\\') => expected += 2,
                    Some(_) => expected += 1,
                }
            };
            prop_assert_eq!(end(json, at), expected);
        }
    }
}
