//! The fields that a configuration names: what applying it lays claim to.

use std::fmt;

use super::items::items;
use super::outline::{Json, Kind};
use super::schema::Schema;
use super::set::{Choice, Element, Node, Set};

/// The fields of a configuration, or what is wrong with it, in upstream's words.
pub fn fields<'a>(configuration: Json<'a>, schema: Schema) -> Result<Set<'a>, Vec<String>> {
    let mut faults = Vec::new();
    let set = inside(configuration, schema, &Trail::Root, &mut faults);
    if faults.is_empty() { Ok(set) } else { Err(faults) }
}

/// The way to a value: written out only when something is wrong there.
#[derive(Clone, Copy)]
enum Trail<'t> {
    Root,
    At(&'t Trail<'t>, &'t Element<'t>),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::At(parent, element) => write!(f, "{parent}{element}"),
        }
    }
}

/// The claims inside a value that is not owned as a whole.
fn inside<'a>(value: Json<'a>, schema: Schema, path: &Trail<'_>, faults: &mut Vec<String>) -> Set<'a> {
    let wanted = match schema {
        Schema::Object(_) | Schema::Map(_) => (Kind::Object, "map"),
        Schema::Set | Schema::Keyed { .. } => (Kind::List, "list"),
        Schema::Leaf => return Set::default(),
    };
    match value.kind() {
        Kind::Null => return Set::default(),
        kind if kind == wanted.0 => {}
        _ => {
            faults.push(format!("{}: expected {}, got {}", shown(path), wanted.1, value.raw()));
            return Set::default();
        }
    }
    let mut nodes = Vec::new();
    if wanted.0 == Kind::Object {
        nodes.extend(value.children().filter_map(|(key, value)| claim(Element::field(key), value, schema, path, faults)));
    } else {
        match items(value, schema) {
            Ok(items) => nodes.extend(items.into_iter().filter_map(|(element, item)| claim(element, item, schema, path, faults))),
            Err(error) => faults.push(format!("{}: element {}: {}", shown(path), error.index, error.why)),
        }
    }
    let set = Set::new(nodes);
    faults.extend(set.repeated().map(|element| format!("{}: duplicate entries for key {element}", shown(path))));
    set
}

fn claim<'a>(
    element: Element<'a>,
    value: Json<'a>,
    schema: Schema,
    path: &Trail<'_>,
    faults: &mut Vec<String>,
) -> Option<(Element<'a>, Node<'a>)> {
    let path = Trail::At(path, &element);
    let below = match element.choice {
        Choice::Field => match schema.child(&element.text) {
            Some(below) => below,
            None => {
                faults.push(format!("{path}: field not declared in schema"));
                return None;
            }
        },
        _ => schema.item(),
    };
    let children = inside(value, below, &path, faults);
    // The fields of an object are owned by owning what is in them; keys and items are owned themselves.
    let is_field = matches!(schema, Schema::Object(_));
    let member = !is_field || below.is_leaf() || value.is_hollow();
    Some((element, Node { member, children }))
}

fn shown(path: &Trail<'_>) -> String {
    if matches!(path, Trail::Root) { ".".to_owned() } else { path.to_string() }
}
