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

/// Where an account belongs in an object's text; `None` in a text without metadata.
fn place(object: &str) -> Option<usize> {
    object.find(METADATA).map(|at| at + METADATA.len())
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
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted && depth <= 1 => return at + 1,
            b']' | b'}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    text.len()
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
        assert_eq!(join(object, ""), (object.to_owned(), 0));
        assert_eq!(split(object), (Cow::Borrowed(object), ""));
        assert_eq!((split("{}"), join("{}", "[]")), ((Cow::Borrowed("{}"), ""), ("{}".to_owned(), 0)));
    }
}
