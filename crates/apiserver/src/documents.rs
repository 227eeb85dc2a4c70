//! For tests: random documents of the served kinds, with lists whose items are known by keys.

use kinds::merge_keys::Rule;
use kinds::{Resource, registry};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::strategy::shape::{self, Shape};

/// Levels below the document at most.
const DEPTH: usize = 8;
/// What items are known by, and what stands in fields.
const WORDS: [&str; 5] = ["a", "b", "c\"", "ü", ""];
/// Of `metadata`, what its author may own.
const METADATA: [&str; 3] = ["labels", "annotations", "finalizers"];

/// Of the fields of an object, so many are used by all documents of a case: else few would have one in common.
const FIELDS: usize = 5;

/// A kind, and so many documents of it.
pub fn documents(count: usize) -> impl Strategy<Value = (&'static Resource, Vec<Value>)> {
    let tapes = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..160), count);
    (0..registry::RESOURCES.len(), any::<u8>(), tapes).prop_map(|(row, first, tapes)| {
        let resource = &registry::RESOURCES[row];
        (resource, tapes.iter().map(|numbers| document(resource, Tape { first: first.into(), numbers })).collect())
    })
}

/// The document that some numbers stand for.
fn document(resource: &Resource, mut tape: Tape<'_>) -> Value {
    let root = shape::named(resource.codec.schema_name).expect("every kind has a schema");
    let mut document = tape.object(root.object(), 0).unwrap_or_default();
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| METADATA.contains(&field.as_str()));
    }
    // Metadata are never without anything; nobody owns them.
    let is_written = |field: &str, value: &Value| match field {
        "apiVersion" | "kind" | "status" => false,
        "metadata" => value.as_object().is_some_and(|metadata| !metadata.is_empty()),
        _ => true,
    };
    document.retain(|field, value| is_written(field, value));
    Value::Object(document)
}

/// Numbers to draw from; zeros when they are used up.
struct Tape<'a> {
    numbers: &'a [u8],
    /// Which fields are used.
    first: usize,
}

impl Tape<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        let Some((number, rest)) = self.numbers.split_first() else { return 0 };
        self.numbers = rest;
        usize::from(*number) % sides
    }

    fn word(&mut self) -> Value {
        json!(WORDS[self.roll(WORDS.len())])
    }

    /// Some fields of an object; nothing for one whose fields are not known.
    fn object(&mut self, object: &shape::Object, depth: usize) -> Option<Map<String, Value>> {
        let mut fields: Vec<_> = object.fields.iter().collect();
        let first = self.first.checked_rem(fields.len())?;
        fields.rotate_left(first);
        fields.truncate(FIELDS);
        let count = if depth < DEPTH { 1 + self.roll(4) } else { 0 };
        let mut made = Map::new();
        for _ in 0..count {
            let (name, field) = fields[self.roll(fields.len())];
            made.insert(name.clone(), self.value(&field.shape, field.rule, depth + 1));
        }
        Some(made)
    }

    fn value(&mut self, shape: &Shape, rule: Option<&Rule>, depth: usize) -> Value {
        match shape {
            Shape::Object(reference) => self.object(reference.object(), depth).map_or_else(|| json!({"x": 1}), Value::Object),
            Shape::Map(inner) => {
                let keys = self.some_words();
                keys.into_iter().map(|key| (key.to_owned(), self.value(inner, None, depth + 1))).collect()
            }
            Shape::List(item) => self.list(item, rule, depth),
            Shape::Quantity => json!("1"),
            Shape::Other => self.word(),
        }
    }

    fn list(&mut self, item: &Shape, rule: Option<&Rule>, depth: usize) -> Value {
        let words = self.some_words();
        let is_merged = rule.is_some_and(|rule| rule.merges() || matches!(rule.list_type, "map" | "set"));
        let keys: Vec<_> = rule.map_or("", |rule| rule.list_map_keys).split(',').chain(rule.map(|rule| rule.patch_merge_key)).collect();
        let made = words.into_iter().map(|word| match item {
            Shape::Object(reference) => {
                let mut made = self.object(reference.object(), depth + 1).unwrap_or_default();
                for key in keys.iter().filter(|key| is_merged && !key.is_empty()) {
                    made.insert((*key).to_owned(), json!(word));
                }
                Value::Object(made)
            }
            _ if is_merged => json!(word),
            other => self.value(other, None, depth + 1),
        });
        Value::Array(made.collect())
    }

    /// Different ones, in any order.
    fn some_words(&mut self) -> Vec<&'static str> {
        let mut words = Vec::new();
        for _ in 0..self.roll(4) {
            let word = WORDS[self.roll(WORDS.len())];
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words
    }
}
