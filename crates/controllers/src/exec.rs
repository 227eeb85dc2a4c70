//! Runs a command in a container through the API server, as any client does: a WebSocket on `pods/exec`.
//!
//! The node ends the command when the connection is closed, so dropping the future ends it.

use std::fmt::Write;

use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use thiserror::Error;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

const PROTOCOL: &str = "v5.channel.k8s.io";
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// How much of what the command writes is kept: its end.
const KEPT: usize = 512;
/// How much of a refusal is read.
const REFUSAL: usize = 16 << 10;
/// A message is at most so long.
const MAX_MESSAGE: usize = 1 << 20;

/// Why a command did not succeed.
#[derive(Debug, Error)]
pub(crate) enum ExecError {
    #[error("{source}")]
    Request {
        #[from]
        source: kube::Error,
    },
    #[error("{message}")]
    Refused { message: String },
    #[error("the server did not open a stream: {reason}")]
    NoStream { reason: String },
    #[error("the stream ended before the command did: {reason}")]
    Broken { reason: String },
    /// It ran, and failed.
    #[error("{}", failure(message, output))]
    Failed { message: String, output: String },
}

fn failure(message: &str, output: &str) -> String {
    if output.is_empty() { message.to_owned() } else { format!("{message}: {output}") }
}

/// Which container of which pod.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: Option<String>,
}

/// Runs a command to its end. Its success is exit code 0.
pub(crate) async fn exec(client: &Client, place: &Place, command: &[String]) -> Result<(), ExecError> {
    let key = generate_key();
    let request = request(place, command, &key)?;
    let response = client.send(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ExecError::Refused { message: refusal(response).await });
    }
    let accepted = |headers: &HeaderMap| {
        let is = |name, value: &str| headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes());
        is(header::SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes())) && is(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
    };
    if !accepted(response.headers()) {
        return Err(ExecError::NoStream { reason: "it answered another handshake".to_owned() });
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| ExecError::NoStream { reason: error.to_string() })?;
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
    follow(stream).await
}

async fn follow(mut stream: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) -> Result<(), ExecError> {
    let mut output = Vec::new();
    while let Some(message) = stream.next().await {
        let message = message.map_err(|error| ExecError::Broken { reason: error.to_string() })?;
        let Message::Binary(bytes) = message else { continue };
        match bytes.split_first() {
            Some((&(STDOUT | STDERR), text)) => {
                output.extend_from_slice(text);
                output.drain(..output.len().saturating_sub(KEPT));
            }
            Some((&STATUS, status)) => return verdict(status, &output),
            _ => {}
        }
    }
    Err(ExecError::Broken { reason: "the connection was closed".to_owned() })
}

fn verdict(status: &[u8], output: &[u8]) -> Result<(), ExecError> {
    let status: Value = serde_json::from_slice(status).map_err(|error| ExecError::Broken { reason: error.to_string() })?;
    if status["status"] == "Success" {
        return Ok(());
    }
    let message = status["message"].as_str().unwrap_or("the command failed").to_owned();
    Err(ExecError::Failed { message, output: String::from_utf8_lossy(output).trim().to_owned() })
}

fn request(place: &Place, command: &[String], key: &str) -> Result<Request<Body>, ExecError> {
    let mut path = format!("/api/v1/namespaces/{}/pods/{}/exec?stdout=true&stderr=true", place.namespace, place.pod);
    let words = command.iter().map(|word| ("command", word));
    for (name, value) in place.container.iter().map(|container| ("container", container)).chain(words) {
        // A string takes all that is written.
        let _ = write!(path, "&{name}=");
        value.bytes().for_each(|byte| encode(&mut path, byte));
    }
    let invalid = |error: http::Error| ExecError::NoStream { reason: error.to_string() };
    let request = Request::get(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL))
        .header(header::SEC_WEBSOCKET_KEY, key);
    request.body(Body::empty()).map_err(invalid)
}

fn encode(path: &mut String, byte: u8) {
    match byte {
        b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
        _ if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
        _ => drop(write!(path, "%{byte:02X}")),
    }
}

/// What a refusal says: the message of a Status, or else the text.
async fn refusal(response: http::Response<Body>) -> String {
    let status = response.status();
    let bytes = Limited::new(response.into_body(), REFUSAL).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&bytes).ok().and_then(|value| value["message"].as_str().map(str::to_owned));
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    message.or(Some(text).filter(|text| !text.is_empty())).unwrap_or_else(|| format!("the server answered {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_command_reaches_the_server_as_it_is() {
        let place = Place { namespace: "shop".to_owned(), pod: "web-1".to_owned(), container: Some("main".to_owned()) };
        let request = request(&place, &["sh".to_owned(), "a b&c=ü".to_owned()], "key").unwrap();
        assert_eq!(
            request.uri(),
            "/api/v1/namespaces/shop/pods/web-1/exec?stdout=true&stderr=true&container=main&command=sh&command=a%20b%26c%3D%C3%BC"
        );
    }

    #[test]
    fn a_failure_tells_the_exit_code_and_the_last_words() {
        let status = br#"{"status":"Failure","message":"command terminated with non-zero exit code: exit status 3"}"#;
        let error = verdict(status, b"no replica is in sync\n").unwrap_err();
        assert_eq!(error.to_string(), "command terminated with non-zero exit code: exit status 3: no replica is in sync");
        assert!(verdict(br#"{"status":"Success"}"#, b"done").is_ok());
        assert!(matches!(verdict(b"?", b""), Err(ExecError::Broken { .. })));
    }
}
