//! What goes when its owner no longer applies it.
//!
//! A field goes if the manager applied it last time and nobody owns it any more. With it goes what is in it, also what nobody
//! ever owned, such as defaults: a structure of which only defaults are left is no longer there.

use super::items::items;
use super::outline::{Json, Kind};
use super::schema::Schema;
use super::set::{Element, Node, Set};

/// Whether an element belongs to a set, seen as upstream sees it here: who owns something in an object's field owns the field.
fn owns(node: Option<&Node<'_>>, schema: Schema) -> bool {
    let is_field = matches!(schema, Schema::Object(_));
    node.is_some_and(|node| node.member || is_field && !node.children.is_empty())
}

/// What is known on the way down to a value.
#[derive(Clone, Copy)]
struct Way<'s, 'a> {
    /// What the manager owned before, below here.
    last: &'s Set<'a>,
    /// What anyone owns now, below here.
    owned: Option<&'s Set<'a>>,
    /// Something above was owned before.
    below_last: bool,
    /// Something above is neither owned nor untouched.
    abandoned: bool,
}

/// Writes an object without what goes.
pub fn prune(object: Json<'_>, schema: Schema, last: &Set<'_>, owned: &Set<'_>, out: &mut String) {
    write(object, schema, Way { last, owned: Some(owned), below_last: false, abandoned: false }, out);
}

fn write(value: Json<'_>, schema: Schema, way: Way<'_, '_>, out: &mut String) {
    let held = if way.last.is_empty() || value.is_hollow() { Ok(Vec::new()) } else { items(value, schema) };
    let Ok(held) = held else { return out.push_str(value.raw()) };
    if held.is_empty() || !matches!(value.kind(), Kind::Object | Kind::List) {
        return out.push_str(value.raw());
    }
    let kept: Vec<_> = held.iter().filter_map(|(element, child)| Some((element, *child, step(element, schema, way)?))).collect();
    let is_object = value.kind() == Kind::Object;
    out.push(if is_object { '{' } else { '[' });
    for (index, (element, child, way)) in kept.into_iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        if is_object {
            out.push_str(&format!("\"{}\":", element.text));
        }
        let below = if is_object { schema.child(&element.text).unwrap_or(Schema::Leaf) } else { schema.item() };
        write(child, below, way, out);
    }
    out.push(if is_object { '}' } else { ']' });
}

/// The way on to what is at an element; `None` if that goes.
fn step<'s, 'a>(element: &Element<'_>, schema: Schema, way: Way<'s, 'a>) -> Option<Way<'s, 'a>> {
    const NOTHING: &Set<'static> = &Set::new_empty();
    let last = way.last.get(element);
    let owned = way.owned.and_then(|set| set.get(element));
    let was_owned = owns(last, schema);
    let below_last = way.below_last || was_owned;
    let abandoned = way.abandoned || below_last && !owns(owned, schema);
    if was_owned && abandoned {
        return None;
    }
    let last = last.map_or(NOTHING, |node| &node.children);
    Some(Way { last, owned: owned.map(|node| &node.children), below_last, abandoned })
}
