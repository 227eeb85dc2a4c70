//! What a request's line asks for.

use http::{HeaderMap, Method};
use kinds::Selector;

use super::{lines, resource};
use crate::list::Continue;
use crate::route::{self, Call, Route, Verb};
use crate::selection::{FieldSelector, Selection};

/// A request's line: `<method>\n<path>\n<query>\n<content type>`. What it names has no slash in it: so nothing else is reached.
pub fn request(input: &[u8]) {
    let [method, path, query, content_type] = lines(input);
    let Ok(method) = Method::from_bytes(method) else { return };
    let (Ok(path), Ok(query)) = (std::str::from_utf8(path), std::str::from_utf8(query)) else { return };
    let mut headers = HeaderMap::new();
    if let Ok(content_type) = http::HeaderValue::from_bytes(content_type) {
        headers.insert(http::header::CONTENT_TYPE, content_type);
    }
    let Ok(Route::Object(Call { resource, namespace, name, verb, .. })) = route::parse(&method, path, query, &headers) else { return };
    for part in [&namespace, &name] {
        assert!(!part.contains('/'), "{part:?} reaches beyond {}", resource.plural);
        assert!(part != "." && part != "..", "{part:?} is no name");
    }
    if let Verb::List(options) | Verb::Watch(options) = verb {
        let selection = Selection::new(options.labels, options.fields);
        let _ = selection.selects(resource, &format!("/{}/default/a", resource.storage), OBJECT);
        if let Some(token) = options.continue_token {
            continue_token(token.as_bytes());
        }
    }
}

const OBJECT: &[u8] = br#"{"metadata":{"name":"a","labels":{"app":"redis","n":"5"}},"spec":{"nodeName":"x"},"status":{"phase":"Running"}}"#;

/// A field selector: `<plural>\n<selector>`.
pub fn field_selector(input: &[u8]) {
    let [plural, text] = lines(input);
    let (Ok(text), resource) = (std::str::from_utf8(text), resource(plural)) else { return };
    let Ok(fields) = FieldSelector::parse(text, resource) else { return };
    let _ = (fields.name(), fields.namespace());
    let _ = Selection::new(Selector::default(), fields).selects(resource, &format!("/{}/default/a", resource.storage), OBJECT);
}

/// A continue token that is taken is one that this server could have given.
pub fn continue_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(token) = Continue::decoded(text) else { return };
    let again = Continue::decoded(&Continue::encoded(token.revision, &token.start));
    assert_eq!(again.ok(), Some(token));
}
