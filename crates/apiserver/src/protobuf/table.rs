//! The messages: which field has which number.
//!
//! `data/protobuf.tsv` has a line for each message: its name, then `number:field:type` for each field. Types are `s` text, `b`
//! bytes, `i` integer, `t` truth value, `m=<message>`, each also as `list-` or `map-`. A field without a name is spread into the
//! message around it. Zero values mean "not set" except where a question mark says that they are told on purpose.

use std::collections::HashMap;
use std::sync::OnceLock;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// In JSON: Base64.
    Bytes,
    Integer,
    Bool,
    /// In JSON: text with so many digits of a second.
    Time(usize),
    /// In JSON: text.
    Quantity,
    /// In JSON: either.
    IntOrText,
    /// JSON text.
    Raw,
    /// In JSON: a list of texts.
    Texts,
    Message(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    One,
    List,
    Map,
}

#[derive(Debug)]
pub struct Field {
    pub number: u64,
    pub name: &'static str,
    pub kind: Kind,
    pub arity: Arity,
    /// Whether a zero value is meant.
    pub keeps_zero: bool,
}

/// The fields of a message.
#[derive(Debug)]
pub struct Message(pub Vec<Field>);

impl Message {
    pub fn numbered(&self, number: u64) -> Option<&Field> {
        self.0.iter().find(|field| field.number == number)
    }

    /// The field of a name, and the fields it is inside of, which are spread into this message; innermost first.
    pub fn named(&self, name: &str) -> Option<(Vec<u64>, &Field)> {
        let own = self.0.iter().find(|field| field.name == name && !name.is_empty());
        own.map(|field| (Vec::new(), field)).or_else(|| self.0.iter().find_map(|field| field.spread(name)))
    }
}

impl Field {
    fn spread(&self, name: &str) -> Option<(Vec<u64>, &'static Field)> {
        let Kind::Message(message) = self.kind else { return None };
        let inner = self.name.is_empty().then(|| self::message(message))??;
        let (mut outer, field) = inner.named(name)?;
        outer.push(self.number);
        Some((outer, field))
    }
}

type Messages = HashMap<&'static str, Message>;

fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| include_str!("../../data/protobuf.tsv").lines().filter_map(parse_message).collect())
}

/// The message of a name such as `api.core.v1.Pod`.
pub fn message(name: &str) -> Option<&'static Message> {
    messages().get(name)
}

/// The names of all messages.
#[cfg(test)]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = messages().keys().copied().collect();
    names.sort_unstable();
    names
}

/// The name of the message of a kind that no resource stands for, such as `DeleteOptions`.
pub fn name_of(kind: &str) -> Option<&'static str> {
    messages().keys().copied().find(|name| name.rsplit('.').next() == Some(kind))
}

fn parse_message(line: &'static str) -> Option<(&'static str, Message)> {
    let mut parts = line.split('\t');
    Some((parts.next()?, Message(parts.filter_map(parse_field).collect())))
}

fn parse_field(text: &'static str) -> Option<Field> {
    let mut parts = text.splitn(3, ':');
    let (number, name, kind) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let keeps_zero = kind.ends_with('?');
    let kind = kind.trim_end_matches('?');
    let (arity, kind) = match kind.split_once('-') {
        Some(("list", kind)) => (Arity::List, kind),
        Some(("map", kind)) => (Arity::Map, kind),
        _ => (Arity::One, kind),
    };
    Some(Field { number, name, kind: parse_kind(kind)?, arity, keeps_zero })
}

fn parse_kind(text: &'static str) -> Option<Kind> {
    Some(match text {
        "s" => Kind::Text,
        "b" => Kind::Bytes,
        "i" => Kind::Integer,
        "t" => Kind::Bool,
        message => {
            let name = message.strip_prefix("m=")?;
            match name.rsplit('.').next()? {
                "Time" => Kind::Time(0),
                "MicroTime" => Kind::Time(6),
                "Quantity" => Kind::Quantity,
                "IntOrString" => Kind::IntOrText,
                "RawExtension" | "FieldsV1" => Kind::Raw,
                "ExtraValue" => Kind::Texts,
                _ => Kind::Message(name),
            }
        }
    })
}
