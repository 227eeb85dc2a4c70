//! The order of a merged list: the patch's items as the patch has them, the server's other items as the server had them,
//! and each of the server's before the patch's item it stood before.

use std::collections::HashMap;

use serde_json::Value;

use super::{DIRECTIVE, StrategicError};

/// What tells an item from others: its merge key, or itself.
pub(super) fn identity(item: &Value, key: &str) -> String {
    item.get(key).unwrap_or(item).to_string()
}

/// A merged list in order. `order` lists the patch's items, or only their keys; `server` is the list before the patch.
pub(super) fn arrange(merged: Vec<Value>, order: &[Value], server: &[Value], key: &str) -> Vec<Value> {
    let (order, server) = (ranks(order, key), ranks(server, key));
    let ranked = merged.into_iter().map(|item| (identity(&item, key), item)).map(|(id, item)| (order.get(&id), server.get(&id), item));
    let (mut patched, mut kept): (Vec<_>, Vec<_>) = ranked.partition(|(in_patch, ..)| in_patch.is_some());
    patched.sort_by_key(|(in_patch, ..)| *in_patch);
    kept.sort_by_key(|(_, on_server, _)| on_server.copied().unwrap_or(usize::MAX));

    let mut arranged = Vec::with_capacity(patched.len() + kept.len());
    let mut kept = kept.into_iter().peekable();
    for (_, place, item) in patched {
        while let Some((_, _, before)) = kept.next_if(|(_, other, _)| other.is_some() && *other < place) {
            arranged.push(before);
        }
        arranged.push(item);
    }
    arranged.extend(kept.map(|(_, _, item)| item));
    arranged
}

fn ranks(list: &[Value], key: &str) -> HashMap<String, usize> {
    list.iter().enumerate().rev().map(|(rank, item)| (identity(item, key), rank)).collect()
}

/// Whether the patch's own items stand in the order that its directive gives.
pub(super) fn check(field: &str, patch: &[Value], order: &[Value], key: &str) -> Result<(), StrategicError> {
    let mut order = order.iter().map(|item| identity(item, key));
    let mut items = patch.iter().filter(|item| item.get(DIRECTIVE).is_none());
    let in_order = items.all(|item| {
        let wanted = identity(item, key);
        order.any(|other| other == wanted)
    });
    if in_order { Ok(()) } else { Err(StrategicError::OrderMismatch { field: field.to_owned() }) }
}
