//! One pass over JSON text beside the types: which fields are unknown or repeated, and what the type's own decoder lets pass.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use kinds::Resource;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::apply::{Json, Kind};
use crate::strategy::shape::{self, Shape};

/// Faults told at most; more would tell nobody more.
const MAX_FAULTS: usize = 100;

/// What a pass over an object found.
#[derive(Debug, Default)]
pub struct Scan {
    pub api_version: Option<String>,
    pub kind: Option<String>,
    /// Unknown and repeated fields, each in upstream's words.
    pub faults: Vec<String>,
    /// Why a quantity is none.
    pub bad_quantity: Option<String>,
}

/// Reads the text of an object.
pub fn scan(resource: &Resource, json: &[u8]) -> Result<Scan, serde_json::Error> {
    let mut scan = Scan::default();
    let root = shape::of(resource);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Node { shape: &root, trail: &Trail::Root, scan: &mut scan }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(scan)
}

/// Why a quantity in a canonical text is none: a text without escapes whose keys are all different needs no other look.
pub fn bad_quantity(value: Json<'_>, shape: &Shape) -> Option<String> {
    match (shape, value.kind()) {
        (Shape::Quantity, Kind::Scalar) if !matches!(value.raw(), "true" | "false") => {
            value.quoted().unwrap_or(value.raw()).parse::<kinds::Quantity>().err().map(|error| error.to_string())
        }
        (Shape::Object(reference), Kind::Object) => {
            let object = reference.object();
            value.children().find_map(|(key, value)| bad_quantity(value, &object.field(key)?.shape))
        }
        (Shape::Map(inner), Kind::Object) => value.children().find_map(|(_, value)| bad_quantity(value, inner)),
        (Shape::List(inner), Kind::List) => value.children().find_map(|(_, value)| bad_quantity(value, inner)),
        _ => None,
    }
}

/// The way from the object to a field of it, kept on the stack.
#[derive(Clone, Copy)]
enum Trail<'t> {
    Root,
    Field(&'t Trail<'t>, &'t str),
    Index(&'t Trail<'t>, usize),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Node<'a> {
    shape: &'a Shape,
    trail: &'a Trail<'a>,
    scan: &'a mut Scan,
}

/// A key, borrowed from the text where it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if matches!((self.shape, self.trail), (Shape::Object(_), Trail::Root)) {
            return deserializer.deserialize_map(self);
        }
        deserializer.deserialize_any(self)
    }
}

impl Node<'_> {
    fn quantity(&mut self, text: &str) {
        if *self.shape == Shape::Quantity
            && let Err(error) = text.parse::<kinds::Quantity>()
        {
            self.scan.bad_quantity.get_or_insert_with(|| error.to_string());
        }
    }

    fn text(&mut self, text: &str) {
        match self.trail {
            Trail::Field(Trail::Root, "apiVersion") => self.scan.api_version = Some(text.to_owned()),
            Trail::Field(Trail::Root, "kind") => self.scan.kind = Some(text.to_owned()),
            _ => self.quantity(text),
        }
    }

    fn fault(&mut self, what: &str, key: &str) {
        if self.scan.faults.len() < MAX_FAULTS {
            let place = Trail::Field(self.trail, key).to_string();
            self.scan.faults.push(format!("{what} field {place:?}"));
        }
    }

    /// What stands at a key; tells of a key that has no place here.
    fn child(&mut self, key: &str) -> &'static Shape
    where
        Self: Sized,
    {
        static OTHER: Shape = Shape::Other;
        match shape::field(self.shape, key) {
            Some(field) => &field.shape,
            None => {
                if matches!(self.shape, Shape::Object(reference) if reference.object().is_closed()) {
                    self.fault("unknown", key);
                }
                &OTHER
            }
        }
    }
}

/// From how many keys on they are found by hash.
const MANY: usize = 16;

/// The keys of an object so far.
#[derive(Default)]
struct Seen<'de> {
    first: Vec<Cow<'de, str>>,
    others: HashSet<Cow<'de, str>>,
}

impl<'de> Seen<'de> {
    fn has(&self, key: &str) -> bool {
        self.first.iter().any(|own| own == key) || self.others.contains(key)
    }

    fn keep(&mut self, key: Cow<'de, str>) {
        if self.first.len() < MANY {
            self.first.push(key);
        } else {
            self.others.insert(key);
        }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            if seen.has(&key) {
                self.fault("duplicate", &key);
            }
            let shape = match self.shape {
                Shape::Map(value) => value,
                _ => self.child(&key),
            };
            map.next_value_seed(Node { shape, trail: &Trail::Field(self.trail, &key), scan: self.scan })?;
            seen.keep(key);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let shape = match self.shape {
            Shape::List(item) => item,
            _ => &Shape::Other,
        };
        let mut index = 0;
        while items.next_element_seed(Node { shape, trail: &Trail::Index(self.trail, index), scan: self.scan })?.is_some() {
            index += 1;
        }
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_i64<E>(mut self, number: i64) -> Result<(), E> {
        self.quantity(&number.to_string());
        Ok(())
    }

    fn visit_u64<E>(mut self, number: u64) -> Result<(), E> {
        self.quantity(&number.to_string());
        Ok(())
    }

    fn visit_f64<E>(mut self, number: f64) -> Result<(), E> {
        self.quantity(&number.to_string());
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
