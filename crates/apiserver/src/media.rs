//! What form of an answer a client accepts.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::error::ApiError;

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
}

fn accept(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn not_acceptable() -> ApiError {
    ApiError::NotAcceptable { message: "only the following media types are accepted: application/json".to_owned() }
}

/// How objects are to be presented; the first form that the client names and that we have.
pub fn presentation(headers: &HeaderMap) -> Result<Presentation, ApiError> {
    let accept = accept(headers);
    let entries = accept.split(',').map(Entry::parse).filter(Entry::is_json);
    let mut forms = entries.filter_map(|entry| {
        let version = match entry.parameter("v") {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ => "",
        };
        match (entry.parameter("as"), entry.parameter("g"), version) {
            ("", ..) => Some(Presentation::Plain),
            ("Table", "meta.k8s.io", "v1" | "v1beta1") => Some(Presentation::Table { version }),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => {
                Some(Presentation::Metadata { version })
            }
            _ => None,
        }
    });
    forms.next().ok_or_else(not_acceptable)
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
        assert_eq!(presentation(&headers("application/vnd.kubernetes.protobuf")).unwrap_err().code_and_reason().0, 406);
    }

    #[test]
    fn aggregated_discovery_is_served_to_those_who_ask() {
        let asks = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated_discovery(&headers(asks)).unwrap(), Some("v2"));
        assert_eq!(aggregated_discovery(&headers("application/json")).unwrap(), None);
    }
}
