//! What the crate `fuzz` asks of the agent: what clients of streams say. Nothing else uses this module.

use http::{HeaderMap, HeaderValue};

use super::channels::{self, Said};
use super::upgrade::{self, Chosen};
use super::{client, spdy};

/// A message of a WebSocket. What goes to a channel arrives as it was.
pub fn channel_message(input: &[u8]) {
    if let Said::Input(bytes) = channels::parse(input) {
        assert_eq!(channels::message(0, &bytes), input);
    }
    let Ok(offered) = HeaderValue::from_bytes(input) else { return };
    let mut headers = HeaderMap::from_iter([
        (http::header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("key")),
        (http::header::SEC_WEBSOCKET_PROTOCOL, offered.clone()),
        (upgrade::STREAM_PROTOCOL, offered),
    ]);
    let offer = client::offer("exec");
    for way in ["websocket", "SPDY/3.1"] {
        headers.insert(http::header::UPGRADE, HeaderValue::from_static(way));
        match upgrade::choose(&headers, offer) {
            Ok(Chosen::WebSocket(chosen)) => assert!(way == "websocket" && offer.websocket.contains(&chosen)),
            Ok(Chosen::Spdy(chosen)) => assert!(way != "websocket" && offer.spdy.contains(&chosen)),
            Err(_) => {}
        }
    }
}

/// What a client says over SPDY, from the beginning of its connection.
pub fn spdy_frames(input: &[u8]) {
    spdy::fuzz::frames(input);
}

/// What a client says over SPDY of its streams, compressed.
pub fn spdy_headers(input: &[u8]) {
    spdy::fuzz::headers(input);
}
