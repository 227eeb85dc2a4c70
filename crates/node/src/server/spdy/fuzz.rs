//! What the crate `fuzz` asks of SPDY: connections of strangers. Nothing else uses this module.

use bytes::BytesMut;

use super::frame::{Decoder, Frame, FrameError, MAX_CONTROL};
use super::headers::{Reader, Writer};

/// What a client sends: its frames are the same however they arrive, what waits for its rest is bounded, and each is read again as
/// it is written. The first byte says in what pieces it arrives.
pub fn frames(input: &[u8]) {
    let Some((step, sent)) = input.split_first() else { return };
    let whole = received(sent, sent.len());
    assert_eq!(received(sent, usize::from(*step)), whole);
    for frame in whole.0 {
        assert_eq!(received(&frame.encode(), usize::MAX), (vec![frame], None));
    }
}

/// The frames of what is sent in pieces, data of one stream put together; and why there are no more.
fn received(sent: &[u8], step: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut buffer, mut frames) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in sent.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => join(&mut frames, frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(buffer.len() <= MAX_CONTROL + 8, "{} bytes wait", buffer.len());
    }
    (frames, None)
}

fn join(frames: &mut Vec<Frame>, next: Frame) {
    match (frames.last_mut(), next) {
        (Some(Frame::Data { stream, fin: fin @ false, bytes }), Frame::Data { stream: same, fin: ends, bytes: more })
            if *stream == same =>
        {
            *bytes = [bytes.as_ref(), more.as_ref()].concat().into();
            *fin = ends;
        }
        (_, next) => frames.push(next),
    }
}

/// Blocks of headers, each behind two bytes of its length. However they are compressed, they come to a bounded text, which is read
/// again as it is written.
pub fn headers(input: &[u8]) {
    let (mut rest, mut reader, mut writer, mut mirror) = (input, Reader::new(), Writer::default(), Reader::new());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let Ok(headers) = reader.read(&after[..length]) else { return };
        rest = &after[length..];
        let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        // What is no UTF-8 is three bytes for each of its own.
        assert!(size <= 3 * (64 << 10), "{size} bytes");
        let texts: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if size < 60 << 10 {
            assert_eq!(mirror.read(&writer.write(&texts)), Ok(headers.clone()));
        }
    }
}
