//! Compact JSON text, taken apart without copying it: where each value begins and ends. Two states of an object are compared
//! by their texts, so what is the same costs no more than its bytes.

use std::borrow::Cow;

use kinds::quoted;

/// Levels of nesting at most; the readers in front of this one allow fewer.
const MAX_DEPTH: usize = 200;
/// Levels of nesting that every reader of JSON in this program goes down, and more than any served type has.
const MAX_CANONICAL_DEPTH: usize = 100;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    List,
    Null,
    /// Text, a number or a truth value.
    Scalar,
}

#[derive(Clone, Copy, Debug)]
pub struct Node {
    kind: Kind,
    key: (u32, u32),
    text: (u32, u32),
    /// The node behind this one and all it holds.
    next: u32,
}

/// The places of all values of a text.
#[derive(Debug)]
pub struct Outline<'a> {
    text: &'a str,
    nodes: Cow<'a, [Node]>,
}

/// A text with the places of its values, for who looks at it again and again.
#[derive(Debug)]
pub struct Outlined {
    text: String,
    nodes: Vec<Node>,
}

/// A value in a text.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a> {
    text: &'a str,
    nodes: &'a [Node],
    at: usize,
}

impl<'a> Outline<'a> {
    /// Takes a text apart; `None` when it is no JSON, has spaces between its values, or is larger than 4 GiB.
    pub fn of(text: &'a str) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let mut reader = Reader { bytes: text.as_bytes(), at: 0, nodes: Vec::with_capacity(text.len() / 24 + 1) };
        reader.value((0, 0), 0)?;
        (reader.at == text.len()).then_some(Self { text, nodes: Cow::Owned(reader.nodes) })
    }

    /// Whether the text is how its tree would be written: keys sorted and no two the same, whole numbers, nothing escaped, and not
    /// deeper than any reader of JSON goes. False may be said of some such texts, too.
    pub fn is_canonical(&self) -> bool {
        let plain = |byte: u8| byte >= b' ' && byte != b'\\';
        self.text.bytes().all(plain) && self.root().is_canonical(MAX_CANONICAL_DEPTH)
    }

    /// The same with a text of its own.
    pub fn kept(self) -> Outlined {
        Outlined { text: self.text.to_owned(), nodes: self.nodes.into_owned() }
    }

    /// The whole.
    pub fn root(&self) -> Json<'_> {
        Json { text: self.text, nodes: &self.nodes, at: 0 }
    }
}

impl Outlined {
    /// Takes a text apart as [`Outline::of`] does.
    pub fn of(text: String) -> Option<Self> {
        let nodes = Outline::of(&text)?.nodes.into_owned();
        Some(Self { text, nodes })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn outline(&self) -> Outline<'_> {
        Outline { text: &self.text, nodes: Cow::Borrowed(&self.nodes) }
    }
}

impl<'a> Json<'a> {
    pub fn kind(self) -> Kind {
        self.nodes[self.at].kind
    }

    /// The value's text.
    pub fn raw(self) -> &'a str {
        self.slice(self.nodes[self.at].text)
    }

    /// What stands between the quotes, escapes as they are; `None` for anything but a text.
    pub fn quoted(self) -> Option<&'a str> {
        self.raw().strip_prefix('"')?.strip_suffix('"')
    }

    fn is_canonical(self, depth: usize) -> bool {
        let raw = self.raw();
        match self.kind() {
            Kind::Null => raw == "null",
            Kind::Scalar => raw.starts_with('"') || matches!(raw, "true" | "false") || is_whole_number(raw),
            Kind::List => depth > 0 && self.children().all(|(_, item)| item.is_canonical(depth - 1)),
            Kind::Object => {
                let mut last = None;
                let mut follows = |key| last.replace(key).is_none_or(|last| last < key);
                depth > 0 && self.children().all(|(key, value)| follows(key) && value.is_canonical(depth - 1))
            }
        }
    }

    /// Whether it says nothing: null, or a list or object of nothing.
    pub fn is_hollow(self) -> bool {
        match self.kind() {
            Kind::Null => true,
            Kind::Object | Kind::List => self.raw().len() == 2,
            Kind::Scalar => false,
        }
    }

    /// What an object or a list holds, in order. Keys are as they stand in the text; those of a list are empty.
    pub fn children(self) -> impl Iterator<Item = (&'a str, Json<'a>)> {
        let end = self.nodes[self.at].next as usize;
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let node = self.nodes[..end].get(at)?;
            let child = (self.slice(node.key), Json { at, ..self });
            at = node.next as usize;
            Some(child)
        })
    }

    /// A field of an object.
    pub fn get(self, key: &str) -> Option<Json<'a>> {
        self.children().find(|(own, _)| *own == key).map(|(_, value)| value)
    }

    fn slice(self, (from, to): (u32, u32)) -> &'a str {
        &self.text[from as usize..to as usize]
    }
}

/// Whether it is a number that is written in one way only.
fn is_whole_number(raw: &str) -> bool {
    /// So many digits fit into every kind of integer.
    const DIGITS: usize = 18;
    let digits = raw.strip_prefix('-').filter(|digits| *digits != "0").unwrap_or(raw);
    let leads = digits.len() == 1 || !digits.starts_with('0');
    (1..=DIGITS).contains(&digits.len()) && leads && digits.bytes().all(|byte| byte.is_ascii_digit())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
}

impl Reader<'_> {
    fn value(&mut self, key: (u32, u32), depth: usize) -> Option<()> {
        let (index, start) = (self.nodes.len(), self.at as u32);
        let kind = match self.bytes.get(self.at)? {
            b'{' => Kind::Object,
            b'[' => Kind::List,
            b'n' => Kind::Null,
            _ => Kind::Scalar,
        };
        self.nodes.push(Node { kind, key, text: (start, start), next: 0 });
        match kind {
            Kind::Object => self.inside(b'}', depth)?,
            Kind::List => self.inside(b']', depth)?,
            Kind::Null | Kind::Scalar => self.scalar()?,
        }
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[index];
        (node.text.1, node.next) = (self.at as u32, next);
        Some(())
    }

    fn inside(&mut self, close: u8, depth: usize) -> Option<()> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.at += 1;
        if *self.bytes.get(self.at)? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            let key = if close == b'}' { self.key()? } else { (0, 0) };
            self.value(key, depth + 1)?;
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b',' => {}
                byte => return (byte == close).then_some(()),
            }
        }
    }

    fn key(&mut self) -> Option<(u32, u32)> {
        let start = self.at as u32 + 1;
        self.string()?;
        let end = self.at as u32 - 1;
        let colon = *self.bytes.get(self.at)? == b':';
        self.at += 1;
        colon.then_some((start, end))
    }

    fn string(&mut self) -> Option<()> {
        if *self.bytes.get(self.at)? != b'"' {
            return None;
        }
        self.at = quoted::end(self.bytes, self.at + 1)?;
        Some(())
    }

    fn scalar(&mut self) -> Option<()> {
        if self.bytes[self.at] == b'"' {
            return self.string();
        }
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_with_their_keys_and_texts() {
        let text = r#"{"a":{"x":[1,"two\"",null,true]},"b":{},"c":-1.5e3}"#;
        let outline = Outline::of(text).unwrap();
        let root = outline.root();
        let children: Vec<_> = root.children().map(|(key, value)| (key, value.raw())).collect();
        assert_eq!(children, [("a", r#"{"x":[1,"two\"",null,true]}"#), ("b", "{}"), ("c", "-1.5e3")]);
        let list = root.get("a").unwrap().get("x").unwrap();
        assert_eq!(list.children().map(|(_, item)| item.raw()).collect::<Vec<_>>(), ["1", r#""two\"""#, "null", "true"]);
        assert!(root.get("b").unwrap().is_hollow() && !list.is_hollow());
    }

    #[test]
    fn what_is_no_compact_json_is_refused() {
        for text in ["", "{", "[1", "{\"a\"}", "{\"a\": 1}", "[1,]", "nonsense{", "\"open", "\"open\\", "[]]", &"[".repeat(100_000)] {
            assert!(Outline::of(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_text_is_canonical_if_its_tree_is_written_so() {
        let texts = [
            r#"{"a":1,"b":[{"c":"é","d":null},true,-12,0],"c":{},"d":[],"e":999999999999999999}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":-0}"#,
            r#"{"a":01}"#,
            r#"{"a":"\u0061"}"#,
            r#"{"a":99999999999999999999}"#,
            r#"{"a":nul}"#,
            r#"{"a":tru}"#,
            "{\"a\":\"\t\"}",
            r#"{"a":-}"#,
        ];
        for (text, canonical) in texts.into_iter().zip([true].into_iter().chain(std::iter::repeat(false))) {
            assert_eq!(Outline::of(text).unwrap().is_canonical(), canonical, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_canonical_is_what_is_written(text in r#"\{"[ab]":(-?[0-9.]{1,3}|"[aé\\t]{0,2}"|null|\[\]),"[ab]":(\{"a":[0-9]\}|-0|1e2)\}"#) {
            if Outline::of(&text).is_some_and(|outline| outline.is_canonical()) {
                let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
                proptest::prop_assert_eq!(tree.to_string(), text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\",:a0\\\\]{0,40}") {
            let _ = Outline::of(&text).map(|outline| outline.root().children().count());
        }
    }
}
