//! Frames: what logs and checkpoints consist of, each whole or not there at all.
//!
//! A frame is a header of 32 bytes (magic, payload length, number, hash of the payload, hash of the header) and a payload. The hashes
//! are seeded with a number drawn for each file, so bytes that a client put into a document can't pass for a frame.

use std::fs::File;
use std::io::{self, BufReader, Read};

use twox_hash::XxHash64;

pub(super) const HEADER: usize = 32;

/// The longest payload; larger than any batch the writer makes.
pub(super) const MAX_PAYLOAD: usize = 16 << 20;

const MAGIC: [u8; 4] = *b"SfFr";

/// What a header says.
#[derive(Clone, Copy, Debug)]
struct Header {
    length: usize,
    number: u64,
    hash: u64,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Header {
    fn encode(self, seed: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.hash.to_le_bytes());
        let own = XxHash64::oneshot(seed, &bytes[..24]);
        bytes[24..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// `None` when these bytes are no header.
    fn decode(bytes: &[u8; HEADER], seed: u64) -> Option<Self> {
        let length = (word(bytes, 0) >> 32) as usize;
        let valid = bytes[..4] == MAGIC && length <= MAX_PAYLOAD && word(bytes, 24) == XxHash64::oneshot(seed, &bytes[..24]);
        valid.then(|| Self { length, number: word(bytes, 8), hash: word(bytes, 16) })
    }
}

/// A frame under construction: the payload is appended, then sealed.
#[derive(Debug)]
pub(super) struct Draft {
    bytes: Vec<u8>,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; HEADER] }
    }

    /// Where the payload is appended.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - HEADER
    }

    /// Back to an empty payload, without holding on to much memory.
    pub(super) fn clear(&mut self) {
        self.bytes.truncate(HEADER);
        self.bytes.shrink_to(1 << 20);
    }

    /// The finished frame.
    pub(super) fn seal(&mut self, number: u64, seed: u64) -> &[u8] {
        let hash = XxHash64::oneshot(seed, &self.bytes[HEADER..]);
        let header = Header { length: self.len(), number, hash }.encode(seed);
        self.bytes[..HEADER].copy_from_slice(&header);
        &self.bytes
    }
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    /// A whole frame: its number and payload.
    Frame(u64, Vec<u8>),
    /// No whole frame begins here: the end, or damage.
    Nothing,
}

/// Reads a file frame by frame.
pub(super) struct Reader {
    file: BufReader<File>,
    seed: u64,
    /// Where the next frame begins.
    offset: u64,
}

impl Reader {
    /// Reads on from where the file stands, which is `offset`.
    pub(super) fn new(file: File, seed: u64, offset: u64) -> Self {
        Self { file: BufReader::with_capacity(64 << 10, file), seed, offset }
    }

    /// Where the next frame begins, or nothing was found.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        let mut header = [0; HEADER];
        if !fill(&mut self.file, &mut header)? {
            return Ok(Next::Nothing);
        }
        let Some(header) = Header::decode(&header, self.seed) else { return Ok(Next::Nothing) };
        let mut payload = vec![0; header.length];
        if !fill(&mut self.file, &mut payload)? || XxHash64::oneshot(self.seed, &payload) != header.hash {
            return Ok(Next::Nothing);
        }
        self.offset += (HEADER + header.length) as u64;
        Ok(Next::Frame(header.number, payload))
    }
}

/// Reads exactly that many bytes; false when the file ends before.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a whole frame begins anywhere in these bytes.
pub(super) fn contains_frame(bytes: &[u8], seed: u64) -> bool {
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == MAGIC[0]) {
        at += found;
        if begins_with_frame(&bytes[at..], seed) {
            return true;
        }
        at += 1;
    }
    false
}

fn begins_with_frame(bytes: &[u8], seed: u64) -> bool {
    let Some((header, rest)) = bytes.split_first_chunk() else { return false };
    Header::decode(header, seed)
        .is_some_and(|header| rest.get(..header.length).is_some_and(|payload| XxHash64::oneshot(seed, payload) == header.hash))
}
