//! Between objects and what is stored: drafts, documents, and the second view that some objects have.

use std::sync::OnceLock;

use bytes::Bytes;
use kinds::{Object, Resource, managed_fields};
use store::{Draft, Revision};

use crate::error::ApiError;
use crate::watching::LINE;
use crate::{random, views};

/// Stands where the resource version belongs while an object is encoded. Nobody outside ever sees it, so no client can put
/// the same text somewhere else.
fn placeholder() -> &'static str {
    static PLACEHOLDER: OnceLock<String> = OnceLock::new();
    PLACEHOLDER.get_or_init(|| random::hex(&random::bytes::<16>()))
}

/// An object as it is stored, without its resource version, and without the account of who owns what.
#[derive(Debug)]
pub struct Text {
    json: String,
    gap: usize,
}

impl Text {
    /// Encodes an object, whose resource version is lost.
    pub fn of(resource: &Resource, object: &mut dyn Object) -> Self {
        object.meta_mut().resource_version = Some(placeholder().to_owned());
        object.meta_mut().managed_fields = None;
        let json = if is_stored(resource) { object.to_json() } else { views::to_stored(resource, object).to_json() };
        let mut json = String::from_utf8(json).expect("JSON is UTF-8");
        let gap = json.find(placeholder()).expect("the metadata of every kind carries the resource version");
        json.replace_range(gap..gap + placeholder().len(), "");
        Self { json, gap }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.json
    }

    /// Whether this is what was stored at a revision.
    pub fn is(&self, stored: &str, revision: Revision) -> bool {
        let (before, behind) = self.json.split_at(self.gap);
        let behind_revision = stored.strip_prefix(before).and_then(|rest| rest.strip_prefix(revision.to_string().as_str()));
        behind_revision == Some(behind)
    }

    /// What is committed, with an account of who owns what; an empty one is left out.
    pub fn draft(&self, managed: &str) -> Draft {
        let (json, added) = managed_fields::join(&self.json, managed);
        Draft::new(json, self.gap + added).framed(LINE)
    }
}

/// Stored JSON taken apart: the object without the account of who owns what, and the account, empty if there is none.
pub fn split(json: &Bytes) -> (String, String) {
    let (text, managed) = managed_fields::split(std::str::from_utf8(json).unwrap_or_default());
    (text.into_owned(), managed.to_owned())
}

fn is_stored(resource: &Resource) -> bool {
    std::ptr::eq(resource.stored(), resource)
}

/// The object in stored JSON, as the resource's own kind.
pub fn read(resource: &Resource, json: &[u8]) -> Result<Box<dyn Object>, ApiError> {
    let object = (resource.stored().codec.from_json)(json)
        .map_err(|error| ApiError::internal(format!("a stored {} does not decode: {error}", resource.kind)))?;
    Ok(views::from_stored(resource, object))
}

/// Stored JSON as a client of the resource sees it.
pub fn served(resource: &Resource, json: &Bytes) -> Result<Bytes, ApiError> {
    if is_stored(resource) { Ok(json.clone()) } else { Ok(Bytes::from(read(resource, json)?.to_json())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinds::registry;

    #[test]
    fn the_revision_is_written_into_the_metadata_whatever_else_the_object_says() {
        let resource = registry::find("", "v1", "configmaps").unwrap();
        let json = br#"{"metadata":{"name":"a","resourceVersion":"9","annotations":{"resourceVersion":""}},"data":{"x":"\"resourceVersion\":\"\""}}"#;
        let mut object = read(resource, json).unwrap();
        let document = Text::of(resource, &mut *object).draft("").at(Revision(42));
        let text = std::str::from_utf8(document.json()).unwrap();
        assert!(text.starts_with(r#"{"apiVersion":"v1","kind":"ConfigMap","#), "{text}");
        let back = read(resource, document.json()).unwrap();
        assert_eq!(back.meta().resource_version.as_deref(), Some("42"));
        assert_eq!(back.meta().annotations, object.meta().annotations);
    }

    #[test]
    fn the_account_of_who_owns_what_is_put_in_and_taken_out_again() {
        let resource = registry::find("", "v1", "configmaps").unwrap();
        let json = br#"{"metadata":{"name":"a","annotations":{"managedFields":"[]"}},"data":{"x":"\"managedFields\":[1]"}}"#;
        let text = Text::of(resource, &mut *read(resource, json).unwrap());
        for managed in ["", r#"[{"manager":"a ] \\\" }","fieldsV1":{"f:data":{}}}]"#] {
            let stored = text.draft(managed).at(Revision(7));
            assert_eq!(stored.revision(), Revision(7));
            let (plain, found) = split(stored.json());
            assert_eq!(found, managed);
            assert!(text.is(&plain, Revision(7)) && !text.is(&plain, Revision(8)), "{plain}");
        }
    }
}
