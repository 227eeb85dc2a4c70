//! Which objects of a collection are meant: label and field selectors over stored JSON, read without decoding the whole object.

use std::collections::BTreeMap;

use kinds::registry::SelectableField;
use kinds::{Resource, Selector};
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;
use crate::keys;

/// A conjunction of requirements on fields.
#[derive(Clone, Debug, Default)]
pub struct FieldSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug)]
struct Requirement {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Namespace,
    Stored(&'static SelectableField),
}

impl FieldSelector {
    /// Reads `a=b,c!=d` for one resource.
    pub fn parse(text: &str, resource: &'static Resource) -> Result<Self, ApiError> {
        let terms = split_terms(text).into_iter().filter(|term| !term.is_empty());
        let requirements = terms.map(|term| requirement(&term, text, resource)).collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }

    /// The one name that can be selected, if the selector asks for one.
    pub fn name(&self) -> Option<&str> {
        self.required(|field| matches!(field, Field::Name))
    }

    /// The one namespace that can be selected, if the selector asks for one.
    pub fn namespace(&self) -> Option<&str> {
        self.required(|field| matches!(field, Field::Namespace))
    }

    /// The one value that a field can have, if the selector asks for one.
    pub fn exactly(&self, name: &str) -> Option<&str> {
        self.required(|field| matches!(field, Field::Stored(stored) if stored.name == name))
    }

    fn required(&self, wanted: impl Fn(&Field) -> bool) -> Option<&str> {
        self.requirements.iter().find(|one| one.equal && wanted(&one.field)).map(|one| one.value.as_str())
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

/// Splits at commas; a backslash protects the character behind it.
fn split_terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let Some(last) = terms.last_mut() else { break };
        match character {
            ',' => terms.push(String::new()),
            '\\' => last.extend(characters.next()),
            other => last.push(other),
        }
    }
    terms
}

fn requirement(term: &str, text: &str, resource: &'static Resource) -> Result<Requirement, ApiError> {
    let split = term.split_once("!=").map(|(field, value)| (field, value, false));
    let split = split.or_else(|| term.split_once("==").or_else(|| term.split_once('=')).map(|(field, value)| (field, value, true)));
    let Some((name, value, equal)) = split else {
        return Err(ApiError::bad_request(format!("invalid selector: {text:?}; can't understand {term:?}")));
    };
    let field = match name {
        "metadata.name" => Field::Name,
        "metadata.namespace" if resource.is_namespaced() => Field::Namespace,
        name => match resource.fields.iter().find(|field| field.name == name) {
            Some(field) => Field::Stored(field),
            None => return Err(ApiError::bad_request(unsupported(name, resource))),
        },
    };
    Ok(Requirement { field, value: value.to_owned(), equal })
}

fn unsupported(name: &str, resource: &Resource) -> String {
    if resource.fields.is_empty() {
        return format!("{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
    }
    format!("field label not supported: {name}")
}

/// What a request selects within its collection.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    labels: Selector,
    fields: FieldSelector,
}

impl Selection {
    /// Objects that both selectors select.
    pub fn new(labels: Selector, fields: FieldSelector) -> Self {
        Self { labels, fields }
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it selects the object with this key and this JSON.
    pub fn selects(&self, resource: &Resource, key: &str, json: &[u8]) -> bool {
        self.fits_key(resource, key) && (!self.looks_inside() || self.fits_document(json))
    }

    fn fits_key(&self, resource: &Resource, key: &str) -> bool {
        let key = keys::parse(resource, key);
        self.fields.requirements.iter().all(|one| match one.field {
            Field::Name => (key.name == one.value) == one.equal,
            Field::Namespace => (key.namespace == one.value) == one.equal,
            Field::Stored(_) => true,
        })
    }

    fn looks_inside(&self) -> bool {
        !self.labels.is_empty() || self.fields.requirements.iter().any(|one| matches!(one.field, Field::Stored(_)))
    }

    fn fits_document(&self, json: &[u8]) -> bool {
        if !self.labels.is_empty() {
            let labelled = serde_json::from_slice::<Labelled>(json);
            if !labelled.is_ok_and(|object| self.labels.matches(object.metadata.labels.as_ref())) {
                return false;
            }
        }
        let stored = self.fields.requirements.iter().filter_map(|one| match one.field {
            Field::Stored(field) => Some((field, one)),
            _ => None,
        });
        let mut value = None;
        for (field, one) in stored {
            let value = value.get_or_insert_with(|| serde_json::from_slice::<Value>(json).unwrap_or_default());
            if (field_text(value, field) == one.value) != one.equal {
                return false;
            }
        }
        true
    }
}

#[derive(Deserialize)]
struct Labelled {
    metadata: Labels,
}

#[derive(Deserialize)]
struct Labels {
    labels: Option<BTreeMap<String, String>>,
}

fn field_text(object: &Value, field: &SelectableField) -> String {
    let found = field.places.iter().find_map(|place| {
        let value = place.iter().try_fold(object, |value, &key| value.get(key))?;
        match value {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            _ => None,
        }
    });
    found.unwrap_or_else(|| field.absent.to_owned())
}

#[cfg(test)]
mod tests {
    use kinds::registry;

    use super::*;

    fn selects(plural: &str, fields: &str, labels: &str, key: &str, json: &str) -> bool {
        let resource = registry::find("", "v1", plural).unwrap();
        let fields = FieldSelector::parse(fields, resource).unwrap();
        Selection::new(Selector::parse(labels).unwrap(), fields).selects(resource, key, json.as_bytes())
    }

    #[test]
    fn fields_are_compared_with_their_defaults() {
        let pod = r#"{"metadata":{"labels":{"app":"redis"}},"spec":{"nodeName":"n1"}}"#;
        for (fields, expected) in [
            ("spec.nodeName=n1", true),
            ("spec.nodeName==n1,metadata.name=web-0", true),
            ("spec.nodeName!=n1", false),
            ("status.phase=", true),
            ("spec.hostNetwork=false", true),
            ("metadata.namespace=other", false),
            ("metadata.namespace!=other", true),
        ] {
            assert_eq!(selects("pods", fields, "app=redis", "/pods/default/web-0", pod), expected, "{fields}");
        }
        assert!(!selects("pods", "", "app=mysql", "/pods/default/web-0", pod));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let pods = registry::find("", "v1", "pods").unwrap();
        assert_eq!(FieldSelector::parse("spec.foo=1", pods).unwrap_err().to_string(), "field label not supported: spec.foo");
        assert!(FieldSelector::parse("nonsense", pods).is_err());
    }
}
