//! Strategic merge patches: as a merge patch, but lists of the fields with a merge key are merged item by item, and
//! directives in the patch say what else is meant (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/<field>`,
//! `$setElementOrder/<field>`).
//!
//! Recursion is as deep as the patch, whose depth the JSON reader bounds.

use kinds::merge_keys::Rule;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::error::ApiError;
use crate::strategy::shape::{self, Shape};

mod list;
mod order;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Why a strategic merge patch can't be carried out.
#[derive(Clone, Debug, PartialEq, Error)]
pub(super) enum StrategicError {
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: String },
    #[error("unknown patch type: {directive} in map: {map}")]
    UnknownDirective { directive: String, map: String },
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("list element types are not identical")]
    MixedList,
    #[error("invalid patch format of primitive list")]
    DeleteFormat,
    #[error("invalid patch format of retainKeys")]
    RetainFormat,
    #[error("patch content doesn't match retainKeys list")]
    RetainMismatch,
    #[error("invalid patch format of setElementOrder list")]
    OrderFormat,
    #[error("the order in patch list of {field} doesn't match its $setElementOrder list")]
    OrderMismatch { field: String },
}

/// Upstream answers what the patch's author got wrong by three codes, depending on where it is noticed.
impl From<StrategicError> for ApiError {
    fn from(error: StrategicError) -> Self {
        use StrategicError as Error;
        let message = error.to_string();
        match error {
            Error::DeleteFormat | Error::RetainFormat | Error::OrderFormat => Self::bad_request(message),
            Error::ListOfLists | Error::RetainMismatch => Self::Unprocessable { message },
            Error::NoMergeKey { .. } | Error::UnknownDirective { .. } | Error::MixedList | Error::OrderMismatch { .. } => {
                Self::internal(message)
            }
        }
    }
}

pub(super) fn apply(current: &Value, patch: &Value, shape: &Shape) -> Result<Value, StrategicError> {
    merge(current, patch, shape, None)
}

/// One value after the patch.
fn merge(current: &Value, patch: &Value, shape: &Shape, rule: Option<&Rule>) -> Result<Value, StrategicError> {
    match (current, patch) {
        (_, Value::Object(_)) if rule.is_some_and(Rule::replaces) => Ok(literal(patch)),
        (Value::Object(current), Value::Object(patch)) => merge_map(current, patch, shape).map(Value::Object),
        (Value::Array(current), Value::Array(patch)) => match rule.filter(|rule| rule.merges()) {
            Some(rule) => list::merge(current, patch, &item_shape(shape), rule.patch_merge_key).map(Value::Array),
            None => Ok(literal(&Value::Array(patch.clone()))),
        },
        _ => Ok(literal(patch)),
    }
}

fn item_shape(shape: &Shape) -> Shape {
    match shape {
        Shape::List(item) => (**item).clone(),
        _ => Shape::Other,
    }
}

fn merge_map(current: &Map<String, Value>, patch: &Map<String, Value>, shape: &Shape) -> Result<Map<String, Value>, StrategicError> {
    match patch.get(DIRECTIVE).map(Value::as_str) {
        None | Some(Some("merge")) => {}
        Some(Some("replace")) => return Ok(literal_map(patch)),
        Some(Some("delete")) => return Ok(Map::new()),
        Some(_) => {
            return Err(StrategicError::UnknownDirective { directive: go_text(&patch[DIRECTIVE]), map: go_map(patch) });
        }
    }
    let mut merged = current.clone();
    retain_keys(&mut merged, patch)?;
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM_LIST) {
            list::delete_primitives(merged.get_mut(field), value)?;
        } else if value.is_null() {
            merged.remove(key);
        } else if !is_directive(key) {
            merge_field(&mut merged, key, value, shape)?;
        }
    }
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(SET_ORDER) {
            set_order(&mut merged, current, patch, field, order, shape)?;
        }
    }
    Ok(merged)
}

fn merge_field(merged: &mut Map<String, Value>, key: &str, patch: &Value, shape: &Shape) -> Result<(), StrategicError> {
    let rule = shape::field(shape, key).and_then(|field| field.rule);
    let value = match merged.get(key) {
        Some(current) => merge(current, patch, &shape::child(shape, key), rule)?,
        // Nothing is there to delete.
        None if is_deletion(patch) => return Ok(()),
        None => {
            check_keys(patch, rule)?;
            literal(patch)
        }
    };
    merged.insert(key.to_owned(), value);
    Ok(())
}

/// A new list must have its keys as well: else a second patch could not find the items of the first.
fn check_keys(patch: &Value, rule: Option<&'static Rule>) -> Result<(), StrategicError> {
    match (patch, rule.filter(|rule| rule.merges() && !rule.patch_merge_key.is_empty())) {
        (Value::Array(items), Some(rule)) => list::check_keys(items, rule.patch_merge_key),
        _ => Ok(()),
    }
}

fn retain_keys(merged: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), StrategicError> {
    let Some(retained) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let retained = retained.as_array().ok_or(StrategicError::RetainFormat)?;
    let is_retained = |key: &String| retained.iter().any(|name| name == key);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_directive(key) && !is_retained(key)) {
        return Err(StrategicError::RetainMismatch);
    }
    merged.retain(|key, _| is_retained(key));
    Ok(())
}

fn set_order(
    merged: &mut Map<String, Value>,
    current: &Map<String, Value>,
    patch: &Map<String, Value>,
    field: &str,
    order: &Value,
    shape: &Shape,
) -> Result<(), StrategicError> {
    let order = order.as_array().ok_or(StrategicError::OrderFormat)?;
    let key = shape::field(shape, field).and_then(|field| field.rule).map_or("", |rule| rule.patch_merge_key);
    let items = |map: &Map<String, Value>| map.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    order::check(field, &items(patch), order, key)?;
    if let Some(Value::Array(list)) = merged.get_mut(field) {
        *list = order::arrange(std::mem::take(list), order, &items(current), key);
    }
    Ok(())
}

fn is_directive(key: &str) -> bool {
    key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER)
}

/// What the patch says where nothing is to merge with: without directives, and without the fields and items it deletes.
fn literal(patch: &Value) -> Value {
    match patch {
        Value::Object(map) => Value::Object(literal_map(map)),
        Value::Array(items) => Value::Array(literal_items(items)),
        other => other.clone(),
    }
}

fn literal_items(items: &[Value]) -> Vec<Value> {
    let only_a_directive = |item: &Value| item.as_object().is_some_and(|map| map.len() == 1 && map.contains_key(DIRECTIVE));
    items.iter().filter(|item| !is_deletion(item) && !only_a_directive(item)).map(literal_item).collect()
}

/// An item of a list that replaces another list keeps its nulls, as in a merge patch.
fn literal_item(item: &Value) -> Value {
    match item {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| !is_directive(key) && !is_deletion(value));
            kept.map(|(key, value)| (key.clone(), literal_item(value))).collect()
        }
        Value::Array(items) => Value::Array(literal_items(items)),
        other => other.clone(),
    }
}

fn is_deletion(patch: &Value) -> bool {
    patch.get(DIRECTIVE).is_some_and(|directive| directive == "delete")
}

fn literal_map(map: &Map<String, Value>) -> Map<String, Value> {
    if map.get(DIRECTIVE).is_some_and(|directive| directive == "delete") {
        return Map::new();
    }
    let kept = map.iter().filter(|(key, value)| !is_directive(key) && !value.is_null() && !is_deletion(value));
    kept.map(|(key, value)| (key.clone(), literal(value))).collect()
}

/// A map as upstream prints it in messages, cut to a readable length.
fn go_map(map: &Map<String, Value>) -> String {
    let shown = map.iter().take(8).map(|(key, value)| format!("{key}:{}", go_text(value)));
    format!("map[{}]", shown.collect::<Vec<_>>().join(" "))
}

fn go_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().take(100).collect(),
        Value::Object(map) => go_map(map),
        Value::Array(items) => format!("[{}]", items.iter().take(8).map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}
