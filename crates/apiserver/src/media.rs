//! What form of an answer a client accepts.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::error::ApiError;
use crate::protobuf;

/// The form in which objects are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presentation {
    /// As they are.
    #[default]
    Plain,
    /// As rows for people, in the named version of `meta.k8s.io`.
    Table { version: &'static str },
    /// Metadata only.
    Metadata { version: &'static str },
}

/// One entry of an `Accept` header.
struct Entry<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Entry<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        Self { media_type, parameters: parts.filter_map(|part| part.split_once('=')).collect() }
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    fn is_json(&self) -> bool {
        matches!(self.media_type, "application/json" | "*/*" | "application/*" | "")
    }

    fn is_protobuf(&self) -> bool {
        self.media_type == protobuf::MEDIA_TYPE
    }

    fn presentation(&self) -> Option<Presentation> {
        let version = match self.parameter("v") {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ => "",
        };
        match (self.parameter("as"), self.parameter("g"), version) {
            ("", ..) => Some(Presentation::Plain),
            // Rows have no types that protobuf could tell.
            ("Table", "meta.k8s.io", "v1" | "v1beta1") if self.is_json() => Some(Presentation::Table { version }),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => {
                Some(Presentation::Metadata { version })
            }
            _ => None,
        }
    }
}

fn accept(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn not_acceptable() -> ApiError {
    let message = format!("only the following media types are accepted: application/json, {}", protobuf::MEDIA_TYPE);
    ApiError::NotAcceptable { message }
}

/// The first form that the client names and that we have, and whether it is meant in protobuf.
fn preferred(headers: &HeaderMap) -> Option<(Presentation, bool)> {
    let entries = accept(headers).split(',').map(Entry::parse).filter(|entry| entry.is_json() || entry.is_protobuf());
    entries.filter_map(|entry| Some((entry.presentation()?, entry.is_protobuf()))).next()
}

/// How objects are to be presented.
pub fn presentation(headers: &HeaderMap) -> Result<Presentation, ApiError> {
    preferred(headers).map(|(presentation, _)| presentation).ok_or_else(not_acceptable)
}

/// Whether the client would rather have protobuf than JSON.
pub fn prefers_protobuf(headers: &HeaderMap) -> bool {
    accept(headers).contains(protobuf::MEDIA_TYPE) && preferred(headers).is_some_and(|(_, protobuf)| protobuf)
}

/// Refuses who takes nothing but protobuf of objects that have no form in it.
pub fn check(headers: &HeaderMap, resource: &kinds::Resource) -> Result<(), ApiError> {
    let takes_json = || accept(headers).split(',').map(Entry::parse).any(|entry| entry.is_json());
    if prefers_protobuf(headers) && !protobuf::is_known(resource) && !takes_json() { Err(not_acceptable()) } else { Ok(()) }
}

/// The version of aggregated discovery that the client prefers; `None` for the plain documents.
pub fn aggregated_discovery(headers: &HeaderMap) -> Result<Option<&'static str>, ApiError> {
    let accept = accept(headers);
    let entries = accept.split(',').map(Entry::parse).filter(Entry::is_json);
    let mut forms = entries.filter_map(|entry| match (entry.parameter("as"), entry.parameter("v")) {
        ("APIGroupDiscoveryList", "v2") => Some(Some("v2")),
        ("APIGroupDiscoveryList", "v2beta1") => Some(Some("v2beta1")),
        ("", _) => Some(None),
        _ => None,
    });
    forms.next().ok_or_else(not_acceptable)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())])
    }

    #[test]
    fn the_first_form_that_is_served_counts() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(presentation(&headers(table)).unwrap(), Presentation::Table { version: "v1" });
        assert_eq!(presentation(&headers("application/vnd.kubernetes.protobuf,application/json")).unwrap(), Presentation::Plain);
        assert_eq!(presentation(&HeaderMap::new()).unwrap(), Presentation::Plain);
        assert_eq!(presentation(&headers("application/yaml")).unwrap_err().code_and_reason().0, 406);
    }

    #[test]
    fn protobuf_is_preferred_only_where_it_stands_first_and_exists() {
        for (accept, expected) in [
            ("application/vnd.kubernetes.protobuf,application/json", true),
            ("application/json, application/vnd.kubernetes.protobuf", false),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", false),
            ("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json", true),
            ("application/cbor,application/vnd.kubernetes.protobuf", true),
            ("", false),
        ] {
            assert_eq!(prefers_protobuf(&headers(accept)), expected, "{accept}");
        }
        let sets = kinds::SetKind::Steadfast.resource();
        assert_eq!(check(&headers("application/vnd.kubernetes.protobuf"), sets).unwrap_err().code_and_reason().0, 406);
        check(&headers("application/vnd.kubernetes.protobuf,application/json"), sets).unwrap();
        check(&headers("application/vnd.kubernetes.protobuf"), kinds::SetKind::Apps.resource()).unwrap();
    }

    #[test]
    fn aggregated_discovery_is_served_to_those_who_ask() {
        let asks = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated_discovery(&headers(asks)).unwrap(), Some("v2"));
        assert_eq!(aggregated_discovery(&headers("application/json")).unwrap(), None);
    }
}
