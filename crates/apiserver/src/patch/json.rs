//! JSON patches, with bounds on what a small patch can grow an object to.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::error::ApiError;

/// Operations in one patch, as upstream.
const MAX_OPERATIONS: usize = 10_000;
/// Values that all `copy` and `move` operations of one patch may touch. Without it, a doubling copy fills any memory in a
/// few lines.
const MAX_COPIED: usize = 100_000;
/// Levels of nesting that an operation may leave behind: what the JSON reader accepts again.
const MAX_DEPTH: usize = 100;

pub(super) fn apply(current: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let Patch(operations) =
        serde_json::from_slice(patch).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        let message = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(ApiError::TooLarge { message });
    }
    let mut patched = current.clone();
    let mut copied = 0;
    for operation in &operations {
        check_growth(&patched, operation, &mut copied)?;
        let one = std::slice::from_ref(operation);
        json_patch::patch(&mut patched, one).map_err(|error| ApiError::Unprocessable { message: error.to_string() })?;
    }
    Ok(patched)
}

fn check_growth(document: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), ApiError> {
    let added = match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Copy(copy) => document.pointer(copy.from.as_str()).inspect(|value| *copied += count(value)),
        PatchOperation::Move(r#move) => document.pointer(r#move.from.as_str()).inspect(|value| *copied += count(value)),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    let below = operation.path().as_str().matches('/').count();
    if *copied > MAX_COPIED || added.is_some_and(|value| below + depth(value) > MAX_DEPTH) {
        return Err(ApiError::Unprocessable { message: "the patch makes the object too large or too deep".to_owned() });
    }
    Ok(())
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn depth(value: &Value) -> usize {
    1 + children(value).map(depth).max().unwrap_or(0)
}

fn count(value: &Value) -> usize {
    // A text weighs as much as values of its size would.
    let own = value.as_str().map_or(1, |text| 1 + text.len() / 32);
    own + children(value).map(count).sum::<usize>()
}
