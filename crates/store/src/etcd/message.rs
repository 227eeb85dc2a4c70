//! The few messages of etcd's API that are spoken here, as its `rpc.proto` numbers their fields.

use bytes::Bytes;
use protobuf::{Fields, Wire, put_bytes, put_message, put_number};

/// What etcd counts: changes, most of all. On the wire it has a sign, and is never negative.
pub(super) type Number = u64;

/// What a transaction requires of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    Absent,
    /// The newest change of the key has this number.
    ChangedAt(Number),
    /// The newest change of the key, if there was any, has a number below this one.
    ChangedBefore(Number),
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub(super) enum Operation<'a> {
    Get(&'a str),
    Put(&'a str, &'a [u8]),
    Delete(&'a str),
    /// Everything from the first key up to the second.
    DeleteAll(&'a str, &'a str),
}

/// A range request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RangeRequest<'a> {
    pub(super) key: &'a str,
    /// Up to, and without, this key; the one key alone where it is empty.
    pub(super) end: &'a str,
    pub(super) limit: Number,
    /// The state as of this change; the newest where it is zero.
    pub(super) revision: Number,
    pub(super) count_only: bool,
}

impl RangeRequest<'_> {
    pub(super) fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, 1, self.key.as_bytes());
        if !self.end.is_empty() {
            put_bytes(out, 2, self.end.as_bytes());
        }
        for (field, number) in [(3, self.limit), (4, self.revision), (9, u64::from(self.count_only))] {
            if number > 0 {
                put_number(out, field, number);
            }
        }
    }
}

/// A transaction: if all conditions hold, the first operations are done, else the second.
pub(super) fn transaction(conditions: &[(&str, Condition)], then: &[Operation<'_>], otherwise: &[Operation<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, condition) in conditions {
        put_message(&mut out, 1, |out| encode_condition(out, key, *condition));
    }
    for (field, operations) in [(2, then), (3, otherwise)] {
        for operation in operations {
            put_message(&mut out, field, |out| encode_operation(out, operation));
        }
    }
    out
}

fn encode_condition(out: &mut Vec<u8>, key: &str, condition: Condition) {
    const LESS: u64 = 2;
    const CREATED: (u64, u64) = (1, 5);
    const CHANGED: (u64, u64) = (2, 6);
    let (result, (target, field), number) = match condition {
        Condition::Absent => (0, CREATED, 0),
        Condition::ChangedAt(number) => (0, CHANGED, number),
        Condition::ChangedBefore(number) => (LESS, CHANGED, number),
    };
    put_number(out, 1, result);
    put_number(out, 2, target);
    put_bytes(out, 3, key.as_bytes());
    put_number(out, field, number);
}

fn encode_operation(out: &mut Vec<u8>, operation: &Operation<'_>) {
    match operation {
        Operation::Get(key) => put_message(out, 1, |out| RangeRequest { key, ..RangeRequest::default() }.encode(out)),
        Operation::Put(key, value) => put_message(out, 2, |out| {
            put_bytes(out, 1, key.as_bytes());
            put_bytes(out, 2, value);
        }),
        Operation::Delete(key) => put_message(out, 3, |out| put_bytes(out, 1, key.as_bytes())),
        Operation::DeleteAll(key, end) => put_message(out, 3, |out| {
            put_bytes(out, 1, key.as_bytes());
            put_bytes(out, 2, end.as_bytes());
        }),
    }
}

/// A request to forget what was before a change.
pub(super) fn compaction(revision: Number) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 1, revision);
    out
}

/// A request for a token.
pub(super) fn authenticate(name: &str, password: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, name.as_bytes());
    put_bytes(&mut out, 2, password.as_bytes());
    out
}

/// A request for all changes of the keys from the first up to the second, beginning with the one of this number.
pub(super) fn watch(key: &str, end: &str, from: Number) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, 1, |out| {
        put_bytes(out, 1, key.as_bytes());
        put_bytes(out, 2, end.as_bytes());
        put_number(out, 3, from);
    });
    out
}

/// A key and what is at it.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyValue {
    pub(super) key: String,
    /// The change that wrote it.
    pub(super) changed: Number,
    pub(super) value: Bytes,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct RangeResponse {
    /// The newest change of all.
    pub(super) revision: Number,
    pub(super) found: Vec<KeyValue>,
    pub(super) more: bool,
}

/// What a transaction did.
#[derive(Debug, Default)]
pub(super) struct TransactionResponse {
    pub(super) revision: Number,
    pub(super) succeeded: bool,
    /// What its first read found.
    pub(super) found: Option<KeyValue>,
}

/// One message of a watch.
#[derive(Debug, Default)]
pub(super) struct WatchResponse {
    pub(super) cancelled: Option<String>,
    /// Not zero when what was asked for is forgotten.
    pub(super) compacted: Number,
    pub(super) events: Vec<WatchEvent>,
}

/// One change.
#[derive(Debug, Default)]
pub(super) struct WatchEvent {
    pub(super) is_deletion: bool,
    pub(super) at: KeyValue,
}

/// An answer that does not read back.
#[derive(Debug)]
pub(super) struct Malformed;

/// Gives each field to `take`, which gives back whether it could be read.
fn each<'a>(message: &'a [u8], mut take: impl FnMut(u64, Wire<'a>) -> Option<()>) -> Result<(), Malformed> {
    for field in Fields(message) {
        let (number, wire) = field.ok_or(Malformed)?;
        take(number, wire).ok_or(Malformed)?;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(bytes).ok()?.to_owned())
}

fn header_revision(message: &[u8]) -> Option<Number> {
    let mut revision = 0;
    each(message, |field, wire| {
        if let (3, Wire::Number(number)) = (field, wire) {
            revision = number;
        }
        Some(())
    })
    .ok()?;
    Some(revision)
}

fn key_value(whole: &Bytes, message: &[u8]) -> Option<KeyValue> {
    let mut read = KeyValue::default();
    each(message, |field, wire| {
        match (field, wire) {
            (1, Wire::Bytes(bytes)) => read.key = text(bytes)?,
            (3, Wire::Number(number)) => read.changed = number,
            (5, Wire::Bytes(bytes)) => read.value = whole.slice_ref(bytes),
            _ => {}
        }
        Some(())
    })
    .ok()?;
    Some(read)
}

impl RangeResponse {
    pub(super) fn read(message: &Bytes) -> Result<Self, Malformed> {
        Self::read_within(message, message)
    }

    fn read_within(whole: &Bytes, message: &[u8]) -> Result<Self, Malformed> {
        let mut read = Self::default();
        each(message, |field, wire| {
            match (field, wire) {
                (1, Wire::Bytes(header)) => read.revision = header_revision(header)?,
                (2, Wire::Bytes(found)) => read.found.push(key_value(whole, found)?),
                (3, Wire::Number(more)) => read.more = more > 0,
                _ => {}
            }
            Some(())
        })?;
        Ok(read)
    }
}

impl TransactionResponse {
    pub(super) fn read(message: &Bytes) -> Result<Self, Malformed> {
        let mut read = Self::default();
        each(message, |field, wire| {
            match (field, wire) {
                (1, Wire::Bytes(header)) => read.revision = header_revision(header)?,
                (2, Wire::Number(succeeded)) => read.succeeded = succeeded > 0,
                (3, Wire::Bytes(operation)) => {
                    let found = found_by_operation(message, operation)?;
                    read.found = read.found.take().or(found);
                }
                _ => {}
            }
            Some(())
        })?;
        Ok(read)
    }
}

/// What the read of a transaction found; nothing if the operation was another.
fn found_by_operation(whole: &Bytes, operation: &[u8]) -> Option<Option<KeyValue>> {
    let mut found = None;
    each(operation, |field, wire| {
        if let (1, Wire::Bytes(range)) = (field, wire) {
            found = RangeResponse::read_within(whole, range).ok()?.found.pop();
        }
        Some(())
    })
    .ok()?;
    Some(found)
}

impl WatchResponse {
    pub(super) fn read(message: &Bytes) -> Result<Self, Malformed> {
        let (mut read, mut reason, mut cancelled) = (Self::default(), String::new(), false);
        each(message, |field, wire| {
            match (field, wire) {
                (4, Wire::Number(number)) => cancelled = number > 0,
                (5, Wire::Number(number)) => read.compacted = number,
                (6, Wire::Bytes(bytes)) => reason = text(bytes)?,
                (11, Wire::Bytes(event)) => read.events.push(watch_event(message, event)?),
                _ => {}
            }
            Some(())
        })?;
        read.cancelled = cancelled.then_some(reason);
        Ok(read)
    }
}

fn watch_event(whole: &Bytes, message: &[u8]) -> Option<WatchEvent> {
    let mut read = WatchEvent::default();
    each(message, |field, wire| {
        match (field, wire) {
            (1, Wire::Number(kind)) => read.is_deletion = kind > 0,
            (2, Wire::Bytes(at)) => read.at = key_value(whole, at)?,
            _ => {}
        }
        Some(())
    })
    .ok()?;
    Some(read)
}

/// The token in the answer to [`authenticate`].
pub(super) fn token(message: &[u8]) -> Result<String, Malformed> {
    let mut token = None;
    each(message, |field, wire| {
        if let (2, Wire::Bytes(bytes)) = (field, wire) {
            token = Some(text(bytes)?);
        }
        Some(())
    })?;
    token.ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = (RangeResponse::read(&bytes), TransactionResponse::read(&bytes), WatchResponse::read(&bytes), token(&bytes));
        }
    }

    #[test]
    fn a_range_request_reads_as_etcd_numbers_its_fields() {
        let request = RangeRequest { key: "a", end: "b", limit: 3, revision: 300, count_only: true };
        assert_eq!(request.encoded(), [0x0a, 1, b'a', 0x12, 1, b'b', 0x18, 3, 0x20, 0xac, 2, 0x48, 1]);
    }

    #[test]
    fn an_answer_gives_what_was_found_and_the_newest_change() {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| put_number(out, 3, 9));
        put_message(&mut out, 2, |out| {
            put_bytes(out, 1, b"key");
            put_number(out, 3, 7);
            put_bytes(out, 5, b"value");
        });
        put_number(&mut out, 3, 1);
        let read = RangeResponse::read(&Bytes::from(out)).unwrap();
        let found = &read.found[0];
        assert_eq!((read.revision, read.more, found.key.as_str(), found.changed, &found.value[..]), (9, true, "key", 7, &b"value"[..]));
    }
}
