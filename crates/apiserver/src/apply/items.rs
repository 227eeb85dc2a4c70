//! What a value holds, each with the element of a path that leads to it.

use std::borrow::Cow;
use std::collections::HashMap;

use super::outline::{Json, Kind};
use super::schema::Schema;
use super::set::{Choice, Element};

/// From how many children on they are found by hash.
const MANY: usize = 24;

/// Why the item of a list can't be told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoElement {
    pub index: usize,
    pub why: String,
}

/// The fields of an object, or the items of a list that is not owned as a whole; in order.
pub fn items<'a>(value: Json<'a>, schema: Schema) -> Result<Vec<(Element<'a>, Json<'a>)>, NoElement> {
    match schema {
        Schema::Leaf => Ok(Vec::new()),
        Schema::Object(_) | Schema::Map(_) => Ok(value.children().map(|(key, value)| (Element::field(key), value)).collect()),
        Schema::Set | Schema::Keyed { .. } => value
            .children()
            .enumerate()
            .map(|(index, (_, item))| Ok((item_element(item, schema).map_err(|why| NoElement { index, why })?, item)))
            .collect(),
    }
}

fn item_element<'a>(item: Json<'a>, schema: Schema) -> Result<Element<'a>, String> {
    let Schema::Keyed { keys, .. } = schema else {
        return match item.kind() {
            Kind::Scalar | Kind::Null => Ok(Element { choice: Choice::Value, text: escaped(item.raw()) }),
            Kind::Object => Err("associative list without keys has an element that's a map type".to_owned()),
            Kind::List => Err("not supported: associative list with lists as elements".to_owned()),
        };
    };
    match item.kind() {
        Kind::Object => {}
        Kind::Null => return Err("associative list with keys may not have a null element".to_owned()),
        Kind::List | Kind::Scalar => return Err("associative list with keys may not have non-map elements".to_owned()),
    }
    let mut text = String::with_capacity(64);
    text.push('{');
    // Most have one key, which needs no order.
    if keys.contains(',') {
        let mut names: Vec<_> = keys.split(',').collect();
        names.sort_unstable();
        names.into_iter().try_for_each(|name| put_key(item, name, &mut text))?;
    } else {
        put_key(item, keys, &mut text)?;
    }
    text.push('}');
    Ok(Element { choice: Choice::Key, text: Cow::Owned(text) })
}

fn put_key(item: Json<'_>, name: &str, out: &mut String) -> Result<(), String> {
    let value = item.get(name).map(Json::raw).or_else(|| Schema::key_default(name)).ok_or_else(|| {
        format!("associative list with keys has an element that omits key field {name:?} (and doesn't have default value)")
    })?;
    out.push_str(if out.len() > 1 { r#",\""# } else { r#"\""# });
    out.push_str(name);
    out.push_str(r#"\":"#);
    put_escaped(value, out);
    Ok(())
}

/// JSON text as it stands inside a JSON string.
fn escaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains(['"', '\\']) {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len() + 8);
    put_escaped(raw, &mut out);
    Cow::Owned(out)
}

/// Compact JSON has no control characters of its own, so quotes and backslashes are all there is to escape.
fn put_escaped(raw: &str, out: &mut String) {
    for part in raw.split_inclusive(['"', '\\']) {
        match part.as_bytes().last() {
            Some(last @ (b'"' | b'\\')) => {
                out.push_str(&part[..part.len() - 1]);
                out.push('\\');
                out.push(char::from(*last));
            }
            _ => out.push_str(part),
        }
    }
}

/// One child, or all that share its element: upstream's rules let some lists hold two items with the same key.
#[derive(Clone, Debug)]
pub struct Child<'a> {
    pub element: Element<'a>,
    pub value: Json<'a>,
    /// Further items with the same element.
    pub copies: Vec<Json<'a>>,
    /// Whether it was looked for.
    pub found: bool,
}

impl Child<'_> {
    /// Whether the texts of all items are the same.
    pub fn is_same(&self, other: &Child<'_>) -> bool {
        let raws = |child: &Child<'_>| child.copies.iter().map(|copy| copy.raw().to_owned()).collect::<Vec<_>>();
        self.value.raw() == other.value.raw() && self.copies.len() == other.copies.len() && raws(self) == raws(other)
    }
}

/// What a value holds, to be found by element.
#[derive(Debug, Default)]
pub struct Children<'a> {
    list: Vec<Child<'a>>,
    places: Option<HashMap<Element<'a>, usize>>,
    /// Where the next search begins: two states of an object mostly hold the same in the same order.
    next: usize,
}

impl<'a> Children<'a> {
    /// Finds places for items; copies are put together.
    pub fn new(items: Vec<(Element<'a>, Json<'a>)>) -> Self {
        let mut children = Self { list: Vec::with_capacity(items.len()), places: None, next: 0 };
        if items.len() >= MANY {
            children.places = Some(HashMap::with_capacity(items.len()));
        }
        for (element, value) in items {
            // The fields of an object are no copies of each other: a reader of JSON keeps one of each name.
            let known = if element.choice == Choice::Field { None } else { children.place(&element) };
            match known {
                Some(place) => children.list[place].copies.push(value),
                None => {
                    if let Some(places) = &mut children.places {
                        places.insert(element.clone(), children.list.len());
                    }
                    children.list.push(Child { element, value, copies: Vec::new(), found: false });
                }
            }
        }
        children
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Child<'a>> {
        self.list.iter()
    }

    /// The child at an element.
    pub fn find(&mut self, element: &Element<'_>) -> Option<&Child<'a>> {
        let place = if self.list.get(self.next).is_some_and(|child| child.element == *element) { self.next } else { self.place(element)? };
        self.next = place + 1;
        let child = self.list.get_mut(place)?;
        child.found = true;
        Some(child)
    }

    fn place(&self, element: &Element<'_>) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(element).copied(),
            None => self.list.iter().position(|child| child.element == *element),
        }
    }
}
