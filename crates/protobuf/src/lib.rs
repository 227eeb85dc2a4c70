//! The encoding of protocol buffers itself: numbered fields with integers or bytes in them.
//!
//! What the fields mean is said where they are read and written: by the schemas of kinds in the API server, and in the client of etcd.

/// One field as it stands on the wire.
pub enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed length; no kind has such fields.
    Other,
}

/// The fields of a message; `None` inside says that the text breaks off.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => self.take(8).map(|_| Wire::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Other)?,
            _ => return None,
        };
        Some((tag >> 3, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// An integer in groups of seven bits, the lowest first; and how many bytes of it count.
fn varint(mut number: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut length) = ([0; 10], 0);
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes[length] = if number > 0 { low | 0x80 } else { low };
        length += 1;
        if number == 0 {
            return (bytes, length);
        }
    }
}

fn put_varint(out: &mut Vec<u8>, number: u64) {
    let (bytes, length) = varint(number);
    out.extend_from_slice(&bytes[..length]);
}

/// Writes a field that holds an integer.
pub fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

/// Writes a field that holds bytes or text.
pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a field that holds what `write` writes. Its length, which stands before it, is known only then.
pub fn put_message<R>(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    put_varint(out, field << 3 | 2);
    let start = out.len();
    let written = write(out);
    let (bytes, length) = varint((out.len() - start) as u64);
    out.splice(start..start, bytes[..length].iter().copied());
    written
}
