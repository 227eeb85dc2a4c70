//! An object and a configuration merged: what the configuration says, and all else as it is.

use std::collections::{HashMap, HashSet};

use super::items::items;
use super::outline::{Json, Kind};
use super::schema::Schema;
use super::set::Element;

/// Writes the merged value.
pub fn merge(live: Option<Json<'_>>, applied: Option<Json<'_>>, schema: Schema, out: &mut String) {
    match (live, applied) {
        (Some(live), Some(applied)) => merge_both(live, applied, schema, out),
        (Some(value), None) | (None, Some(value)) => out.push_str(value.raw()),
        (None, None) => {}
    }
}

fn merge_both(live: Json<'_>, applied: Json<'_>, schema: Schema, out: &mut String) {
    if schema.is_leaf() || live.is_hollow() || live.raw() == applied.raw() {
        return out.push_str(applied.raw());
    }
    if applied.is_hollow() {
        // What names nothing changes nothing.
        return out.push_str(live.raw());
    }
    match (live.kind(), applied.kind()) {
        (Kind::Object, Kind::Object) => merge_objects(live, applied, schema, out),
        (Kind::List, Kind::List) => merge_lists(live, applied, schema, out),
        _ => out.push_str(applied.raw()),
    }
}

fn merge_objects(live: Json<'_>, applied: Json<'_>, schema: Schema, out: &mut String) {
    let (named, known) = (Fields::of(applied), Fields::of(live));
    let kept = live.children().map(|(key, value)| (key, Some(value), named.get(key)));
    let new = applied.children().filter(|(key, _)| known.get(key).is_none()).map(|(key, value)| (key, None, Some(value)));
    out.push('{');
    for (index, (key, live, applied)) in kept.chain(new).enumerate() {
        out.push_str(if index > 0 { ",\"" } else { "\"" });
        out.push_str(key);
        out.push_str("\":");
        merge(live, applied, schema.child(key).unwrap_or(Schema::Leaf), out);
    }
    out.push('}');
}

/// From how many fields on they are found by hash.
const MANY: usize = 16;

/// The fields of an object, to be found by name.
enum Fields<'a> {
    Few(Vec<(&'a str, Json<'a>)>),
    Many(HashMap<&'a str, Json<'a>>),
}

impl<'a> Fields<'a> {
    fn of(object: Json<'a>) -> Self {
        let fields: Vec<_> = object.children().collect();
        if fields.len() < MANY { Self::Few(fields) } else { Self::Many(fields.into_iter().collect()) }
    }

    /// The last one of a name, as readers of JSON keep it.
    fn get(&self, name: &str) -> Option<Json<'a>> {
        match self {
            Self::Few(fields) => fields.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| *value),
            Self::Many(fields) => fields.get(name).copied(),
        }
    }
}

fn merge_lists(live: Json<'_>, applied: Json<'_>, schema: Schema, out: &mut String) {
    let (Ok(live_items), Ok(applied_items)) = (items(live, schema), items(applied, schema)) else {
        return out.push_str(applied.raw());
    };
    let (live_elements, applied_elements) = (elements(&live_items), elements(&applied_items));
    let places = match live_elements == applied_elements && is_telling(&live_elements) {
        true => (0..live_items.len()).map(|at| (Some(at), Some(at))).collect(),
        false => arrange(&live_elements, &applied_elements),
    };
    out.push('[');
    for (index, (live, applied)) in places.into_iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        merge(live.map(|at| live_items[at].1), applied.map(|at| applied_items[at].1), schema.item(), out);
    }
    out.push(']');
}

fn elements<'a>(items: &[(Element<'a>, Json<'_>)]) -> Vec<Element<'a>> {
    items.iter().map(|(element, _)| element.clone()).collect()
}

/// Whether no two of these are the same.
fn is_telling(elements: &[Element<'_>]) -> bool {
    let mut sorted: Vec<_> = elements.iter().collect();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// The order of a merged list, as pairs of places in the two lists: the applied items as they are applied, the others where
/// they stand between them. An item that is there twice is replaced by what is applied.
fn arrange(live: &[Element<'_>], applied: &[Element<'_>]) -> Vec<(Option<usize>, Option<usize>)> {
    let wanted: HashSet<_> = applied.iter().collect();
    let mut found = HashMap::new();
    for (at, element) in live.iter().enumerate() {
        found.entry(element).and_modify(|place| *place = None).or_insert(Some(at));
    }
    let mut shared = applied.iter().filter(|element| found.contains_key(element)).peekable();
    let mut rest = live.iter().enumerate().peekable();
    let mut places = Vec::with_capacity(live.len() + applied.len());
    for (index, element) in applied.iter().enumerate() {
        while let Some((at, other)) = rest.next_if(|(_, other)| {
            let out_of_order = shared.peek().is_some_and(|next| next != other);
            *other != element && (!wanted.contains(other) || out_of_order)
        }) {
            if !wanted.contains(other) {
                places.push((Some(at), None));
            }
        }
        let _ = rest.next_if(|(_, other)| *other == element);
        let _ = shared.next_if(|next| *next == element);
        places.push((found.get(element).copied().flatten(), Some(index)));
    }
    places.extend(rest.filter(|(_, other)| !wanted.contains(other)).map(|(at, _)| (Some(at), None)));
    places
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::set::Choice;
    use super::*;

    #[test]
    fn applied_items_keep_their_order_and_others_their_places() {
        let elements = |names: &str| -> Vec<Element<'static>> {
            names.chars().map(|name| Element { choice: Choice::Value, text: Cow::Owned(name.to_string()) }).collect()
        };
        for (live, applied, expected) in [
            ("", "ab", "ab"),
            ("ab", "", "ab"),
            ("ab", "ba", "ba"),
            ("axb", "anb", "axnb"),
            ("bax", "ab", "axb"),
            ("abx", "ban", "bxan"),
            ("abc", "d", "abcd"),
            ("xaay", "a", "xay"),
        ] {
            let (live, applied) = (elements(live), elements(applied));
            let name = |(live_at, applied_at): (Option<usize>, Option<usize>)| {
                applied_at.map(|at| &applied[at]).or(live_at.map(|at| &live[at])).map_or("", |element| &element.text).to_owned()
            };
            assert_eq!(arrange(&live, &applied).into_iter().map(name).collect::<String>(), expected);
        }
    }
}
