//! From a request's body to an object: format, type, unknown and repeated fields, in upstream's words.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use kinds::reviews::Review;
use kinds::{Object, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::apply::{Kind, Outline, Outlined};
use crate::error::ApiError;
use crate::protobuf;
use crate::query::FieldValidation;
use crate::route::{Call, Route, Verb};
use crate::strategy::shape;

mod mismatch;
mod scan;
mod yaml;

/// An object from outside, and what its author should know about it.
#[derive(Debug)]
pub struct Decoded {
    pub object: Box<dyn Object>,
    pub warnings: Vec<String>,
}

/// Reads a body as its content type says.
pub fn body(resource: &'static Resource, headers: &HeaderMap, body: &[u8], validation: FieldValidation) -> Result<Decoded, ApiError> {
    let message = || resource.codec.schema_name.strip_prefix("io.k8s.");
    json(resource, &as_json(message, headers, body)?, validation)
}

/// The body as JSON text, whatever format it came in; `message` names what it is in protobuf, if it can come in that.
fn as_json<'a>(message: impl Fn() -> Option<&'static str>, headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, ApiError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" | "*/*" => Ok(Cow::Borrowed(body)),
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml::to_json(body).map(Cow::Owned),
        protobuf::MEDIA_TYPE if message().is_some() => protobuf::to_json(message().unwrap_or_default(), body).map(Cow::Owned),
        other => Err(ApiError::UnsupportedMediaType {
            message: format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: application/json, \
                 application/yaml, application/vnd.kubernetes.protobuf"
            ),
        }),
    }
}

/// What was sent, as JSON: for the record, not for use. `None` where there is nothing, or nothing that can be told as JSON.
pub fn sent<'a>(route: &Route, headers: &HeaderMap, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let message = || match route {
        Route::Object(Call { resource, subresource: None, verb: Verb::Create(_) | Verb::Update(_), .. }) => {
            resource.codec.schema_name.strip_prefix("io.k8s.")
        }
        Route::Review { review, .. } => protobuf::name_of(review.kind),
        _ => None,
    };
    match content_type.split(';').next().unwrap_or_default().trim() {
        _ if body.is_empty() => None,
        "application/apply-patch+yaml" => yaml::to_json(body).ok().map(Cow::Owned),
        patch if patch.ends_with("-patch+json") => Some(Cow::Borrowed(body)),
        _ => as_json(message, headers, body).ok(),
    }
}

/// Reads JSON text as an object of the resource's kind.
pub fn json(resource: &'static Resource, json: &[u8], validation: FieldValidation) -> Result<Decoded, ApiError> {
    let scan = scan::scan(resource, json)
        .map_err(|error| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}")))?;
    check_type(resource, &scan)?;
    if let Some(wrong) = &scan.bad_quantity {
        return Err(cannot_be_handled(resource, wrong));
    }
    let warnings = match validation {
        FieldValidation::Strict if !scan.faults.is_empty() => {
            return Err(cannot_be_handled(resource, &format!("strict decoding error: {}", scan.faults.join(", "))));
        }
        FieldValidation::Ignore | FieldValidation::Strict => Vec::new(),
        FieldValidation::Warn => scan.faults,
    };
    let object =
        (resource.codec.from_json)(json).map_err(|error| cannot_be_handled(resource, &mismatch::explain(resource, json, &error)))?;
    Ok(Decoded { object, warnings })
}

/// A configuration that is to be applied.
pub struct Read {
    /// An object in JSON, as its tree is written.
    pub text: Outlined,
    pub warnings: Vec<String>,
    /// Why one of its quantities is none.
    pub bad_quantity: Option<String>,
}

/// Reads a configuration: JSON, or YAML, which JSON is. Fields that are there twice are told.
pub fn configuration(resource: &'static Resource, body: &[u8], validation: FieldValidation) -> Result<Read, ApiError> {
    let unreadable = |error: &dyn std::fmt::Display| ApiError::bad_request(format!("error decoding YAML: {error}"));
    let no_object = || unreadable(&"the configuration must be an object");
    if let Some(text) = canonical(body) {
        if text.root().kind() != Kind::Object {
            return Err(no_object());
        }
        let bad_quantity = scan::bad_quantity(text.root(), &shape::of(resource));
        return Ok(Read { text: text.kept(), warnings: Vec::new(), bad_quantity });
    }
    let (json, text) = rewritten(body).map_err(|error| unreadable(&error))?;
    if !text.starts_with('{') {
        return Err(no_object());
    }
    let text = Outlined::of(text).ok_or_else(|| ApiError::bad_request("the configuration is too large"))?;
    let scan = scan::scan(resource, &json).map_err(|error| unreadable(&error))?;
    // What is unknown is refused in any case, when the configuration is compared with the schema.
    let repeated: Vec<_> = scan.faults.into_iter().filter(|fault| fault.starts_with("duplicate")).collect();
    let bad_quantity = scan.bad_quantity;
    match validation {
        FieldValidation::Strict if !repeated.is_empty() => {
            Err(ApiError::bad_request(format!("error strict decoding YAML: {}", repeated.join(", "))))
        }
        FieldValidation::Warn => Ok(Read { text, warnings: repeated, bad_quantity }),
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Read { text, warnings: Vec::new(), bad_quantity }),
    }
}

/// A body that is written as its tree would be, as most programs write them: it needs no tree.
fn canonical(body: &[u8]) -> Option<Outline<'_>> {
    let text = std::str::from_utf8(body).ok()?.trim_ascii_end();
    Outline::of(text).filter(Outline::is_canonical)
}

/// A body as JSON, and how its tree is written.
fn rewritten(body: &[u8]) -> Result<(Cow<'_, [u8]>, String), String> {
    if let Ok(tree) = serde_json::from_slice::<Value>(body) {
        return Ok((Cow::Borrowed(body), tree.to_string()));
    }
    let json = yaml::to_json(body).map_err(|error| error.to_string())?;
    let tree: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    Ok((Cow::Owned(json), tree.to_string()))
}

/// Reads what has become of an object by a configuration: only the configuration is looked at again.
pub fn applied(resource: &'static Resource, json: &str, bad_quantity: Option<&str>) -> Result<Box<dyn Object>, ApiError> {
    if let Some(wrong) = bad_quantity {
        return Err(cannot_be_handled(resource, wrong));
    }
    let json = json.as_bytes();
    (resource.codec.from_json)(json).map_err(|error| cannot_be_handled(resource, &mismatch::explain(resource, json, &error)))
}

/// The same as a JSON tree, for who has to look at its type first.
pub fn plain_json(kind: &str, headers: &HeaderMap, body: &[u8]) -> Result<serde_json::Value, ApiError> {
    serde_json::from_slice(&as_json(|| protobuf::name_of(kind), headers, body)?)
        .map_err(|error| ApiError::bad_request(format!("couldn't get version/kind of the {kind}; json parse error: {error}")))
}

/// Reads the options in a delete request's body, or other objects that no resource stands for.
pub fn plain<T: DeserializeOwned>(kind: &str, headers: &HeaderMap, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(&as_json(|| protobuf::name_of(kind), headers, body)?)
        .map_err(|error| ApiError::bad_request(format!("{kind} in version \"v1\" cannot be handled as a {kind}: json: {error}")))
}

/// Reads a review, which is an object at least.
pub fn review(review: &Review, headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let unreadable = |error: String| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"));
    let value: Value = serde_json::from_slice(&as_json(|| protobuf::name_of(review.kind), headers, body)?)
        .map_err(|error| unreadable(error.to_string()))?;
    let (kind, version) = (value.get("kind").and_then(Value::as_str), value.get("apiVersion").and_then(Value::as_str));
    let differs = |said: Option<&str>, expected: &str| said.is_some_and(|said| !said.is_empty() && said != expected);
    if !value.is_object() {
        return Err(unreadable("a review must be an object".to_owned()));
    }
    if differs(kind, review.kind) || differs(version, &review.api_version()) {
        let (kind, version) = (kind.unwrap_or_default(), version.unwrap_or_default());
        return Err(ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}", review.kind)));
    }
    Ok(value)
}

fn check_type(resource: &Resource, scan: &scan::Scan) -> Result<(), ApiError> {
    let expected = resource.api_version();
    let api_version = scan.api_version.as_deref().filter(|text| !text.is_empty());
    let kind = scan.kind.as_deref().filter(|text| !text.is_empty()).unwrap_or(resource.kind);
    if kind != resource.kind {
        let version = api_version.unwrap_or(&expected);
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: the kind in the data ({kind}) does not match the expected kind ({})",
            resource.kind, resource.kind
        )));
    }
    match api_version {
        Some(other) if other != expected => Err(ApiError::bad_request(format!(
            "the API version in the data ({other}) does not match the expected API version ({expected})"
        ))),
        _ => Ok(()),
    }
}

fn cannot_be_handled(resource: &Resource, why: &str) -> ApiError {
    let Resource { kind, version, .. } = resource;
    ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

#[cfg(test)]
mod tests {
    use kinds::registry;

    use super::*;

    fn refused(plural: &str, body: &str) -> String {
        let group = if plural == "statefulsets" { "apps" } else { "" };
        let resource = registry::find(group, "v1", plural).unwrap();
        json(resource, body.as_bytes(), FieldValidation::Strict).unwrap_err().to_string()
    }

    #[test]
    fn unknown_and_repeated_fields_are_named_by_their_paths() {
        let body = r#"{"spec":{"containers":[{"name":"a","name":"b","imag":"x"}],"foo":{"bar":1},"volumes":[]},"kind":"Pod"}"#;
        assert_eq!(
            refused("pods", body),
            r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: duplicate field "spec.containers[0].name", unknown field "spec.containers[0].imag", unknown field "spec.foo""#
        );
        let resource = registry::find("", "v1", "pods").unwrap();
        let warned = json(resource, body.as_bytes(), FieldValidation::Warn).unwrap();
        assert_eq!(warned.warnings.len(), 3);
        assert!(json(resource, body.as_bytes(), FieldValidation::Ignore).unwrap().warnings.is_empty());
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_by_its_go_type() {
        assert_eq!(
            refused("statefulsets", r#"{"spec":{"replicas":"three"}}"#),
            r#"StatefulSet in version "v1" cannot be handled as a StatefulSet: json: cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32"#
        );
        assert_eq!(
            refused("configmaps", r#"{"data":{"a":1}}"#),
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"#
        );
    }

    #[test]
    fn a_malformed_quantity_is_refused() {
        let body = r#"{"spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":"lots"}}}]}}"#;
        assert!(refused("pods", body).contains("quantities must match the regular expression"));
    }

    #[test]
    fn a_configuration_is_read_the_same_however_it_is_written() {
        let resource = registry::find("apps", "v1", "statefulsets").unwrap();
        let read = |body: &str| {
            let Read { text, warnings, bad_quantity } = configuration(resource, body.as_bytes(), FieldValidation::Warn).ok()?;
            Some((text.text().to_owned(), warnings, bad_quantity))
        };
        let with_quantity = |quantity: &str| {
            let container = format!(r#"{{"image":"b","name":"a","resources":{{"limits":{{"cpu":{quantity},"memory":"1Gi"}}}}}}"#);
            format!(r#"{{"spec":{{"replicas":1,"template":{{"spec":{{"containers":[{container}]}}}}}}}}"#)
        };
        for quantity in ["1", "\"500m\"", "\"lots\"", "\"\"", "true", "null", "12345678901234567", "-1", "{}"] {
            let body = with_quantity(quantity);
            let (text, _, bad_quantity) = read(&body).unwrap();
            assert_eq!((&text, bad_quantity.is_some()), (&body, matches!(quantity, "\"lots\"" | "\"\"")), "{quantity}");
            assert_eq!(read(&body.replace(':', ": ")), read(&body), "{quantity}");
        }
        for body in ["", "[]", "1", "null", "\"a\"", &format!("{}{}", "{\"a\":".repeat(150), "}".repeat(150))] {
            assert_eq!(read(body), None, "{body}");
        }
    }

    #[test]
    fn other_versions_and_kinds_are_refused() {
        assert_eq!(
            refused("statefulsets", r#"{"apiVersion":"apps/v2","kind":"StatefulSet"}"#),
            "the API version in the data (apps/v2) does not match the expected API version (apps/v1)"
        );
        assert!(refused("pods", r#"{"apiVersion":"v1","kind":"Service"}"#).starts_with("Service in version"));
    }

    #[test]
    fn text_that_is_no_json_or_nests_without_end_is_refused() {
        for body in ["", "{", "[]", "nonsense", &format!("{}{}", "{\"a\":".repeat(50_000), "}".repeat(50_000))] {
            let resource = registry::find("", "v1", "pods").unwrap();
            assert!(json(resource, body.as_bytes(), FieldValidation::Warn).is_err());
        }
    }

    #[test]
    fn yaml_is_read_as_json() {
        let resource = registry::find("", "v1", "configmaps").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/yaml"));
        let decoded =
            body(resource, &headers, b"kind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: \"1\"\n", FieldValidation::Strict).unwrap();
        assert_eq!(decoded.object.meta().name.as_deref(), Some("a"));
        let bomb = format!(
            "a: &a [x,x,x,x,x,x,x,x,x]\n{}",
            (0..12)
                .map(|n| format!(
                    "b{n}: &b{n} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n",
                    p = if n == 0 { "a".to_owned() } else { format!("b{}", n - 1) }
                ))
                .collect::<String>()
        );
        assert!(body(resource, &headers, bomb.as_bytes(), FieldValidation::Ignore).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body in "\\PC{0,200}") {
            let resource = registry::find("", "v1", "pods").unwrap();
            let _ = json(resource, body.as_bytes(), FieldValidation::Strict);
            let _ = yaml::to_json(body.as_bytes());
        }
    }
}
