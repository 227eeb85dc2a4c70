//! Where `metadata.managedFields` stands in an object's JSON text: the account of who owns which field. It is as large as the
//! rest of the object and rarely read, so it is cut out before the text is decoded.

use std::borrow::Cow;

/// What stands before the fields of an object's metadata.
const METADATA: &str = "\"metadata\":{";
/// What stands before the account. It is the first thing in the metadata of an object that we store.
const ACCOUNT: &str = "\"managedFields\":";

/// The object without its account, and the account: a JSON list, empty if there is none at the place where we write it.
pub fn split(object: &str) -> (Cow<'_, str>, &str) {
    let found = place(object).map(|place| object.split_at(place));
    let account = found.and_then(|(before, rest)| Some((before, rest.strip_prefix(ACCOUNT)?)));
    let Some((before, rest)) = account else { return (Cow::Borrowed(object), "") };
    let (account, behind) = rest.split_at(list_end(rest));
    (Cow::Owned([before, behind.strip_prefix(',').unwrap_or(behind)].concat()), account)
}

/// Where an account belongs in an object's text; `None` in a text without metadata. Templates inside have metadata as well,
/// and may come first.
fn place(object: &str) -> Option<usize> {
    let mut walk = Walk::default();
    for (at, byte) in object.bytes().enumerate() {
        if byte == b'"' && walk.depth == 1 && !walk.quoted && object[at..].starts_with(METADATA) {
            return Some(at + METADATA.len());
        }
        walk.step(byte);
    }
    None
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

/// Where a list that begins a JSON text ends.
fn list_end(text: &str) -> usize {
    let mut walk = Walk::default();
    let end = text.bytes().position(|byte| {
        walk.step(byte);
        walk.depth == 0
    });
    end.map_or(text.len(), |end| end + 1)
}

/// How deep in a JSON text one is.
#[derive(Default)]
struct Walk {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Walk {
    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            b'[' | b'{' if !self.quoted => self.depth += 1,
            b']' | b'}' if !self.quoted => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
