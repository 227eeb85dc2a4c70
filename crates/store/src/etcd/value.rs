//! What is at a key in etcd: a document without its revision, which nobody knows before etcd has written it, and how to complete it.

use bytes::Bytes;

use crate::{Document, Draft, Revision};

/// The first byte; another one is of a later version.
const FORMAT: u8 = 1;
const HEADER: usize = 1 + 4 + 8 + 16;

/// Tells a write from all others, those that write the same included.
pub(super) type WriteId = u128;

/// A value as it is read back.
#[derive(Debug)]
pub(super) struct Value {
    draft: Draft,
    /// The revision the document has had since before it came to this etcd.
    pub(super) fixed: Option<Revision>,
    pub(super) id: WriteId,
}

/// A value with the revision that etcd will give it.
pub(super) fn encode(draft: &Draft, id: WriteId) -> Vec<u8> {
    encode_parts(&draft.json[..draft.gap], &draft.json[draft.gap..], 0, id)
}

/// A value that keeps its revision.
pub(super) fn encode_fixed(document: &Document) -> Vec<u8> {
    let (head, rest) = document.json.split_at(document.gap);
    encode_parts(head, &rest[document.digits..], document.revision().0, 0)
}

// Documents are at most 3 MiB: a commit refused longer ones.
fn encode_parts(head: &[u8], tail: &[u8], fixed: u64, id: WriteId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + head.len() + tail.len());
    out.push(FORMAT);
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    out.extend_from_slice(&fixed.to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
    out
}

impl Value {
    /// `None` when it is not one of ours.
    pub(super) fn read(value: &Bytes) -> Option<Self> {
        let (header, _) = value.split_at_checked(HEADER)?;
        let number = |from: usize, to: usize| header[from..to].iter().rev().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        let gap = number(1, 5) as usize;
        let json = value.slice(HEADER..);
        if header[0] != FORMAT || gap > json.len() {
            return None;
        }
        let fixed = Some(Revision(number(5, 13) as u64)).filter(|revision| revision.0 > 0);
        Some(Self { draft: Draft::new(json, gap), fixed, id: number(13, HEADER) })
    }

    /// The document without its revision.
    pub(super) fn draft(&self) -> &Draft {
        &self.draft
    }

    /// The document, written by a commit unless it is older than this etcd.
    pub(super) fn document(&self, written: Revision) -> Document {
        self.draft.at(self.fixed.unwrap_or(written))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_reads_back_as_written(head in "[ -~]{0,40}", tail in "[ -~]{0,40}", revision in 1_u64.., id: u128) {
            let draft = Draft::new(format!("{head}{tail}"), head.len());
            let value = Value::read(&Bytes::from(encode(&draft, id))).unwrap();
            prop_assert_eq!((value.id, value.document(Revision(revision))), (id, draft.at(Revision(revision))));
            let document = draft.at(Revision(revision));
            let fixed = Value::read(&Bytes::from(encode_fixed(&document))).unwrap();
            prop_assert_eq!(fixed.document(Revision(7)), document);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Value::read(&Bytes::from(bytes)).map(|value| value.document(Revision(7)));
        }
    }
}
