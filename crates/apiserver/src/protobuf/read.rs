//! Protobuf as JSON text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::table::{Arity, Kind, Message, message};
use super::{DEPTH, MAGIC};
use crate::error::ApiError;
use protobuf::{Fields, Wire};

/// The same object as JSON; `name` is the name of the expected kind's message.
pub fn to_json(name: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let malformed = || ApiError::bad_request("error decoding the body: it is no valid protobuf message of the expected kind");
    let object = body.strip_prefix(MAGIC).and_then(|envelope| open(name, envelope)).ok_or_else(malformed)?;
    Ok(Value::Object(object).to_string().into_bytes())
}

/// The object in its envelope, which names its type.
fn open(name: &str, envelope: &[u8]) -> Option<Map<String, Value>> {
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = text_of(text)?,
                        (2, Wire::Bytes(text)) => kind = text_of(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut object = Map::new();
    read(message(name)?, raw, &mut object, DEPTH)?;
    object.insert("apiVersion".to_owned(), Value::from(api_version));
    object.insert("kind".to_owned(), Value::from(kind));
    Some(object)
}

/// Reads a message's fields into an object. Fields that are not known are passed over.
pub(super) fn read(message: &Message, bytes: &[u8], object: &mut Map<String, Value>, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let Some(field) = message.numbered(number) else { continue };
        match (field.arity, wire) {
            (Arity::One, Wire::Bytes(bytes)) if field.name.is_empty() => {
                let Kind::Message(name) = field.kind else { return None };
                read(super::table::message(name)?, bytes, object, depth)?;
            }
            (Arity::Map, Wire::Bytes(bytes)) => {
                let (key, value) = entry(field.kind, bytes, depth)?;
                let map = object.entry(field.name).or_insert_with(|| json!({}));
                map.as_object_mut()?.insert(key, value);
            }
            (Arity::List, wire) => {
                let value = value(field.kind, &wire, depth)?;
                object.entry(field.name).or_insert_with(|| json!([])).as_array_mut()?.push(value);
            }
            (_, wire) => {
                let value = value(field.kind, &wire, depth)?;
                if field.keeps_zero || !is_zero(&value) {
                    object.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    Some(())
}

fn is_zero(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false)) || value.as_str() == Some("") || value.as_i64() == Some(0)
}

fn entry(kind: Kind, bytes: &[u8], depth: usize) -> Option<(String, Value)> {
    let (mut key, mut found) = (String::new(), value(kind, &Wire::Bytes(&[]), depth));
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => key = text_of(text)?,
            (2, wire) => found = value(kind, &wire, depth),
            _ => {}
        }
    }
    Some((key, found?))
}

fn text_of(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn value(kind: Kind, wire: &Wire<'_>, depth: usize) -> Option<Value> {
    match (kind, wire) {
        (Kind::Text, Wire::Bytes(bytes)) => text_of(bytes).map(Value::from),
        (Kind::Bytes, Wire::Bytes(bytes)) => Some(Value::from(STANDARD.encode(bytes))),
        (Kind::Integer, Wire::Number(number)) => Some(Value::from(number.cast_signed())),
        (Kind::Bool, Wire::Number(number)) => Some(Value::from(*number != 0)),
        (Kind::Time(digits), Wire::Bytes(bytes)) => time(bytes, digits),
        (Kind::Quantity, Wire::Bytes(bytes)) => single(bytes).and_then(text_of).map(Value::from),
        (Kind::IntOrText, Wire::Bytes(bytes)) => int_or_string(bytes),
        (Kind::Raw, Wire::Bytes(bytes)) => serde_json::from_slice(single(bytes)?).ok(),
        (Kind::Texts, Wire::Bytes(bytes)) => Fields(bytes)
            .map(|field| match field? {
                (1, Wire::Bytes(text)) => text_of(text).map(Value::from),
                _ => None,
            })
            .collect(),
        (Kind::Message(name), Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            read(message(name)?, bytes, &mut object, depth)?;
            Some(Value::Object(object))
        }
        _ => None,
    }
}

/// The first field of a message that has but one.
fn single(bytes: &[u8]) -> Option<&[u8]> {
    Fields(bytes).find_map(|field| match field {
        Some((1, Wire::Bytes(bytes))) => Some(bytes),
        _ => None,
    })
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(found)) => number = found.cast_signed(),
            (3, Wire::Bytes(found)) => text = text_of(found)?,
            _ => {}
        }
    }
    Some(if is_text { Value::from(text) } else { Value::from(number) })
}

/// A time with so many digits of a second; null for a time that is not set.
pub(super) fn time(bytes: &[u8], digits: usize) -> Option<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => seconds = number.cast_signed(),
            (2, Wire::Number(number)) => nanos = i32::try_from(number.cast_signed()).ok()?,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Some(Value::Null);
    }
    let at = Timestamp::new(seconds, nanos).ok()?;
    Some(Value::from(format!("{at:.digits$}")))
}
