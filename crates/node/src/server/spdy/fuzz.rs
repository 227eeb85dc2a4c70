//! What must hold of frames, whatever their bytes are.

use bytes::BytesMut;

use super::frame::{Decoder, Frame, FrameError, MAX_CONTROL};
use super::headers::{Headers, Reader, Writer};

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

/// All frames up to the end, or to what is none, when so many bytes arrive at a time.
pub(super) fn decode(bytes: &[u8], step: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut received, mut frames) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        received.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut received) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(received.len() <= MAX_CONTROL + 8, "{} bytes wait for their rest", received.len());
    }
    (frames, None)
}

/// Puts the parts of data frames together again.
pub(super) fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut whole: Vec<Frame> = Vec::new();
    for frame in frames {
        match (whole.last_mut(), frame) {
            (Some(Frame::Data { stream, fin: fin @ false, bytes }), Frame::Data { stream: same, fin: ends, bytes: more })
                if *stream == same =>
            {
                *bytes = [bytes.as_ref(), more.as_ref()].concat().into();
                *fin = ends;
            }
            (_, frame) => whole.push(frame),
        }
    }
    whole
}
