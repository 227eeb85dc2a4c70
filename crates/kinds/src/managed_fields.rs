//! Where `metadata.managedFields` stands in an object's JSON text: the account of who owns which field. It is as large as the
//! rest of the object and rarely read, so it is cut out before the text is decoded.

use std::borrow::Cow;

use crate::quoted;

/// What stands before the fields of an object's metadata.
const METADATA: &str = "\"metadata\":{";
/// What stands before the account. It is the first thing in the metadata of an object that we store.
const ACCOUNT: &str = "\"managedFields\":";

/// The object without its account, and the account: a JSON list, empty if there is none at the place where we write it.
pub fn split(object: &str) -> (Cow<'_, str>, &str) {
    let found = place(object).map(|place| object.split_at(place));
    let account = found.and_then(|(before, rest)| Some((before, rest.strip_prefix(ACCOUNT)?)));
    let Some((before, rest)) = account else { return (Cow::Borrowed(object), "") };
    let (account, behind) = rest.split_at(end(rest));
    (Cow::Owned([before, behind.strip_prefix(',').unwrap_or(behind)].concat()), account)
}

/// Where an account belongs in an object's text; `None` in a text without metadata. Templates inside have metadata as well,
/// and may come first.
fn place(object: &str) -> Option<usize> {
    let found = Marks::of(object).find(|mark| mark.depth == 1 && mark.byte == b'"' && object[mark.at..].starts_with(METADATA));
    Some(found?.at + METADATA.len())
}

/// A text that begins with an object's metadata without the account; `None` in a text without metadata.
pub fn rest_of_metadata(object: &str) -> Option<Cow<'_, str>> {
    let place = place(object)?;
    let Some(account) = object[place..].strip_prefix(ACCOUNT) else { return Some(Cow::Borrowed(&object[place - 1..])) };
    let behind = &account[end(account)..];
    Some(Cow::Owned(["{", behind.strip_prefix(',').unwrap_or(behind)].concat()))
}

/// The text of an object's metadata; `None` in a text without.
pub fn metadata(object: &str) -> Option<&str> {
    let metadata = &object[place(object)? - 1..];
    Some(&metadata[..end(metadata)])
}

/// The object with an account, and how many bytes came in; both unchanged if the account is empty.
pub fn join(object: &str, account: &str) -> (String, usize) {
    match place(object) {
        Some(place) if !account.is_empty() => {
            let (before, behind) = object.split_at(place);
            ([before, ACCOUNT, account, ",", behind].concat(), ACCOUNT.len() + account.len() + 1)
        }
        _ => (object.to_owned(), 0),
    }
}

/// Where a list or an object that begins a JSON text ends.
fn end(text: &str) -> usize {
    Marks::of(text).find(|mark| mark.depth == 0).map_or(text.len(), |mark| mark.at + 1)
}

/// A byte of a JSON text that gives it its shape: where an object or a list begins or ends, or a quoted text begins.
struct Mark {
    at: usize,
    byte: u8,
    /// How deep in objects and lists one is behind it.
    depth: usize,
}

/// The marks of a text, in order. What is quoted is skipped.
struct Marks<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Marks<'a> {
    fn of(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0, depth: 0 }
    }
}

impl Iterator for Marks<'_> {
    type Item = Mark;

    fn next(&mut self) -> Option<Mark> {
        let is_mark = |byte: &u8| matches!(byte, b'"' | b'[' | b'{' | b']' | b'}');
        let at = self.at + self.bytes.get(self.at..)?.iter().position(is_mark)?;
        let byte = self.bytes[at];
        match byte {
            b'"' => self.at = quoted::end(self.bytes, at + 1).unwrap_or(self.bytes.len()),
            b'[' | b'{' => (self.at, self.depth) = (at + 1, self.depth + 1),
            _ => (self.at, self.depth) = (at + 1, self.depth.saturating_sub(1)),
        }
        Some(Mark { at, byte, depth: self.depth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_found_with_and_without_its_account() {
        let object = r#"{"data":{"metadata":{"x":1}},"metadata":{"name":"a","labels":{"x":"}"}},"spec":{}}"#;
        let own = r#"{"name":"a","labels":{"x":"}"}}"#;
        let (with, _) = join(object, r#"[{"manager":"]"}]"#);
        for text in [object, &with] {
            assert!(rest_of_metadata(text).unwrap().starts_with(&format!("{own},\"spec\"")), "{text}");
        }
        assert_eq!((metadata(object), metadata("{}"), rest_of_metadata("{}")), (Some(own), None, None));
        assert!(metadata(&with).unwrap().ends_with(r#"],"name":"a","labels":{"x":"}"}}"#));
    }

    #[test]
    fn an_account_is_put_in_and_taken_out_again() {
        let object = r#"{"kind":"A","metadata":{"name":"a","annotations":{"x":"\"metadata\":{"}},"data":{"managedFields":[]}}"#;
        for account in [r#"[{"manager":"a ] \\\" }","fieldsV1":{"f:data":{}}}]"#, "[]"] {
            let (with, added) = join(object, account);
            assert_eq!(with.len(), object.len() + added);
            assert_eq!(split(&with), (Cow::Borrowed(object), account));
        }
        let revision = r#"{"data":{"metadata":{"labels":{}}},"kind":"A","metadata":{"name":"a"}}"#;
        let (with, _) = join(revision, "[1]");
        assert!(with.ends_with(r#""kind":"A","metadata":{"managedFields":[1],"name":"a"}}"#), "{with}");
        assert_eq!(split(&with), (Cow::Borrowed(revision), "[1]"));
        assert_eq!(join(object, ""), (object.to_owned(), 0));
        assert_eq!(split(object), (Cow::Borrowed(object), ""));
        assert_eq!((split("{}"), join("{}", "[]")), ((Cow::Borrowed("{}"), ""), ("{}".to_owned(), 0)));
    }
}
