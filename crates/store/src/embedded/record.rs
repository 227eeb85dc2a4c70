//! Records: what the payload of a frame says, in a plain binary form.

use bytes::Bytes;

use crate::{Document, Entry, Revision};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const ENTRY: u8 = 3;
const END: u8 = 4;

/// One statement of a log or a checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// In a log: the next commit wrote this text, whose revision stands at the gap.
    Put { key: &'a str, gap: usize, text: &'a [u8] },
    /// In a log: the next commit deleted the key.
    Delete { key: &'a str },
    /// In a checkpoint: this is at the key.
    Entry { key: &'a str, revision: Revision, gap: usize, text: &'a [u8] },
    /// In a checkpoint: these were all the entries.
    End { entries: u64 },
}

/// Appends the record of a commit.
pub(super) fn encode_commit(into: &mut Vec<u8>, key: &str, document: Option<&Document>) {
    into.push(if document.is_some() { PUT } else { DELETE });
    encode_key(into, key);
    if let Some(document) = document {
        encode_document(into, document);
    }
}

/// Appends the record of an entry.
pub(super) fn encode_entry(into: &mut Vec<u8>, entry: &Entry) {
    into.push(ENTRY);
    encode_key(into, &entry.key);
    into.extend_from_slice(&entry.revision.0.to_le_bytes());
    encode_document(into, &entry.document);
}

/// Appends the record that ends a checkpoint.
pub(super) fn encode_end(into: &mut Vec<u8>, entries: u64) {
    into.push(END);
    into.extend_from_slice(&entries.to_le_bytes());
}

// Keys are at most 512 bytes and documents 3 MiB: the commit refused longer ones.
fn encode_key(into: &mut Vec<u8>, key: &str) {
    into.extend_from_slice(&(key.len() as u16).to_le_bytes());
    into.extend_from_slice(key.as_bytes());
}

fn encode_document(into: &mut Vec<u8>, document: &Document) {
    into.extend_from_slice(&(document.gap as u32).to_le_bytes());
    into.extend_from_slice(&(document.json.len() as u32).to_le_bytes());
    into.extend_from_slice(&document.json);
}

/// The document of a record, in memory of its own.
pub(super) fn document(text: &[u8], gap: usize, revision: Revision) -> Option<Document> {
    Document::restored(Bytes::copy_from_slice(text), gap, revision)
}

/// Takes records off a payload; `None` when it isn't one.
pub(super) struct Records<'a>(pub(super) &'a [u8]);

impl<'a> Records<'a> {
    /// The next record; `Some(None)` at the end.
    pub(super) fn next(&mut self) -> Option<Option<Record<'a>>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let record = match self.number::<1>()? as u8 {
            PUT => {
                let key = self.key()?;
                let (gap, text) = self.text()?;
                Record::Put { key, gap, text }
            }
            DELETE => Record::Delete { key: self.key()? },
            ENTRY => {
                let key = self.key()?;
                let revision = Revision(self.number::<8>()?);
                let (gap, text) = self.text()?;
                Record::Entry { key, revision, gap, text }
            }
            END => Record::End { entries: self.number::<8>()? },
            _ => return None,
        };
        Some(Some(record))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const BYTES: usize>(&mut self) -> Option<u64> {
        Some(self.take(BYTES)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn key(&mut self) -> Option<&'a str> {
        let length = self.number::<2>()? as usize;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn text(&mut self) -> Option<(usize, &'a [u8])> {
        let gap = self.number::<4>()? as usize;
        let length = self.number::<4>()? as usize;
        Some((gap, self.take(length)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Draft;

    proptest! {
        #[test]
        fn a_record_reads_back_as_written(key in "[a-z/]{0,40}", head in "[ -~]{0,40}", tail in "[ -~]{0,40}", revision in 1_u64..) {
            let document = Draft::new(format!("{head}{tail}"), head.len()).at(Revision(revision));
            let entry = Entry { key: key.as_str().into(), document: document.clone(), revision: Revision(revision) };
            let mut bytes = Vec::new();
            encode_commit(&mut bytes, &key, Some(&document));
            encode_commit(&mut bytes, &key, None);
            encode_entry(&mut bytes, &entry);
            encode_end(&mut bytes, revision);
            let mut records = Records(&bytes);
            let (gap, text) = (head.len(), &document.json()[..]);
            prop_assert_eq!(records.next(), Some(Some(Record::Put { key: &key, gap, text })));
            prop_assert_eq!(records.next(), Some(Some(Record::Delete { key: &key })));
            prop_assert_eq!(records.next(), Some(Some(Record::Entry { key: &key, revision: Revision(revision), gap, text })));
            prop_assert_eq!(records.next(), Some(Some(Record::End { entries: revision })));
            prop_assert_eq!(records.next(), Some(None));
            prop_assert_eq!(super::document(text, gap, Revision(revision)), Some(document));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut records = Records(&bytes);
            while let Some(Some(record)) = records.next() {
                if let Record::Put { gap, text, .. } = record {
                    super::document(text, gap, Revision(7));
                }
            }
        }
    }
}
