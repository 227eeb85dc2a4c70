//! Frames of SPDY/3.1: from bytes to values and back, without I/O.
//!
//! Only what streams of Kubernetes need: frames of kinds that nobody here uses are passed over, as the protocol asks.

use bytes::{Buf, Bytes, BytesMut};

/// The protocol's number in every control frame.
const VERSION: u16 = 3;
/// A control frame is at most so long; the largest is one with headers, which are few and short.
pub(super) const MAX_CONTROL: usize = 16 << 10;
/// The most that a frame's length can say.
pub(super) const MAX_DATA: usize = (1 << 24) - 1;
/// Before each frame's body.
const HEAD: usize = 8;
/// Numbers of streams have 31 bits.
const STREAM: u32 = 0x7fff_ffff;
/// The sender says no more on this stream.
const FIN: u8 = 1;
/// The setting that says how much may be sent before the first credit.
const INITIAL_WINDOW: u32 = 7;

/// What one side tells the other. Headers are compressed still: what they mean depends on all that came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// SYN_STREAM.
    Open {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    /// SYN_REPLY.
    Reply {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    /// RST_STREAM.
    Reset {
        stream: u32,
        status: u32,
    },
    /// SETTINGS, of which the window of new streams is all that matters here.
    Settings {
        initial_window: Option<u32>,
    },
    Ping {
        id: u32,
    },
    /// GOAWAY: no new streams, please.
    GoAway {
        last: u32,
        status: u32,
    },
    /// HEADERS: more of them, later.
    Headers {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    /// WINDOW_UPDATE; stream 0 is the whole connection.
    Window {
        stream: u32,
        credit: u32,
    },
    /// A part of a data frame; `fin` comes with the last.
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
}

/// What is not SPDY, or more of it than is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of version {0} of the protocol; {VERSION} is spoken here")]
    Version(u16),
    #[error("a control frame of {0} bytes; {MAX_CONTROL} are the limit")]
    TooLong(usize),
    #[error("a frame of kind {kind} with {length} bytes makes no sense")]
    Malformed { kind: u16, length: usize },
}

/// Takes frames out of what has been received.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    data: Option<Arriving>,
}

/// A data frame whose body has not arrived in whole.
#[derive(Debug)]
struct Arriving {
    stream: u32,
    fin: bool,
    left: usize,
}

impl Decoder {
    /// The next frame, if enough of it is there. Data is given as it arrives, however long its frame is.
    pub(super) fn decode(&mut self, received: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(arriving) = self.data.take() {
                return Ok(self.data(arriving, received));
            }
            let Some(&[first, second, third, fourth, flags, high, middle, low]) = received.first_chunk::<HEAD>() else { return Ok(None) };
            let word = u32::from_be_bytes([first, second, third, fourth]);
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if word & !STREAM == 0 {
                received.advance(HEAD);
                self.data = Some(Arriving { stream: word, fin: flags & FIN != 0, left: length });
                if length == 0 {
                    return Ok(self.data.take().map(|Arriving { stream, fin, .. }| Frame::Data { stream, fin, bytes: Bytes::new() }));
                }
                continue;
            }
            let (version, kind) = ((word >> 16) as u16 & 0x7fff, (word & 0xffff) as u16);
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            if length > MAX_CONTROL {
                return Err(FrameError::TooLong(length));
            }
            if received.len() < HEAD + length {
                return Ok(None);
            }
            received.advance(HEAD);
            let body = received.split_to(length).freeze();
            match control(kind, flags, body) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(()) => return Err(FrameError::Malformed { kind, length }),
            }
        }
    }

    fn data(&mut self, arriving: Arriving, received: &mut BytesMut) -> Option<Frame> {
        let Arriving { stream, fin, left } = arriving;
        if received.is_empty() {
            self.data = Some(arriving);
            return None;
        }
        let bytes = received.split_to(left.min(received.len())).freeze();
        let left = left - bytes.len();
        if left > 0 {
            self.data = Some(Arriving { left, ..arriving });
        }
        Some(Frame::Data { stream, fin: fin && left == 0, bytes })
    }
}

/// A control frame; nothing if it is of a kind that nobody needs.
fn control(kind: u16, flags: u8, mut body: Bytes) -> Result<Option<Frame>, ()> {
    let fin = flags & FIN != 0;
    let mut number = |mask: u32| body.try_get_u32().map(|number| number & mask).map_err(drop);
    Ok(Some(match kind {
        1 => {
            let stream = number(STREAM)?;
            // The stream it belongs to, its priority, its slot.
            let _associated = number(STREAM)?;
            body.try_get_u16().map_err(drop)?;
            Frame::Open { stream, fin, headers: body }
        }
        2 => Frame::Reply { stream: number(STREAM)?, fin, headers: body },
        3 => Frame::Reset { stream: number(STREAM)?, status: number(u32::MAX)? },
        4 => settings(body)?,
        6 => Frame::Ping { id: number(u32::MAX)? },
        7 => Frame::GoAway { last: number(STREAM)?, status: number(u32::MAX)? },
        8 => Frame::Headers { stream: number(STREAM)?, fin, headers: body },
        9 => Frame::Window { stream: number(STREAM)?, credit: number(STREAM)? },
        _ => return Ok(None),
    }))
}

fn settings(mut body: Bytes) -> Result<Frame, ()> {
    let count = body.try_get_u32().map_err(drop)? as usize;
    if body.len() != count.checked_mul(8).ok_or(())? {
        return Err(());
    }
    let mut initial_window = None;
    for pair in body.chunks_exact(8) {
        let mut pair = pair;
        // Flags, then the setting's number.
        if pair.get_u32() & 0x00ff_ffff == INITIAL_WINDOW {
            initial_window = Some(pair.get_u32());
        }
    }
    Ok(Frame::Settings { initial_window })
}

impl Frame {
    /// The frame as it is sent. Data must be no longer than [`MAX_DATA`].
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Open { stream, fin, headers } => {
                control_frame(1, *fin, &[&stream.to_be_bytes(), &0_u32.to_be_bytes(), &0_u16.to_be_bytes(), headers])
            }
            Self::Reply { stream, fin, headers } => control_frame(2, *fin, &[&stream.to_be_bytes(), headers]),
            Self::Reset { stream, status } => control_frame(3, false, &[&stream.to_be_bytes(), &status.to_be_bytes()]),
            Self::Settings { initial_window: None } => control_frame(4, false, &[&0_u32.to_be_bytes()]),
            Self::Settings { initial_window: Some(window) } => {
                control_frame(4, false, &[&1_u32.to_be_bytes(), &INITIAL_WINDOW.to_be_bytes(), &window.to_be_bytes()])
            }
            Self::Ping { id } => control_frame(6, false, &[&id.to_be_bytes()]),
            Self::GoAway { last, status } => control_frame(7, false, &[&last.to_be_bytes(), &status.to_be_bytes()]),
            Self::Headers { stream, fin, headers } => control_frame(8, *fin, &[&stream.to_be_bytes(), headers]),
            Self::Window { stream, credit } => control_frame(9, false, &[&stream.to_be_bytes(), &credit.to_be_bytes()]),
            Self::Data { stream, fin, bytes } => frame(stream & STREAM, *fin, &[bytes]),
        }
    }
}

fn control_frame(kind: u16, fin: bool, parts: &[&[u8]]) -> Vec<u8> {
    frame(!STREAM | u32::from(VERSION) << 16 | u32::from(kind), fin, parts)
}

fn frame(word: u32, fin: bool, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(length <= MAX_DATA);
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend_from_slice(&word.to_be_bytes());
    frame.extend_from_slice(&(u32::from(fin) << 24 | length as u32).to_be_bytes());
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::server::spdy::pieces::{decode, joined};

    fn decode_all(bytes: &[u8], step: usize) -> Result<Vec<Frame>, FrameError> {
        match decode(bytes, step) {
            (frames, None) => Ok(frames),
            (_, Some(error)) => Err(error),
        }
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let stream = || 0..=STREAM;
        let bytes = || vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, headers)| Frame::Open { stream, fin, headers }),
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, headers)| Frame::Reply { stream, fin, headers }),
            (stream(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
            any::<Option<u32>>().prop_map(|initial_window| Frame::Settings { initial_window }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            (stream(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, headers)| Frame::Headers { stream, fin, headers }),
            (stream(), stream()).prop_map(|(stream, credit)| Frame::Window { stream, credit }),
            (stream(), bytes()).prop_map(|(stream, bytes)| Frame::Data { stream, fin: true, bytes }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_however_it_is_cut(frames in vec(any_frame(), 0..6), step in 1..64_usize) {
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            prop_assert_eq!(joined(decode_all(&bytes, step).unwrap()), frames);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..400), step in 1..64_usize) {
            let _ = decode_all(&bytes, step);
        }

        #[test]
        fn no_control_frame_makes_it_panic(kind in 0..12_u16, flags: u8, body in vec(any::<u8>(), 0..40), step in 1..64_usize) {
            let mut bytes = control_frame(kind, false, &[&body]);
            bytes[4] = flags;
            let _ = decode_all(&bytes, step);
        }
    }

    #[test]
    fn frames_that_nobody_needs_are_passed_over() {
        let noop = control_frame(5, false, &[]);
        let unknown = control_frame(200, false, &[b"anything"]);
        let ping = Frame::Ping { id: 7 };
        assert_eq!(decode_all(&[noop, unknown, ping.encode()].concat(), 1000), Ok(vec![ping]));
    }

    #[test]
    fn what_is_too_long_or_of_another_version_is_refused_before_it_arrives() {
        let length = (MAX_CONTROL as u32 + 1).to_be_bytes();
        assert_eq!(decode_all(&[0x80, 3, 0, 1, 0, length[1], length[2], length[3]], 8), Err(FrameError::TooLong(MAX_CONTROL + 1)));
        assert_eq!(decode_all(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], 12), Err(FrameError::Version(2)));
        assert_eq!(decode_all(&[0x80, 3, 0, 6, 0, 0, 0, 2, 0, 0], 10), Err(FrameError::Malformed { kind: 6, length: 2 }));
    }

    #[test]
    fn data_is_given_as_it_arrives() {
        let frame = Frame::Data { stream: 3, fin: true, bytes: Bytes::from(vec![b'x'; 100_000]) };
        let (mut decoder, mut received) = (Decoder::default(), BytesMut::from(&frame.encode()[..HEAD + 10]));
        let part = Frame::Data { stream: 3, fin: false, bytes: Bytes::from_static(b"xxxxxxxxxx") };
        assert_eq!(decoder.decode(&mut received), Ok(Some(part)));
        assert_eq!(decoder.decode(&mut received), Ok(None));
        received.extend_from_slice(&frame.encode()[HEAD + 10..]);
        let rest = Frame::Data { stream: 3, fin: true, bytes: Bytes::from(vec![b'x'; 99_990]) };
        assert_eq!(decoder.decode(&mut received), Ok(Some(rest)));
    }
}
