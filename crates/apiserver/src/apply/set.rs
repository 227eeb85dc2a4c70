//! Sets of fields, as `fieldsV1` writes them: a tree whose edges are the elements of paths.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use super::outline::{Json, Kind};

/// How an element of a path chooses among what a value holds. In the order in which sets keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Choice {
    /// `f:`, a field of an object or a key of a map.
    Field,
    /// `k:`, the item of a list that has these fields.
    Key,
    /// `v:`, an item that is this value.
    Value,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element<'a> {
    pub choice: Choice,
    /// What stands behind the colon, with JSON's escapes: a field's name, or an object or a value as JSON.
    pub text: Cow<'a, str>,
}

impl<'a> Element<'a> {
    /// A field, by its name as it stands in a JSON text.
    pub fn field(name: &'a str) -> Self {
        Self { choice: Choice::Field, text: Cow::Borrowed(name) }
    }

    fn read(key: &'a str) -> Option<Self> {
        let (choice, text) = key.split_once(':')?;
        let choice = match choice {
            "f" => Choice::Field,
            "k" => Choice::Key,
            "v" => Choice::Value,
            _ => return None,
        };
        Some(Self { choice, text: Cow::Borrowed(text) })
    }
}

/// As error messages show it: `.spec`, `[name="web"]`, `[="finalizer"]`.
impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = serde_json::from_str(&format!("\"{}\"", self.text)).unwrap_or_else(|_| self.text.to_string());
        match self.choice {
            Choice::Field => write!(f, ".{text}"),
            Choice::Value => write!(f, "[={text}]"),
            Choice::Key => {
                let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
                let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
        }
    }
}

/// What a set says about one element: whether the path that ends there belongs to it, and which that go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node<'a> {
    pub member: bool,
    pub children: Set<'a>,
}

impl Node<'_> {
    /// The node of a path that ends here.
    pub fn leaf() -> Self {
        Self { member: true, children: Set::default() }
    }

    /// Whether it stands for no path at all.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

/// A set of fields. Sorted, no two elements the same; no node is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set<'a>(Vec<(Element<'a>, Node<'a>)>);

impl<'a> Set<'a> {
    /// A set of these; empty nodes are left out.
    pub fn new(mut nodes: Vec<(Element<'a>, Node<'a>)>) -> Self {
        nodes.retain(|(_, node)| !node.is_empty());
        nodes.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        Self(nodes)
    }

    /// The set of nothing.
    pub const fn new_empty() -> Self {
        Self(Vec::new())
    }

    /// The set of some paths of fields, each with dots between its names.
    pub fn of_fields(paths: &[&'static str]) -> Self {
        let path = |path: &&'static str| {
            let mut names = path.rsplit('.');
            let leaf = Self::new(names.next().map(|name| (Element::field(name), Node::leaf())).into_iter().collect());
            names.fold(leaf, |children, name| Self(vec![(Element::field(name), Node { member: false, children })]))
        };
        paths.iter().map(path).fold(Self::default(), |all, one| all.union(&one))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The elements that were given more than once to [`Set::new`].
    pub fn repeated(&self) -> impl Iterator<Item = &Element<'a>> {
        self.0.chunk_by(|(left, _), (right, _)| left == right).filter(|same| same.len() > 1).map(|same| &same[0].0)
    }

    /// What the set says about one element.
    pub fn get(&self, element: &Element<'_>) -> Option<&Node<'a>> {
        let found = self.0.binary_search_by(|(own, _)| own.cmp(element)).ok()?;
        Some(&self.0[found].1)
    }

    /// The paths of both.
    pub fn union(&self, other: &Self) -> Self {
        self.join(other, |own, other| match (own, other) {
            (Some(own), Some(other)) => Node { member: own.member || other.member, children: own.children.union(&other.children) },
            (one, other) => one.or(other).cloned().unwrap_or_default(),
        })
    }

    /// The paths that both have.
    pub fn intersection(&self, other: &Self) -> Self {
        self.join(other, |own, other| match (own, other) {
            (Some(own), Some(other)) => Node { member: own.member && other.member, children: own.children.intersection(&other.children) },
            _ => Node::default(),
        })
    }

    /// The paths that the other does not have. What is below a path of the other stays.
    pub fn difference(&self, other: &Self) -> Self {
        self.join(other, |own, other| match (own, other) {
            (Some(own), Some(other)) => Node { member: own.member && !other.member, children: own.children.difference(&other.children) },
            (own, _) => own.cloned().unwrap_or_default(),
        })
    }

    /// The paths that are neither the other's nor below one of the other's.
    pub fn outside(&self, other: &Self) -> Self {
        self.join(other, |own, other| match (own, other) {
            (Some(_), Some(other)) if other.member => Node::default(),
            (Some(own), Some(other)) => Node { member: own.member, children: own.children.outside(&other.children) },
            (own, _) => own.cloned().unwrap_or_default(),
        })
    }

    /// The same as [`Set::difference`], in place.
    pub fn subtract(&mut self, other: &Set<'_>) {
        self.at_shared(other, |own, other| {
            own.member &= !other.member;
            own.children.subtract(&other.children);
        });
    }

    /// The same as [`Set::outside`], in place.
    pub fn leave_out(&mut self, other: &Set<'_>) {
        self.at_shared(other, |own, other| match other.member {
            true => *own = Node::default(),
            false => own.children.leave_out(&other.children),
        });
    }

    /// Changes what the set says about the elements of another; what is empty then goes.
    fn at_shared(&mut self, other: &Set<'_>, change: impl Fn(&mut Node<'a>, &Node<'_>)) {
        let mut emptied = false;
        for (element, other) in &other.0 {
            let order = |(own, _): &(Element<'_>, Node<'_>)| own.choice.cmp(&element.choice).then_with(|| own.text.cmp(&element.text));
            if let Ok(found) = self.0.binary_search_by(order) {
                change(&mut self.0[found].1, other);
                emptied |= self.0[found].1.is_empty();
            }
        }
        if emptied {
            self.0.retain(|(_, node)| !node.is_empty());
        }
    }

    /// Whether all its paths are the other's, too.
    pub fn is_within(&self, other: &Self) -> bool {
        let mut rest = &other.0[..];
        self.0.iter().all(|(element, own)| {
            // Both are sorted, so what was passed is not needed again.
            let Some(place) = rest.iter().position(|(other, _)| other >= element).filter(|&place| rest[place].0 == *element) else {
                return false;
            };
            let other = &rest[place].1;
            rest = &rest[place + 1..];
            (!own.member || other.member) && own.children.is_within(&other.children)
        })
    }

    /// Whether the two have a path in common.
    pub fn meets(&self, other: &Self) -> bool {
        let (few, many) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        few.0
            .iter()
            .any(|(element, own)| many.get(element).is_some_and(|other| own.member && other.member || own.children.meets(&other.children)))
    }

    fn join(&self, other: &Self, node: impl Fn(Option<&Node<'a>>, Option<&Node<'a>>) -> Node<'a>) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut joined = Vec::with_capacity(self.0.len().max(other.0.len()));
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return Self(joined),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((left, _)), Some((right, _))) => left.cmp(right),
            };
            let own = if order.is_le() { left.next() } else { None };
            let other = if order.is_ge() { right.next() } else { None };
            let node = node(own.map(|(_, node)| node), other.map(|(_, node)| node));
            if let Some((element, _)) = own.or(other)
                && !node.is_empty()
            {
                joined.push((element.clone(), node));
            }
        }
    }

    /// All paths, as error messages show them: those that end first before those that go on.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        paths.extend(self.0.iter().filter(|(_, node)| node.member).map(|(element, _)| format!("{prefix}{element}")));
        for (element, node) in self.0.iter().filter(|(_, node)| !node.children.is_empty()) {
            node.children.collect(&format!("{prefix}{element}"), paths);
        }
    }

    /// Reads `fieldsV1`; `None` when it is none.
    pub fn read(json: Json<'a>) -> Option<Self> {
        if json.kind() != Kind::Object {
            return None;
        }
        let node = |(key, value): (&'a str, Json<'a>)| {
            let member = value.is_hollow() || value.get(".").is_some();
            Some((Element::read(key)?, Node { member, children: Self::read(value)? }))
        };
        Some(Self::new(json.children().filter(|(key, _)| *key != ".").map(node).collect::<Option<_>>()?))
    }

    /// Writes `fieldsV1`.
    pub fn write(&self, out: &mut String) {
        out.push('{');
        self.write_nodes(out);
        out.push('}');
    }

    fn write_nodes(&self, out: &mut String) {
        for (index, (Element { choice, text }, node)) in self.0.iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            out.push_str(match choice {
                Choice::Field => "\"f:",
                Choice::Key => "\"k:",
                Choice::Value => "\"v:",
            });
            out.push_str(text);
            out.push_str("\":{");
            if node.member && !node.children.is_empty() {
                out.push_str("\".\":{},");
            }
            node.children.write_nodes(out);
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outline::Outline;
    use super::*;

    /// Reads a set, does something, and writes the outcome.
    fn with(sets: [&str; 2], operation: impl for<'a> Fn(&Set<'a>, &Set<'a>) -> Set<'a>) -> String {
        let outlines = sets.map(|text| Outline::of(text).unwrap());
        let sets = outlines.each_ref().map(|outline| Set::read(outline.root()).unwrap());
        let mut out = String::new();
        operation(&sets[0], &sets[1]).write(&mut out);
        out
    }

    const LEFT: &str = r#"{"f:a":{".":{},"f:x":{},"f:y":{}},"k:{\"name\":\"b\"}":{}}"#;
    const RIGHT: &str = r#"{"f:a":{"f:y":{},"f:z":{}},"f:c":{}}"#;

    #[test]
    fn sets_are_read_and_written_as_they_are() {
        assert_eq!(with([LEFT, RIGHT], |left, _| left.clone()), LEFT);
        for wrong in [r#"{"x:a":{}}"#, r#"{"a":{}}"#, "[]", r#"{"f:a":1}"#] {
            assert!(Set::read(Outline::of(wrong).unwrap().root()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn sets_are_joined_path_by_path() {
        let union = r#"{"f:a":{".":{},"f:x":{},"f:y":{},"f:z":{}},"f:c":{},"k:{\"name\":\"b\"}":{}}"#;
        assert_eq!(with([LEFT, RIGHT], |left, right| left.union(right)), union);
        assert_eq!(with([LEFT, RIGHT], |left, right| left.intersection(right)), r#"{"f:a":{"f:y":{}}}"#);
        assert_eq!(with([LEFT, RIGHT], |left, right| left.difference(right)), r#"{"f:a":{".":{},"f:x":{}},"k:{\"name\":\"b\"}":{}}"#);
    }

    #[test]
    fn in_place_is_the_same_as_anew() {
        for right in [LEFT, RIGHT, "{}", r#"{"f:a":{}}"#, r#"{"f:a":{"f:x":{}}}"#, r#"{"k:{\"name\":\"b\"}":{}}"#] {
            let changed = |change: for<'a, 'b> fn(&mut Set<'a>, &Set<'b>)| {
                with([LEFT, right], move |left, right| {
                    let mut left = left.clone();
                    change(&mut left, right);
                    left
                })
            };
            assert_eq!(changed(|left, right| left.subtract(right)), with([LEFT, right], |left, right| left.difference(right)), "{right}");
            assert_eq!(changed(|left, right| left.leave_out(right)), with([LEFT, right], |left, right| left.outside(right)), "{right}");
        }
    }

    #[test]
    fn a_set_is_within_another_if_that_has_all_its_paths() {
        let within = |left: &str, right: &str| {
            let outlines = [left, right].map(|text| Outline::of(text).unwrap());
            let sets = outlines.each_ref().map(|outline| Set::read(outline.root()).unwrap());
            sets[0].is_within(&sets[1])
        };
        for (left, right, expected) in [
            ("{}", LEFT, true),
            (LEFT, LEFT, true),
            (r#"{"f:a":{"f:y":{}}}"#, LEFT, true),
            (r#"{"f:a":{"f:y":{}}}"#, RIGHT, true),
            (LEFT, RIGHT, false),
            (r#"{"f:a":{}}"#, RIGHT, false),
            (r#"{"f:b":{}}"#, LEFT, false),
            (r#"{"k:{\"name\":\"b\"}":{"f:x":{}}}"#, LEFT, false),
            (LEFT, "{}", false),
        ] {
            assert_eq!(within(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn a_path_is_removed_alone_or_with_all_below() {
        let top = r#"{"f:a":{}}"#;
        assert_eq!(with([LEFT, top], |left, top| left.difference(top)), r#"{"f:a":{"f:x":{},"f:y":{}},"k:{\"name\":\"b\"}":{}}"#);
        assert_eq!(with([LEFT, top], |left, top| left.outside(top)), r#"{"k:{\"name\":\"b\"}":{}}"#);
    }

    #[test]
    fn paths_are_shown_as_upstream_shows_them() {
        let text = r#"{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}},"f:a":{},"f:finalizers":{"v:\"x\"":{}}}}"#;
        let outline = Outline::of(text).unwrap();
        assert_eq!(
            Set::read(outline.root()).unwrap().paths(),
            [".spec.a", ".spec.finalizers[=\"x\"]", ".spec.ports[port=80,protocol=\"TCP\"]", ".spec.ports[port=80,protocol=\"TCP\"].name"]
        );
    }
}
