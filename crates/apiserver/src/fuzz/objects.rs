//! Bodies of requests, in their three formats.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use kinds::{Object, Resource};
use serde_json::Value;

use super::{is_exact, lines, resource};
use crate::decode::{self, Decoded};
use crate::media::Presentation;
use crate::present::{self, Form};
use crate::protobuf;
use crate::query::{FieldValidation, Query};
use crate::strategy::{self, metadata};

/// Reads a body in JSON: `<plural>\n<JSON>`. What is read is written as it is read again, also by way of protobuf, and can be
/// defaulted, validated and shown.
pub fn json(input: &[u8]) {
    let [plural, body] = lines(input);
    let resource = resource(plural);
    if let Ok(Decoded { object, warnings }) = decode::json(resource, body, FieldValidation::Warn) {
        assert!(warnings.len() <= 100, "{} warnings", warnings.len());
        check(resource, &*object);
    }
    let _ = decode::json(resource, body, FieldValidation::Strict);
}

/// Reads a body in YAML: `<plural>\n<YAML>`.
pub fn yaml(input: &[u8]) {
    let [plural, body] = lines(input);
    let resource = resource(plural);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/yaml"));
    if let Ok(Decoded { object, .. }) = decode::body(resource, &headers, body, FieldValidation::Warn) {
        check(resource, &*object);
    }
    if let Ok(decode::Read { text, bad_quantity, .. }) = decode::configuration(resource, body, FieldValidation::Warn) {
        let text = text.text();
        let tree = serde_json::from_str::<Value>(text).unwrap_or_default();
        assert!(tree.is_object(), "{text}");
        assert_eq!(tree.to_string(), text);
        // With spaces it is read in another way.
        let spaced = format!("{tree:#}");
        match decode::configuration(resource, spaced.as_bytes(), FieldValidation::Warn) {
            Ok(again) => assert_eq!((again.text.text(), again.bad_quantity), (text, bad_quantity), "{spaced}"),
            Err(error) => panic!("{error}: {spaced}"),
        }
        // No alias makes much of little.
        let (length, most) = (text.len(), 1 << 24);
        assert!(length <= most, "{length} bytes of {}", body.len());
    }
}

/// Reads a body in protobuf: `<plural>\n<protobuf>`.
pub fn protobuf(input: &[u8]) {
    let [plural, body] = lines(input);
    let resource = resource(plural);
    let Some(name) = resource.codec.schema_name.strip_prefix("io.k8s.") else { return };
    let Ok(text) = protobuf::to_json(name, body) else { return };
    assert!(serde_json::from_slice::<Value>(&text).is_ok_and(|value| value.is_object()), "{}", String::from_utf8_lossy(&text));
    if let Ok(Decoded { object, .. }) = decode::json(resource, &text, FieldValidation::Ignore) {
        check(resource, &*object);
    }
}

/// A body in protobuf for [`protobuf`], of one in JSON for [`json`]; none if it has no such form.
pub fn protobuf_of(input: &[u8]) -> Option<Vec<u8>> {
    let [plural, body] = lines(input);
    let object = decode::json(resource(plural), body, FieldValidation::Ignore).ok()?.object;
    let encoded = protobuf::from_json(&object.to_json()).ok()??;
    Some([plural, b"\n", &encoded].concat())
}

fn check(resource: &'static Resource, object: &dyn Object) {
    let value = object.to_value();
    if !is_exact(&value) {
        return;
    }
    let again = decode::json(resource, &object.to_json(), FieldValidation::Strict);
    let again = again.unwrap_or_else(|error| panic!("{value} is not read as it was written: {error}")).object;
    assert_eq!(again.to_value(), value);
    if protobuf::is_known(resource) {
        check_protobuf(resource, object);
    }
    check_rules(resource, object);
    let form = Form::new(Presentation::Table { version: "v1" }, &Query::default());
    let _ = present::object(resource, &Bytes::from(object.to_json()), form, true);
}

/// What goes through protobuf comes back, but for what means "nothing" there; and goes through again unchanged.
fn check_protobuf(resource: &'static Resource, object: &dyn Object) {
    let there_and_back = |object: &dyn Object| {
        let text = object.to_json();
        // An account of fields is JSON text that its author wrote, which need not be any.
        let bytes = protobuf::from_json(&text).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(&text)))?;
        let name = resource.codec.schema_name.strip_prefix("io.k8s.")?;
        let text = protobuf::to_json(name, &bytes).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(&text)));
        Some(decode::json(resource, &text, FieldValidation::Ignore).unwrap_or_else(|error| panic!("{error}")).object)
    };
    let Some(once) = there_and_back(object) else { return };
    assert_eq!(something(once.to_value()), something(object.to_value()));
    let twice = there_and_back(&*once).map(|twice| twice.to_value());
    assert_eq!(twice, Some(once.to_value()));
}

/// Without what protobuf can't tell from nothing.
fn something(value: Value) -> Value {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    match value {
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, something(value))).filter(|(_, value)| !is_nothing(value)).collect()
        }
        Value::Array(items) => items.into_iter().map(something).collect(),
        other => other,
    }
}

/// Goes the way of a create and of an update, which may refuse it. Defaults are filled in once and for all.
fn check_rules(resource: &'static Resource, object: &dyn Object) {
    let rules = strategy::of(resource);
    let mut new = object.clone_object();
    rules.default(&mut *new);
    let defaulted = new.to_value();
    rules.default(&mut *new);
    assert_eq!(new.to_value(), defaulted, "defaults come to more the second time");
    rules.prepare_create(&mut *new);
    let _ = metadata::validate_create(new.meta(), resource, rules);
    let _ = rules.validate(&*new);
    let _ = (rules.warnings(&*new), rules.grace_period_seconds(&*new));
    let old = new.clone_object();
    rules.prepare_update(&mut *new, &*old);
    metadata::restore(new.meta_mut(), old.meta());
    assert!(!rules.spec_changed(&*new, &*old), "an update that changes nothing is one of the specification");
    let _ = metadata::validate_update(new.meta(), old.meta());
    let _ = rules.validate_update(&*new, &*old);
    let _ = rules.validate_status_update(&*new, &*old);
}
