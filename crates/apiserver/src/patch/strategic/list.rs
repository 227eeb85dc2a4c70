//! Lists that merge item by item: objects by their merge key, other values as a set.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{DIRECTIVE, StrategicError, go_map, go_text, literal_map, merge_map, order};
use crate::strategy::shape::Shape;

/// A list after the patch. Items without a counterpart are added; the patch's items keep the order the patch has them in.
pub(super) fn merge(current: &[Value], patch: &[Value], item: &Shape, key: &str) -> Result<Vec<Value>, StrategicError> {
    if patch.iter().chain(current).any(Value::is_array) {
        return Err(StrategicError::ListOfLists);
    }
    let objects = patch.iter().chain(current).filter(|item| item.is_object()).count();
    if objects == 0 {
        return Ok(merge_set(current, patch));
    }
    if objects < patch.len() + current.len() {
        return Err(StrategicError::MixedList);
    }
    merge_objects(current, patch, item, key)
}

fn merge_set(current: &[Value], patch: &[Value]) -> Vec<Value> {
    let mut seen = HashSet::new();
    let merged = current.iter().chain(patch).filter(|value| seen.insert(value.to_string())).cloned().collect();
    order::arrange(merged, patch, current, "")
}

/// A list of objects in a patch, taken apart by what its items say.
#[derive(Default)]
struct Changes<'a> {
    merged: Vec<&'a Map<String, Value>>,
    deleted: HashSet<String>,
    /// The merged items are all that remains.
    replaces: bool,
}

fn sort_changes<'a>(patch: &'a [Value], key: &str) -> Result<Changes<'a>, StrategicError> {
    let mut changes = Changes::default();
    for change in patch.iter().filter_map(Value::as_object) {
        match change.get(DIRECTIVE).map(|directive| (directive, directive.as_str())) {
            None | Some((_, Some("merge"))) => changes.merged.push(change),
            Some((_, Some("replace"))) => changes.replaces = true,
            Some((_, Some("delete"))) => {
                changes.deleted.insert(key_of(change, key)?.to_string());
            }
            Some((directive, _)) => {
                return Err(StrategicError::UnknownDirective { directive: go_text(directive), map: go_map(change) });
            }
        }
    }
    Ok(changes)
}

fn merge_objects(current: &[Value], patch: &[Value], item: &Shape, key: &str) -> Result<Vec<Value>, StrategicError> {
    let changes = sort_changes(patch, key)?;
    if changes.replaces {
        return Ok(changes.merged.into_iter().map(|change| Value::Object(literal_map(change))).collect());
    }
    let mut merged: Vec<_> = current.iter().filter(|item| !changes.deleted.contains(&order::identity(item, key))).cloned().collect();
    let mut places: HashMap<String, usize> = merged.iter().enumerate().map(|(place, item)| (order::identity(item, key), place)).collect();
    for change in &changes.merged {
        match places.entry(key_of(change, key)?.to_string()) {
            Entry::Occupied(place) => {
                if let Value::Object(found) = &mut merged[*place.get()] {
                    *found = merge_map(found, change, item)?;
                }
            }
            Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push(Value::Object(literal_map(change)));
            }
        }
    }
    let order: Vec<Value> = changes.merged.into_iter().cloned().map(Value::Object).collect();
    Ok(order::arrange(merged, &order, current, key))
}

fn key_of<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a Value, StrategicError> {
    map.get(key).ok_or_else(|| StrategicError::NoMergeKey { map: go_map(map), key: key.to_owned() })
}

/// Whether every item has the merge key, or is only a directive for the whole list.
pub(super) fn check_keys(items: &[Value], key: &str) -> Result<(), StrategicError> {
    let whole_list = |map: &&Map<String, Value>| map.get(DIRECTIVE).is_some_and(|directive| directive == "replace");
    items.iter().filter_map(Value::as_object).filter(|map| !whole_list(map)).try_for_each(|map| key_of(map, key).map(drop))
}

/// Removes values from a list of texts or numbers.
pub(super) fn delete_primitives(list: Option<&mut Value>, deleted: &Value) -> Result<(), StrategicError> {
    let deleted = deleted.as_array().ok_or(StrategicError::DeleteFormat)?;
    if let Some(Value::Array(list)) = list {
        list.retain(|value| !deleted.contains(value));
    }
    Ok(())
}
