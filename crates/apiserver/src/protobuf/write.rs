//! JSON text as protobuf, in one pass: no tree is built, so that a large list costs little more than its own size.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::table::{Arity, Field, Kind, Message, message};
use super::{MAGIC, message_name};
use protobuf::{put_bytes, put_message, put_number};

#[derive(Deserialize)]
struct TypeMeta<'a> {
    #[serde(borrow, rename = "apiVersion", default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
}

/// The object in its envelope; `None` for a kind that has no such form.
pub fn from_json(json: &[u8]) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let TypeMeta { api_version, kind } = serde_json::from_slice(json)?;
    let Some(message) = message(&message_name(&api_version, &kind)) else { return Ok(None) };
    let mut out = Vec::with_capacity(json.len());
    out.extend_from_slice(MAGIC);
    put_message(&mut out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
    });
    let mut reader = serde_json::Deserializer::from_slice(json);
    put_message(&mut out, 2, |out| Object { message, out }.deserialize(&mut reader))?;
    Ok(Some(out))
}

/// One event of a watch, with its length before it; `None` for a kind that has no such form.
pub fn event(kind: &str, json: &[u8]) -> Option<Bytes> {
    let object = from_json(json).ok()??;
    let mut out = vec![0; 4];
    put_bytes(&mut out, 1, kind.as_bytes());
    put_message(&mut out, 2, |out| put_bytes(out, 1, &object));
    let length = u32::try_from(out.len() - 4).ok()?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Some(out.into())
}

/// Writes the fields of a JSON object.
struct Object<'a> {
    message: &'static Message,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(found) = map.next_key_seed(Key(self.message))? {
            let Some((outer, field)) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if outer.is_empty() {
                map.next_value_seed(Value::of(field, self.out))?;
                continue;
            }
            // A message that comes in pieces is put together by who reads it: what is spread into this object need not be
            // gathered first.
            let mut piece = Vec::new();
            map.next_value_seed(Value::of(field, &mut piece))?;
            for number in outer {
                let inner = std::mem::take(&mut piece);
                put_bytes(&mut piece, number, &inner);
            }
            self.out.extend_from_slice(&piece);
        }
        Ok(())
    }
}

/// Finds the field that a key names.
struct Key(&'static Message);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<(Vec<u64>, &'static Field)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<(Vec<u64>, &'static Field)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(key))
    }
}

/// Writes a field with the JSON value it has.
struct Value<'a> {
    number: u64,
    kind: Kind,
    arity: Arity,
    out: &'a mut Vec<u8>,
}

impl<'a> Value<'a> {
    fn of(field: &Field, out: &'a mut Vec<u8>) -> Self {
        Self { number: field.number, kind: field.kind, arity: field.arity, out }
    }

    /// The same kind of value, but one of it.
    fn one(&mut self, number: u64) -> Value<'_> {
        Value { number, kind: self.kind, arity: Arity::One, out: self.out }
    }

    fn unfit<T, E: Error>(&self, what: &str) -> Result<T, E> {
        Err(E::custom(format!("{what} does not fit a field of type {:?}", self.kind)))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.kind == Kind::Raw && self.arity == Arity::One {
            let text = <&RawValue>::deserialize(deserializer)?.get();
            if text != "null" {
                put_message(self.out, self.number, |out| put_bytes(out, 1, text.as_bytes()));
            }
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {:?}", self.kind)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if self.kind != Kind::Bool {
            return self.unfit("a truth value");
        }
        put_number(self.out, self.number, u64::from(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        match self.kind {
            Kind::Integer => put_number(self.out, self.number, number.cast_unsigned()),
            Kind::IntOrText => put_message(self.out, self.number, |out| {
                put_number(out, 1, 0);
                put_number(out, 2, number.cast_unsigned());
            }),
            Kind::Quantity => put_message(self.out, self.number, |out| put_bytes(out, 1, number.to_string().as_bytes())),
            _ => return self.unfit("a number"),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => self.unfit("a number so large"),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.kind {
            Kind::Text => put_bytes(self.out, self.number, text.as_bytes()),
            Kind::Bytes => put_bytes(self.out, self.number, &STANDARD.decode(text).map_err(E::custom)?),
            Kind::Quantity => put_message(self.out, self.number, |out| put_bytes(out, 1, text.as_bytes())),
            Kind::IntOrText => put_message(self.out, self.number, |out| {
                put_number(out, 1, 1);
                put_bytes(out, 3, text.as_bytes());
            }),
            Kind::Time(_) => {
                let at: Timestamp = text.parse().map_err(E::custom)?;
                // Rounded down, as upstream splits a time.
                let second = at.as_nanosecond().div_euclid(1_000_000_000) as i64;
                let nanosecond = at.as_nanosecond().rem_euclid(1_000_000_000) as u64;
                put_message(self.out, self.number, |out| {
                    put_number(out, 1, second.cast_unsigned());
                    put_number(out, 2, nanosecond);
                });
            }
            _ => return self.unfit("text"),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let number = self.number;
        match (self.arity, self.kind) {
            (Arity::List, _) => while items.next_element_seed(self.one(number))?.is_some() {},
            (_, Kind::Texts) => put_message(self.out, number, |out| {
                while items.next_element_seed(Value { number: 1, kind: Kind::Text, arity: Arity::One, out })?.is_some() {}
                Ok(())
            })?,
            _ => return self.unfit("a list"),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.arity == Arity::Map {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                let kind = self.kind;
                put_message(self.out, self.number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    map.next_value_seed(Value { number: 2, kind, arity: Arity::One, out })
                })?;
            }
            return Ok(());
        }
        let Kind::Message(name) = self.kind else { return self.unfit("an object") };
        let Some(message) = message(name) else { return self.unfit("an object") };
        put_message(self.out, self.number, |out| Object { message, out }.visit_map(map))
    }
}
