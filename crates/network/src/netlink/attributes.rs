//! Reading messages. What is cut short ends the reading; nothing panics.

/// The type of an attribute without the flags in its upper bits.
const TYPE: u16 = 0x3fff;

/// The attributes in a buffer: number and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & TYPE;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute with a number.
pub(crate) fn find(bytes: &[u8], attribute: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == attribute).map(|(_, value)| value)
}

/// A value as a number in the machine's byte order.
pub(crate) fn number_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// A value as text, without its final zero.
pub(crate) fn text_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Message;

    #[test]
    fn what_was_written_is_read() {
        let message = Message::new(1, &[], "").number(1, 7).text(2, "eth0").nest(3, |inner| inner.big(4, 9)).finish(0);
        let content = &message[16..];
        assert_eq!(find(content, 1).and_then(number_of), Some(7));
        assert_eq!(find(content, 2).map(text_of).as_deref(), Some("eth0"));
        assert_eq!(find(find(content, 3).unwrap(), 4), Some(&9_u32.to_be_bytes()[..]));
        assert_eq!(find(content, 5), None);
    }

    proptest::proptest! {
        #[test]
        fn reading_arbitrary_bytes_ends(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            proptest::prop_assert!(attributes(&bytes).count() <= 16);
        }
    }
}
