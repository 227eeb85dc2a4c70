//! Blocks of headers: names and values, compressed with what the connection said before, and with a dictionary.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::dictionary::{DICTIONARY, DICTIONARY_ID};

/// A block is at most so long when it is decompressed.
const MAX_BLOCK: usize = 64 << 10;
/// A block has at most so many headers.
const MAX_HEADERS: usize = 64;
/// What the decompressor looks back at: a power of two, and no less than what compressed data can refer to.
const WINDOW: usize = 64 << 10;
/// A stored piece of compressed data is at most so long.
const MAX_STORED: usize = 0xffff;
/// Ends a block so that its reader gets all of it: an empty stored piece.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// Names, in lower case, and values. A header of several values has them with zero bytes between.
pub(crate) type Headers = Vec<(String, String)>;

/// Why a block can't be read. Nothing that comes after it can be read either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("headers that are not compressed as the protocol says")]
    Compression,
    #[error("headers of more than {MAX_BLOCK} bytes or {MAX_HEADERS} names")]
    TooLong,
    #[error("headers that end too early")]
    Short,
}

/// Reads the blocks of one direction of a connection, which are one compressed stream.
pub(super) struct Reader {
    decompressor: Box<DecompressorOxide>,
    window: Box<[u8]>,
    position: usize,
    begun: bool,
}

impl Reader {
    pub(super) fn new() -> Self {
        let mut window = vec![0; WINDOW].into_boxed_slice();
        window[..DICTIONARY.len()].copy_from_slice(DICTIONARY);
        Self { decompressor: Box::default(), window, position: DICTIONARY.len(), begun: false }
    }

    pub(super) fn read(&mut self, mut compressed: &[u8]) -> Result<Headers, HeaderError> {
        if !self.begun {
            compressed = after_zlib_header(compressed)?;
            self.begun = true;
        }
        parse(&self.decompress(compressed)?)
    }

    fn decompress(&mut self, mut compressed: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut block = Vec::new();
        loop {
            let from = self.position;
            let (status, taken, given) = decompress(&mut self.decompressor, compressed, &mut self.window, from, TINFL_FLAG_HAS_MORE_INPUT);
            compressed = &compressed[taken..];
            if block.len() + given > MAX_BLOCK {
                return Err(HeaderError::TooLong);
            }
            block.extend_from_slice(&self.window[from..from + given]);
            self.position = (from + given) % WINDOW;
            match status {
                TINFLStatus::NeedsMoreInput => return Ok(block),
                TINFLStatus::HasMoreOutput => {}
                // The stream never ends while its connection lives.
                _ => return Err(HeaderError::Compression),
            }
        }
    }
}

/// Two bytes say how it is compressed; the name of a dictionary may follow.
fn after_zlib_header(compressed: &[u8]) -> Result<&[u8], HeaderError> {
    const DEFLATE: u8 = 8;
    const WITH_DICTIONARY: u8 = 0x20;
    let Some((&[method, flags], rest)) = compressed.split_first_chunk::<2>() else { return Err(HeaderError::Short) };
    let checked = u16::from_be_bytes([method, flags]).is_multiple_of(31);
    if method & 0x0f != DEFLATE || !checked {
        return Err(HeaderError::Compression);
    }
    if flags & WITH_DICTIONARY == 0 {
        return Ok(rest);
    }
    rest.strip_prefix(&DICTIONARY_ID).ok_or(HeaderError::Compression)
}

fn parse(block: &[u8]) -> Result<Headers, HeaderError> {
    let mut rest = block;
    let count = number(&mut rest)?;
    if count > MAX_HEADERS {
        return Err(HeaderError::TooLong);
    }
    (0..count).map(|_| Ok((text(&mut rest)?, text(&mut rest)?))).collect()
}

fn number(rest: &mut &[u8]) -> Result<usize, HeaderError> {
    let (bytes, after) = rest.split_first_chunk::<4>().ok_or(HeaderError::Short)?;
    *rest = after;
    Ok(u32::from_be_bytes(*bytes) as usize)
}

fn text(rest: &mut &[u8]) -> Result<String, HeaderError> {
    let length = number(rest)?;
    let (bytes, after) = rest.split_at_checked(length).ok_or(HeaderError::Short)?;
    *rest = after;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Writes the blocks of one direction. They are short and few: stored as they are, they are valid compressed data.
#[derive(Debug, Default)]
pub(super) struct Writer {
    begun: bool,
}

impl Writer {
    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut block = u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&length(text));
            block.extend_from_slice(text.as_bytes());
        }
        let mut compressed = if self.begun { Vec::new() } else { vec![0x78, 0x01] };
        self.begun = true;
        for piece in block.chunks(MAX_STORED) {
            let length = (piece.len() as u16).to_le_bytes();
            compressed.push(0);
            compressed.extend_from_slice(&length);
            compressed.extend_from_slice(&length.map(|byte| !byte));
            compressed.extend_from_slice(piece);
        }
        compressed.extend_from_slice(&FLUSH);
        compressed
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn owned(headers: &[(&str, &str)]) -> Headers {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Two blocks as zlib writes them with the dictionary, the second by what the first said.
    #[test]
    fn blocks_of_other_programs_are_read() {
        let first = b"\x78\xf9\xe3\xc6\xa7\xc2\x02\x25\x3a\x70\x3a\x2b\x29\x4a\x4d\xcc\x85\x16\x25\xac\xa9\xa0\x80\x86\x14\xcb\x45\xa0\x24\
            \xcc\x64\x61\x00\x24\x39\x8b\x20\x91\x98\x09\x4a\xdc\x8c\x06\x00\x00\x00\x00\xff\xff";
        let second = b"\xc2\xaa\x15\x54\x0a\x25\x12\xd2\x09\x00\x00\x00\xff\xff";
        let mut reader = Reader::new();
        assert_eq!(reader.read(first), Ok(owned(&[("streamtype", "error"), ("port", "80"), ("requestid", "0")])));
        assert_eq!(reader.read(second), Ok(owned(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")])));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Reader::new().read(b""), Err(HeaderError::Short));
        assert_eq!(Reader::new().read(b"\x78\x02"), Err(HeaderError::Compression));
        // Another dictionary.
        assert_eq!(Reader::new().read(b"\x78\xf9\xe3\xc6\xa7\xc3"), Err(HeaderError::Compression));
        assert_eq!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'x']), Err(HeaderError::Short));
        assert_eq!(parse(&[0, 0, 1, 0]), Err(HeaderError::TooLong));
        let long = "x".repeat(MAX_BLOCK);
        assert_eq!(Reader::new().read(&Writer::default().write(&[("name", &long)])), Err(HeaderError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_block_after_block(blocks in vec(vec(("[a-z]{0,9}", "\\PC{0,200}"), 0..5), 1..12)) {
            let (mut reader, mut writer) = (Reader::new(), Writer::default());
            for block in blocks {
                let borrowed: Vec<(&str, &str)> = block.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                prop_assert_eq!(reader.read(&writer.write(&borrowed)), Ok(block));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(blocks in vec(vec(any::<u8>(), 0..200), 0..4), with_head: bool) {
            let mut reader = Reader::new();
            reader.begun = with_head;
            for block in blocks {
                let _ = reader.read(&block);
            }
        }
    }
}
