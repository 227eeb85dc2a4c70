//! The schemas of all that is served: for `kubectl explain`, for messages about wrong types, and for code that walks JSON before
//! it becomes a typed object. They are made while the program is built, and kept compressed: most processes need few of them,
//! once.

use std::io::Read;

use flate2::read::DeflateDecoder;
use serde_json::{Map, Value};

pub mod definition;

static DEFINITIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/definitions"));
static INDEX: &str = include_str!(concat!(env!("OUT_DIR"), "/index"));
static BARE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bare"));

/// The names of all schemas.
pub fn names() -> impl Iterator<Item = &'static str> {
    INDEX.lines().filter_map(|line| line.split('\t').next())
}

/// One schema, with its descriptions.
pub fn definition(name: &str) -> Option<Value> {
    let line = INDEX.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'))?;
    let (start, end) = line.split_once('\t')?;
    inflated(DEFINITIONS.get(start.parse().ok()?..end.parse().ok()?)?)
}

/// All schemas, without descriptions. Whoever asks often keeps what it learns from them.
///
/// # Panics
/// Never: a test reads what the build has written.
pub fn bare() -> Map<String, Value> {
    match inflated(BARE) {
        Some(Value::Object(schemas)) => schemas,
        _ => unreachable!("the build writes an object"),
    }
}

fn inflated(packed: &[u8]) -> Option<Value> {
    let mut text = Vec::new();
    DeflateDecoder::new(packed).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The name of the schema that a schema refers to.
pub fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_schema_and_every_reference_leads_to_one() {
        let bare = bare();
        assert_eq!(names().collect::<Vec<_>>(), bare.keys().map(String::as_str).collect::<Vec<_>>());
        for row in kinds::registry::RESOURCES {
            let schema = definition(row.codec.schema_name).unwrap();
            assert!(schema["description"].is_string() && bare[row.codec.schema_name]["properties"]["metadata"].is_object());
        }
        let text = Value::Object(bare.clone()).to_string();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let name = reference.split('"').next().unwrap().rsplit('/').next().unwrap();
            assert!(bare.contains_key(name), "{name}");
        }
        assert!(definition("io.k8s.api.core.v1.Nothing").is_none());
    }

    #[test]
    fn only_the_words_for_people_are_left_out() {
        let bare = bare();
        assert!(bare["io.k8s.api.core.v1.Pod"].get("description").is_none());
        let class = &bare["io.k8s.api.scheduling.v1.PriorityClass"]["properties"];
        assert_eq!(class["description"]["type"], "string", "a property of this name stays");
    }
}
