//! Between objects and what is stored: drafts, documents, and the second view that some objects have.

use std::sync::OnceLock;

use bytes::Bytes;
use kinds::{Object, Resource};
use store::Draft;

use crate::error::ApiError;
use crate::{random, views};

/// Stands where the resource version belongs while an object is encoded. Nobody outside ever sees it, so no client can put
/// the same text somewhere else.
fn placeholder() -> &'static str {
    static PLACEHOLDER: OnceLock<String> = OnceLock::new();
    PLACEHOLDER.get_or_init(|| random::hex(&random::bytes::<16>()))
}

/// The object as it is stored, with the gap for its resource version.
pub fn draft(resource: &Resource, object: &dyn Object) -> Draft {
    let mut object = views::to_stored(resource, object);
    object.meta_mut().resource_version = Some(placeholder().to_owned());
    object.meta_mut().managed_fields = None;
    let mut json = object.to_json();
    let gap = json
        .windows(placeholder().len())
        .position(|window| window == placeholder().as_bytes())
        .expect("the metadata of every kind carries the resource version");
    json.drain(gap..gap + placeholder().len());
    Draft::new(json, gap)
}

/// The object in stored JSON, as the resource's own kind.
pub fn read(resource: &Resource, json: &[u8]) -> Result<Box<dyn Object>, ApiError> {
    let object = (resource.stored().codec.from_json)(json)
        .map_err(|error| ApiError::internal(format!("a stored {} does not decode: {error}", resource.kind)))?;
    Ok(views::from_stored(resource, object))
}

/// Stored JSON as a client of the resource sees it.
pub fn served(resource: &Resource, json: &Bytes) -> Result<Bytes, ApiError> {
    if std::ptr::eq(resource.stored(), resource) { Ok(json.clone()) } else { Ok(Bytes::from(read(resource, json)?.to_json())) }
}

#[cfg(test)]
mod tests {
    use kinds::registry;
    use store::Revision;

    use super::*;

    #[test]
    fn the_revision_is_written_into_the_metadata_whatever_else_the_object_says() {
        let resource = registry::find("", "v1", "configmaps").unwrap();
        let json = br#"{"metadata":{"name":"a","resourceVersion":"9","annotations":{"resourceVersion":""}},"data":{"x":"\"resourceVersion\":\"\""}}"#;
        let object = read(resource, json).unwrap();
        let document = draft(resource, &*object).at(Revision(42));
        let text = std::str::from_utf8(document.json()).unwrap();
        assert!(text.starts_with(r#"{"apiVersion":"v1","kind":"ConfigMap","#), "{text}");
        let back = read(resource, document.json()).unwrap();
        assert_eq!(back.meta().resource_version.as_deref(), Some("42"));
        assert_eq!(back.meta().annotations, object.meta().annotations);
    }
}
