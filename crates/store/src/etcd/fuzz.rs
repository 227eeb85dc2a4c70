//! What the crate `fuzz` asks of the client of etcd: to read whatever a member answers, and whatever is at a key. Nothing else uses
//! this module.

use bytes::Bytes;

use super::message::{RangeResponse, TransactionResponse, WatchResponse, token};
use super::place::Charter;
use super::value::{self, Value};
use crate::Revision;

/// An answer to any call: it is read, within what was sent, or refused.
pub fn answer(message: &[u8]) {
    let message = Bytes::copy_from_slice(message);
    let range = RangeResponse::read(&message).map(|read| read.found).unwrap_or_default();
    let watch = WatchResponse::read(&message).map(|read| read.events).unwrap_or_default();
    let transaction = TransactionResponse::read(&message).ok().and_then(|read| read.found);
    let found = range.into_iter().chain(watch.into_iter().map(|event| event.at)).chain(transaction);
    for found in found {
        assert!(found.key.len() + found.value.len() <= message.len());
        value(&found.value);
    }
    let _ = (token(&message), Charter::read(&message));
}

/// The value of a key: what reads back is written as it was.
pub fn value(bytes: &[u8]) {
    let Some(read) = Value::read(&Bytes::copy_from_slice(bytes)) else { return };
    let document = read.document(Revision(7));
    match read.fixed {
        None => assert_eq!(value::encode(read.draft(), read.id), bytes),
        Some(revision) => {
            assert_eq!(document.revision(), revision);
            // Those that keep a revision have no number.
            assert_eq!(value::encode_fixed(&document)[..13], bytes[..13]);
        }
    }
}
