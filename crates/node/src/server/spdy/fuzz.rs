//! What must hold of frames, whatever their bytes are.

use super::frame::Frame;
use super::headers::{Headers, Reader, Writer};
use super::pieces::{decode, joined};

/// However a connection is cut, it says the same; and what it says can be said again.
pub(in crate::server) fn frames(input: &[u8]) {
    let (frames, end) = decode(input, input.len());
    let (mut reader, mut readable) = (Reader::new(), true);
    for frame in &frames {
        if !matches!(frame, Frame::Data { .. }) {
            assert_eq!(decode(&frame.encode(), usize::MAX), (vec![frame.clone()], None));
        }
        if let Frame::Open { headers, .. } | Frame::Reply { headers, .. } | Frame::Headers { headers, .. } = frame
            && readable
        {
            match reader.read(headers) {
                Ok(headers) => say_again(&headers),
                Err(_) => readable = false,
            }
        }
    }
    let (cut, same_end) = decode(input, 3);
    assert_eq!((joined(frames), end), (joined(cut), same_end));
}

/// Blocks of headers, each behind two bytes of its length. However they are compressed, they come to a bounded text.
pub(in crate::server) fn headers(input: &[u8]) {
    let (mut rest, mut reader) = (input, Reader::new());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (block, after) = after.split_at(after.len().min(usize::from(u16::from_be_bytes(*length))));
        let Ok(headers) = reader.read(block) else { return };
        let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        // What is no UTF-8 becomes three bytes for each of its own.
        assert!(size <= 3 * (64 << 10), "{size} bytes of {}", block.len());
        say_again(&headers);
        rest = after;
    }
}

/// What was not text has become longer, and may be too long now.
fn say_again(headers: &Headers) {
    let borrowed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if let Ok(again) = Reader::new().read(&Writer::default().write(&borrowed)) {
        assert_eq!(again, *headers);
    }
}
