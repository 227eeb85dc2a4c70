//! Protobuf bodies become JSON text first. Clients with typed objects (`kubectl create`, most operators) send them.
//!
//! `data/protobuf.tsv` has a line for each message: its name, then `number:field:type` for each field. Types are `s` text, `b`
//! bytes, `i` integer, `t` truth value, `m=<message>`, each also as `list-` or `map-`. A field without a name is spread into the
//! message around it. Zero values mean "not set" except where a question mark says that they are told on purpose.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Messages inside messages at most.
const DEPTH: usize = 64;

/// The same object as JSON; `schema` is the name of the expected kind's schema.
pub fn to_json(schema: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let malformed = || ApiError::bad_request("error decoding the body: it is no valid protobuf message of the expected kind");
    let object = body.strip_prefix(MAGIC).and_then(|envelope| open(schema, envelope)).ok_or_else(malformed)?;
    Ok(Value::Object(object).to_string().into_bytes())
}

/// The object in its envelope, which names its type.
fn open(schema: &str, envelope: &[u8]) -> Option<Map<String, Value>> {
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
    read(message(schema.strip_prefix("io.k8s.")?)?, raw, &mut object, DEPTH)?;
    object.insert("apiVersion".to_owned(), Value::from(api_version));
    object.insert("kind".to_owned(), Value::from(kind));
    Some(object)
}

/// One field as it stands on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed length; no kind has such fields.
    Other,
}

/// The fields of a message; `None` inside says that the text breaks off.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => self.take(8).map(|_| Wire::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Other)?,
            _ => return None,
        };
        Some((tag >> 3, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Bytes,
    Integer,
    Bool,
    Message(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arity {
    One,
    List,
    Map,
}

#[derive(Debug)]
struct Field {
    name: &'static str,
    kind: Kind,
    arity: Arity,
    /// Whether a zero value is meant.
    keeps_zero: bool,
}

type Message = HashMap<u64, Field>;

fn message(name: &str) -> Option<&'static Message> {
    static MESSAGES: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    MESSAGES.get_or_init(|| include_str!("../../data/protobuf.tsv").lines().filter_map(parse_message).collect()).get(name)
}

fn parse_message(line: &'static str) -> Option<(&'static str, Message)> {
    let mut parts = line.split('\t');
    Some((parts.next()?, parts.filter_map(parse_field).collect()))
}

fn parse_field(text: &'static str) -> Option<(u64, Field)> {
    let mut parts = text.splitn(3, ':');
    let (number, name, kind) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let keeps_zero = kind.ends_with('?');
    let kind = kind.trim_end_matches('?');
    let (arity, kind) = match kind.split_once('-') {
        Some(("list", kind)) => (Arity::List, kind),
        Some(("map", kind)) => (Arity::Map, kind),
        _ => (Arity::One, kind),
    };
    let kind = match kind {
        "s" => Kind::Text,
        "b" => Kind::Bytes,
        "i" => Kind::Integer,
        "t" => Kind::Bool,
        message => Kind::Message(message.strip_prefix("m=")?),
    };
    Some((number, Field { name, kind, arity, keeps_zero }))
}

/// Reads a message's fields into an object. Fields that are not known are passed over.
fn read(message: &Message, bytes: &[u8], object: &mut Map<String, Value>, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let Some(field) = message.get(&number) else { continue };
        match (field.arity, wire) {
            (Arity::One, Wire::Bytes(bytes)) if field.name.is_empty() => {
                let Kind::Message(name) = field.kind else { return None };
                read(self::message(name)?, bytes, object, depth)?;
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
    let empty = match kind {
        Kind::Message(_) => Wire::Bytes(&[]),
        _ => Wire::Bytes(b""),
    };
    let (mut key, mut found) = (String::new(), value(kind, &empty, depth));
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
        (Kind::Message(name), Wire::Bytes(bytes)) => match name.rsplit('.').next() {
            Some("Time") => time(bytes, 0),
            Some("MicroTime") => time(bytes, 6),
            Some("Quantity") => single(bytes).and_then(text_of).map(Value::from),
            Some("IntOrString") => int_or_string(bytes),
            Some("RawExtension" | "FieldsV1") => serde_json::from_slice(single(bytes)?).ok(),
            _ => {
                let mut object = Map::new();
                read(message(name)?, bytes, &mut object, depth)?;
                Some(Value::Object(object))
            }
        },
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
fn time(bytes: &[u8], digits: usize) -> Option<Value> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()][..], content].concat()
    }

    fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC, &bytes(1, &type_meta), &bytes(2, raw)].concat()
    }

    fn json(schema: &str, body: &[u8]) -> Value {
        serde_json::from_slice(&to_json(schema, body).unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_read_as_the_object_it_means() {
        let meta = [bytes(1, b"conf"), bytes(3, b""), bytes(8, b""), bytes(11, &[bytes(1, b"app"), bytes(2, b"x")].concat())].concat();
        let data = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let raw = [bytes(1, &meta), bytes(2, &data), vec![4 << 3, 0]].concat();
        assert_eq!(
            json("io.k8s.api.core.v1.ConfigMap", &enveloped("v1", "ConfigMap", &raw)),
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf", "labels": {"app": "x"}},
                "data": {"k": "v"}, "immutable": false,
            })
        );
    }

    #[test]
    fn sources_are_spread_and_numbers_and_times_have_their_forms() {
        let port = bytes(2, &[vec![1 << 3, 0], vec![2 << 3, 80]].concat());
        let probe = [bytes(1, &bytes(2, &port)), vec![2 << 3, 0], vec![7 << 3, 0]].concat();
        let mut object = Map::new();
        read(message("api.core.v1.Probe").unwrap(), &probe, &mut object, DEPTH).unwrap();
        assert_eq!(Value::Object(object), json!({"httpGet": {"port": 80}, "terminationGracePeriodSeconds": 0}));
        assert_eq!(time(&[1 << 3, 60], 0), Some(json!("1970-01-01T00:01:00Z")));
        assert_eq!(time(&[1 << 3, 60, 2 << 3, 0], 6), Some(json!("1970-01-01T00:01:00.000000Z")));
    }

    #[test]
    fn every_message_that_is_referred_to_is_there() {
        // Clients have messages for Kubernetes' own kinds only.
        let names = kinds::registry::RESOURCES.iter().map(|row| (row.codec.schema_name)());
        for name in names.filter_map(|name| name.strip_prefix("io.k8s.").map(str::to_owned)) {
            let mut waiting = vec![name];
            let mut seen = std::collections::HashSet::new();
            while let Some(name) = waiting.pop() {
                let fields = message(&name).unwrap_or_else(|| panic!("{name}"));
                for field in fields.values() {
                    let Kind::Message(target) = field.kind else { continue };
                    let special = ["Time", "MicroTime", "Quantity", "IntOrString", "RawExtension", "FieldsV1"];
                    if !special.contains(&target.rsplit('.').next().unwrap()) && seen.insert(target) {
                        waiting.push(target.to_owned());
                    }
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(0_u8.., 0..200)) {
            let _ = to_json("io.k8s.api.core.v1.Pod", &enveloped("v1", "Pod", &raw));
            let _ = to_json("io.k8s.api.core.v1.Pod", &raw);
        }
    }
}
