//! What the crate `fuzz` asks of the agent: what clients of streams say. Nothing else uses this module.

use super::channels::{self, Said};
pub use super::spdy::fuzz::{frames as spdy_frames, headers as spdy_headers};

/// A message of a WebSocket. What goes to a channel arrives as it was.
pub fn channel_message(input: &[u8]) {
    if let Said::Input(bytes) = channels::parse(input) {
        assert_eq!(channels::message(0, &bytes), input);
    }
}
