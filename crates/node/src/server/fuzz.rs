//! What the crate `fuzz` asks of the agent: what clients of streams say. Nothing else uses this module.

use super::channels::{self, Said};

/// A message of a WebSocket. What goes to a channel arrives as it was.
pub fn channel_message(input: &[u8]) {
    if let Said::Input(bytes) = channels::parse(input) {
        assert_eq!(channels::message(0, &bytes), input);
    }
    if let Some(chosen) = std::str::from_utf8(input).ok().and_then(channels::choose) {
        assert!(channels::PROTOCOLS.contains(&chosen));
    }
}
