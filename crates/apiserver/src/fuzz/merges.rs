//! Patches, and configurations that are applied.

use std::collections::HashSet;

use kinds::{Resource, registry};
use serde_json::Value;

use super::{lines, resource};
use crate::apply::{self, Application, Applied, Claim, Operation, Outline, Owner, Owners, Schema, Set};
use crate::decode;
use crate::patch::{self, PatchType};
use crate::query::FieldValidation;

/// A JSON patch: `<plural>\n<object>\n<patch>`.
pub fn json_patch(input: &[u8]) {
    patched(PatchType::Json, input);
}

/// A merge patch; a second time it changes nothing.
pub fn merge_patch(input: &[u8]) {
    patched_twice(PatchType::Merge, input);
}

/// A strategic merge patch; a second time it changes nothing, or is refused. Items of one list that are the same one are added as they
/// stand, as upstream does, and merged into one another the next time.
pub fn strategic_patch(input: &[u8]) {
    let [_, _, patch] = lines(input);
    match serde_json::from_slice(patch).is_ok_and(|patch| may_repeat_items(&patch)) {
        true => drop(patched(PatchType::Strategic, input)),
        false => patched_twice(PatchType::Strategic, input),
    }
}

/// Whether two objects of one list have the same in a field, which may be the one by which they are told apart.
fn may_repeat_items(patch: &Value) -> bool {
    match patch {
        Value::Object(fields) => fields.values().any(may_repeat_items),
        Value::Array(items) => {
            let mut seen = HashSet::new();
            let fields = items.iter().filter_map(Value::as_object).flatten();
            fields.into_iter().any(|(name, value)| !seen.insert((name, value.to_string()))) || items.iter().any(may_repeat_items)
        }
        _ => false,
    }
}

fn patched_twice(patch_type: PatchType, input: &[u8]) {
    let Some((resource, once, patch)) = patched(patch_type, input) else { return };
    // Directives are only looked at where there is something that they are about: they may be refused now.
    if let Ok(twice) = patch::apply(patch_type, resource, &once, patch) {
        assert_eq!(twice, once);
    }
}

/// What a patch makes of an object is JSON again, and not larger than a patch may make it.
fn patched(patch_type: PatchType, input: &[u8]) -> Option<(&'static Resource, Value, &[u8])> {
    let [plural, current, patch] = lines(input);
    let resource = resource(plural);
    let current = serde_json::from_slice::<Value>(current).ok().filter(Value::is_object)?;
    let made = patch::apply(patch_type, resource, &current, patch).ok()?;
    let text = made.to_string();
    assert!(text.len() < (1 << 23) + 8 * input.len(), "{} bytes of {}", text.len(), input.len());
    assert!(serde_json::from_str::<Value>(&text).is_ok(), "deeper than can be read");
    let _ = decode::json(resource, text.as_bytes(), FieldValidation::Warn);
    Some((resource, made, patch))
}

/// An account of fields, as anyone may send one: `managedFields` in compact JSON. What is read is written as it is read again.
pub fn managed_fields(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(outline) = Outline::of(text) else { return };
    // No text without values is taken for JSON, but what its values are is for readers of values to say.
    let Some(owners) = Owners::read(&outline) else { return };
    let written = owners.write();
    let again = apply::account(&written).unwrap_or_else(|| panic!("{written} can't be taken apart"));
    let kept = Owners::kept(&again).unwrap_or_else(|| panic!("{written} is no account that we wrote"));
    let again = Owners::read(&again).unwrap_or_else(|| panic!("{written} is no account"));
    assert_eq!(kept, again);
    assert_eq!(again.write(), written);
    let _ = owners.all("v1").paths();
}

/// A configuration applied: `<plural>\n<managedFields>\n<object>\n<configuration>`. What it makes of the object is one, and when
/// it is applied again nothing changes.
pub fn apply(input: &[u8]) {
    let [plural, managed, live, configuration] = lines(input);
    let resource = if plural.is_empty() { &registry::RESOURCES[0] } else { resource(plural) };
    let (Some(live), Some(configuration)) = (object(resource, live), compact(configuration)) else { return };
    let managed = compact(managed).filter(|text| text != "null").unwrap_or_default();
    for force in [false, true] {
        let Some(once) = applied(resource, &managed, &live, &configuration, force) else { continue };
        assert!(serde_json::from_str::<Value>(&once.object).is_ok_and(|value| value.is_object()), "{}", once.object);
        let Some(object) = object(resource, once.object.as_bytes()) else { continue };
        if object != once.object {
            continue;
        }
        let twice = applied(resource, &once.managed, &once.object, &configuration, false);
        assert_eq!(twice.as_ref(), Some(&once), "applied a second time");
    }
}

/// A text of the resource's kind as it is stored.
fn object(resource: &Resource, text: &[u8]) -> Option<String> {
    let object = decode::json(resource.stored(), text, FieldValidation::Ignore).ok()?.object;
    String::from_utf8(object.to_json()).ok()
}

fn compact(text: &[u8]) -> Option<String> {
    Some(serde_json::from_slice::<Value>(text).ok()?.to_string())
}

fn applied(resource: &Resource, managed: &str, live: &str, configuration: &str, force: bool) -> Option<Applied> {
    let (live, configuration, account) = (Outline::of(live)?, Outline::of(configuration)?, apply::account(managed)?);
    let owners = Owners::read(&account).unwrap_or_default();
    let owner = Owner::new("fuzz", Operation::Apply, &resource.api_version(), "");
    let claim = Claim { schema: Schema::of(resource), owner, ignored: Set::of_fields(&["status"]), now: "2026-01-01T00:00:00Z" };
    let application = Application { claim, configuration: &configuration, force, allowed: Set::default() };
    apply::apply(&application, &live, owners).ok()
}
