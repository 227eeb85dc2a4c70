//! What a connection says however it is cut into pieces, for tests.

use bytes::BytesMut;

use super::frame::{Decoder, Frame, FrameError, MAX_CONTROL};

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
