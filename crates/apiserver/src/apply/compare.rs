//! Which fields differ between two states of an object.

use super::items::{Child, Children, items};
use super::outline::{Json, Kind, Outline};
use super::schema::Schema;
use super::set::{Choice, Element, Node, Set};

/// The fields that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// Those that are new or have another value.
    pub changed: Set<'a>,
    /// Those that are gone.
    pub removed: Set<'a>,
}

impl<'a> Changes<'a> {
    /// What differs between two states of an object. Where one of the texts is none, nothing does.
    pub fn between(old: &'a Outline<'a>, new: &'a Outline<'a>, schema: Schema) -> Self {
        let Pair { changed, removed } = compare(Some(old.root()), Some(new.root()), schema);
        Self { changed: changed.children, removed: removed.children }
    }

    /// Without the paths of some fields.
    pub fn without(mut self, fields: &Set<'_>) -> Self {
        self.changed.subtract(fields);
        self.removed.subtract(fields);
        self
    }

    /// Without some fields and all that is in them.
    pub fn outside(mut self, fields: &Set<'_>) -> Self {
        self.changed.leave_out(fields);
        self.removed.leave_out(fields);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

#[derive(Default)]
struct Pair<'a> {
    changed: Node<'a>,
    removed: Node<'a>,
}

fn compare<'a>(old: Option<Json<'a>>, new: Option<Json<'a>>, schema: Schema) -> Pair<'a> {
    if let (Some(old), Some(new)) = (old, new)
        && old.raw() == new.raw()
    {
        return Pair::default();
    }
    let mut pair = inside(old, new, schema).unwrap_or_else(|| leaf(old, new));
    pair.changed.member |= old.is_none();
    pair.removed.member |= new.is_none();
    pair
}

fn leaf<'a>(old: Option<Json<'a>>, new: Option<Json<'a>>) -> Pair<'a> {
    let mut pair = Pair::default();
    pair.changed.member = new.is_some();
    pair.removed.member = old.is_some() && new.is_none();
    pair
}

/// What differs inside a value; `None` if it is to be seen as a whole.
fn inside<'a>(old: Option<Json<'a>>, new: Option<Json<'a>>, schema: Schema) -> Option<Pair<'a>> {
    let hollow = |value: Option<Json<'_>>| value.is_none_or(Json::is_hollow);
    if schema.is_leaf() || hollow(old) && hollow(new) {
        return None;
    }
    let held = |value: Option<Json<'a>>| value.map_or(Some(Children::default()), |value| children(value, schema));
    let (old_children, mut new_children) = (held(old)?, held(new)?);
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    let mut keep = |element: &Element<'a>, pair: Pair<'a>| {
        for (nodes, node) in [(&mut changed, pair.changed), (&mut removed, pair.removed)] {
            if !node.is_empty() {
                nodes.push((element.clone(), node));
            }
        }
    };
    for child in old_children.iter() {
        let other = new_children.find(&child.element);
        let absent = placeholder(new, other, child, schema);
        keep(&child.element, compare_children(Some(child), other.or(absent.as_ref()), schema));
    }
    for child in new_children.iter().filter(|child| !child.found) {
        let absent = placeholder(old, None, child, schema);
        keep(&child.element, compare_children(absent.as_ref(), Some(child), schema));
    }
    let node = |nodes| Node { member: false, children: Set::new(nodes) };
    Some(Pair { changed: node(changed), removed: node(removed) })
}

/// What upstream has where nothing is.
fn placeholder<'a>(parent: Option<Json<'_>>, found: Option<&Child<'a>>, twin: &Child<'a>, schema: Schema) -> Option<Child<'a>> {
    if found.is_some() || parent.is_none() {
        return None;
    }
    let value = empty(schema.in_place_of(&twin.element.text)?)?;
    Some(Child { element: twin.element.clone(), value, copies: Vec::new(), found: false })
}

fn empty(text: &'static str) -> Option<Json<'static>> {
    use std::sync::LazyLock;
    static EMPTY: LazyLock<[Option<Outline<'static>>; 2]> = LazyLock::new(|| ["{}", "null"].map(Outline::of));
    EMPTY.iter().flatten().map(Outline::root).find(|value| value.raw() == text)
}

fn children<'a>(value: Json<'a>, schema: Schema) -> Option<Children<'a>> {
    let wanted = match schema {
        Schema::Leaf => return None,
        Schema::Object(_) | Schema::Map(_) => Kind::Object,
        Schema::Set | Schema::Keyed { .. } => Kind::List,
    };
    match value.kind() {
        Kind::Null => Some(Children::default()),
        kind if kind == wanted => items(value, schema).ok().map(Children::new),
        _ => None,
    }
}

fn compare_children<'a>(old: Option<&Child<'a>>, new: Option<&Child<'a>>, schema: Schema) -> Pair<'a> {
    let Some(child) = old.or(new) else { return Pair::default() };
    if old.zip(new).is_some_and(|(old, new)| old.is_same(new)) {
        return Pair::default();
    }
    let below = match child.element.choice {
        Choice::Field => schema.child(&child.element.text).unwrap_or(Schema::Leaf),
        _ => schema.item(),
    };
    let copied = |child: Option<&Child<'a>>| child.is_some_and(|child| !child.copies.is_empty());
    let value = |child: Option<&Child<'a>>| child.map(|child| child.value);
    // Items that can't be told apart have one owner together.
    match (copied(old), copied(new)) {
        (false, false) => compare(value(old), value(new), below),
        (true, true) => Pair { changed: Node::leaf(), removed: Node::default() },
        (true, false) => {
            let changed = if new.is_some() { compare(None, value(new), below).changed } else { Node::default() };
            Pair { changed, removed: Node::leaf() }
        }
        (false, true) => {
            let removed = if old.is_some() { compare(value(old), None, below).removed } else { Node::default() };
            Pair { changed: Node::leaf(), removed }
        }
    }
}
