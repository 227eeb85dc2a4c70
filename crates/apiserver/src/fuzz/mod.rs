//! What the crate `fuzz` asks of this crate's decoders: each function takes any bytes, and panics when a property does not hold.
//!
//! Inputs are made of lines, so that people can write them; the first mostly names a resource by its plural. Nothing else uses this
//! module.

mod merges;
mod objects;
mod queries;

pub use merges::{apply, json_patch, managed_fields, merge_patch, strategic_patch};
pub use objects::{json, protobuf, protobuf_of, yaml};
pub use queries::{continue_token, field_selector, request};

use kinds::{Resource, registry};

/// The first lines of an input, each without its end, and the rest.
fn lines<const COUNT: usize>(input: &[u8]) -> [&[u8]; COUNT] {
    let mut lines = input.splitn(COUNT, |byte| *byte == b'\n');
    std::array::from_fn(|_| lines.next().unwrap_or_default())
}

/// The resource of a plural. Any other text stands for one, too: so most of what an engine tries is about something.
fn resource(plural: &[u8]) -> &'static Resource {
    let named = registry::RESOURCES.iter().find(|resource| resource.plural.as_bytes() == plural);
    let sum = plural.iter().map(|byte| usize::from(*byte)).sum::<usize>();
    named.unwrap_or(&registry::RESOURCES[sum % registry::RESOURCES.len()])
}

/// Whether a value is the same when it is written and read. A number with many digits behind its point need not be: the last of
/// them may differ, which no field of a kind can tell, as none is such a number.
fn is_exact(value: &serde_json::Value) -> bool {
    serde_json::from_str::<serde_json::Value>(&value.to_string()).is_ok_and(|again| again == *value)
}
