//! Responses: JSON, Status, warnings, compression.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY, WARNING};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use serde::Serialize;

use crate::error::ApiError;
use crate::protobuf;

/// Why a response's body ended early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a response: whole, or a stream.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;
/// A response of the server.
pub type Response = http::Response<Body>;

/// Smaller bodies are sent as they are.
const COMPRESS_FROM: usize = 128 << 10;

/// A body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes piece by piece.
pub fn stream(pieces: impl futures::Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Body {
    use futures::TryStreamExt;
    http_body_util::StreamBody::new(pieces.map_ok(http_body::Frame::data)).boxed_unsync()
}

/// JSON text.
pub fn json(status: StatusCode, text: impl Into<Bytes>) -> Response {
    typed(status, "application/json", text)
}

/// JSON text that is there as a body already.
pub fn sent(body: Body) -> Response {
    let mut response = http::Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Any value as JSON.
pub fn value(status: StatusCode, value: &impl Serialize) -> Response {
    json(status, serde_json::to_vec(value).unwrap_or_default())
}

/// Text of some type.
pub fn typed(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The refusal of a request.
pub fn error(error: &ApiError) -> Response {
    let (code, _) = error.code_and_reason();
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if matches!(error, ApiError::NoPath) {
        return typed(status, "text/plain; charset=utf-8", "404 page not found\n");
    }
    let mut response = value(status, &error.status());
    if let ApiError::TooManyRequests { retry_after_seconds, .. } | ApiError::EvictionRefused { retry_after_seconds, .. } = error
        && *retry_after_seconds > 0
    {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*retry_after_seconds));
    }
    response
}

/// The answer to who has the current state already.
pub fn not_modified() -> Response {
    let mut response = http::Response::new(full(""));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// Whether the client has the state of this tag: one of those it names, or any.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|one| one.trim().trim_start_matches("W/").trim_matches('"'));
    known.any(|known| known == tag || known == "*")
}

/// Says which state this is.
pub fn tag(response: &mut Response, tag: &str) {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
}

/// Adds `Warning:` headers, each once.
pub fn warn(response: &mut Response, warnings: &[String]) {
    for (index, warning) in warnings.iter().enumerate() {
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = text.replace('\\', r"\\").replace('"', r#"\""#);
        if !warnings[..index].contains(warning)
            && let Ok(header) = HeaderValue::try_from(format!("299 - \"{quoted}\""))
        {
            response.headers_mut().append(WARNING, header);
        }
    }
}

/// Compresses a large body when the client takes gzip. `size_hint` tells streams from whole bodies: streams stay as they are.
pub fn compressed(response: Response, accepts: bool) -> Response {
    use http_body::Body as _;
    let large = response.body().size_hint().exact().is_some_and(|size| size >= COMPRESS_FROM as u64);
    if !accepts || !large {
        return response;
    }
    let (mut parts, bytes) = match whole(response) {
        Ok(taken) => taken,
        Err(response) => return *response,
    };
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing to a Vec can't fail.
    let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish()).unwrap_or_default();
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    http::Response::from_parts(parts, full(compressed))
}

/// Marks an answer that stays in JSON whatever the client would rather have.
#[derive(Clone, Copy)]
struct InJson;

/// An answer whose form in protobuf would not say all of it.
pub fn only_json(status: StatusCode, answer: &impl Serialize) -> Response {
    let mut response = value(status, answer);
    response.extensions_mut().insert(InJson);
    response
}

/// Objects in JSON as protobuf; what has no form in it stays as it is, and so do streams.
pub fn in_protobuf(response: Response) -> Response {
    if response.extensions().get::<InJson>().is_some() {
        return response;
    }
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|content_type| content_type == "application/json");
    if !is_json {
        return response;
    }
    let (mut parts, json) = match whole(response) {
        Ok(taken) => taken,
        Err(response) => return *response,
    };
    match protobuf::from_json(&json) {
        Ok(Some(message)) => {
            parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(protobuf::MEDIA_TYPE));
            http::Response::from_parts(parts, full(message))
        }
        Ok(None) => http::Response::from_parts(parts, full(json)),
        Err(error) => {
            tracing::warn!(%error, "an answer has no form in protobuf");
            http::Response::from_parts(parts, full(json))
        }
    }
}

/// Takes a body that is there as a whole; a stream is given back.
fn whole(response: Response) -> Result<(http::response::Parts, Bytes), Box<Response>> {
    use http_body::Body as _;
    if response.body().size_hint().exact().is_none() {
        return Err(Box::new(response));
    }
    let (parts, body) = response.into_parts();
    match futures::FutureExt::now_or_never(body.collect()) {
        Some(Ok(read)) => Ok((parts, read.to_bytes())),
        _ => Err(Box::new(error(&ApiError::internal("a body that is there as a whole could not be read")))),
    }
}

/// A response with its body as JSON, looked at on its way; nothing is seen of a stream or of anything else.
pub fn looked_at(response: Response) -> (Response, Bytes) {
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|content_type| content_type == "application/json");
    if !is_json {
        return (response, Bytes::new());
    }
    match whole(response) {
        Ok((parts, json)) => (http::Response::from_parts(parts, full(json.clone())), json),
        Err(response) => (*response, Bytes::new()),
    }
}

/// Whether the client takes gzip.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|one| one.split(';').next().unwrap_or_default().trim() == "gzip")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(response: Response) -> (HeaderMap, Bytes) {
        let (parts, bytes) = whole(response).unwrap();
        (parts.headers, bytes)
    }

    #[test]
    fn objects_become_protobuf_and_everything_else_stays() {
        let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
        let (head, message) = collected(in_protobuf(json(StatusCode::OK, object)));
        assert_eq!(head[CONTENT_TYPE], protobuf::MEDIA_TYPE);
        assert!(message.starts_with(b"k8s\0"));
        let status = error(&ApiError::bad_request("no"));
        assert_eq!(collected(in_protobuf(status)).0[CONTENT_TYPE], protobuf::MEDIA_TYPE);
        for text in [r#"{"openapi":"3.0.0"}"#, r#"{"apiVersion":"v1","kind":"Thing"}"#] {
            let (head, body) = collected(in_protobuf(json(StatusCode::OK, text)));
            assert_eq!((&head[CONTENT_TYPE], &body[..]), (&HeaderValue::from_static("application/json"), text.as_bytes()));
        }
        let table = in_protobuf(typed(StatusCode::OK, "text/plain", object));
        assert_eq!(collected(table).0[CONTENT_TYPE], "text/plain");
    }
}
