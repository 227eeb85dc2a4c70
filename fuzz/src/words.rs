//! Short texts with a meaning: quantities, selectors, the annotations of a set.

use std::collections::BTreeMap;

use kinds::Selector;
use kinds::extensions::Extensions;
use kinds::quantity::{self, Quantity};

/// A quantity. Its canonical text is the same quantity, and its own canonical text.
pub fn quantity(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (parsed, canonical) = (text.parse::<Quantity>(), quantity::canonical(text));
    assert_eq!(parsed.is_ok(), canonical.is_ok(), "{text:?}");
    let (Ok(parsed), Ok(canonical)) = (parsed, canonical) else { return };
    assert_eq!(canonical.parse(), Ok(parsed), "{text:?} becomes {canonical:?}");
    assert_eq!(quantity::canonical(&canonical).as_ref(), Ok(&canonical));
    let _ = (parsed + parsed, parsed.saturating_sub(parsed), parsed.value(), parsed.milli_value(), parsed.text(true), parsed.text(false));
}

/// The annotations of a set, each a line `name=value`, the name without its prefix.
pub fn annotations(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let annotations: BTreeMap<_, _> = pairs.map(|(name, value)| (format!("steadfast.dev/{name}"), value.to_owned())).collect();
    let (read, malformed) = Extensions::read(Some(&annotations));
    assert!(malformed.len() <= annotations.len());
    let kept: BTreeMap<_, _> = annotations.into_iter().filter(|(name, _)| malformed.iter().all(|one| one.annotation != name)).collect();
    assert_eq!(Extensions::read(Some(&kept)), (read, Vec::new()), "what is malformed counts as what is not there");
}

/// A label selector reads back from its own text, and selects the same.
pub fn label_selector(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(selector) = Selector::parse(text) else { return };
    let shown = selector.to_string();
    let again = Selector::parse(&shown).unwrap_or_else(|error| panic!("{text:?} becomes {shown:?}: {error}"));
    assert_eq!(again, selector, "{text:?} becomes {shown:?}");
    let labels: BTreeMap<_, _> = [("app", "redis"), ("n", "5"), ("a", "")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(again.matches(Some(&labels)), selector.matches(Some(&labels)));
    let _ = selector.matches(None);
}
