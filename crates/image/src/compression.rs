//! Compressed streams, known by their first bytes: media types lie.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a stream contains, decompressed if it was compressed.
pub(crate) fn decompressed<'a>(mut from: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let begin = from.fill_buf()?;
    if begin.starts_with(&GZIP) {
        Ok(Box::new(MultiGzDecoder::new(from)))
    } else if begin.starts_with(&ZSTD) || is_skippable(begin) {
        Ok(Box::new(Zstandard::Between(from)))
    } else {
        Ok(Box::new(from))
    }
}

/// Frames of Zstandard that carry no data.
fn is_skippable(bytes: &[u8]) -> bool {
    matches!(bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// A stream of one frame after another.
enum Zstandard<R: BufRead> {
    Between(R),
    Within(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    Done,
}

impl<R: BufRead> Read for Zstandard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Done) {
                Self::Done => return Ok(0),
                Self::Between(mut from) => *self = next_frame(&mut from)?.map_or(Self::Done, |()| Self::Between(from)).begin()?,
                Self::Within(mut decoder) => match decoder.read(buffer)? {
                    0 if !buffer.is_empty() => *self = Self::Between(decoder.into_inner()),
                    length => {
                        *self = Self::Within(decoder);
                        return Ok(length);
                    }
                },
            }
        }
    }
}

impl<R: BufRead> Zstandard<R> {
    fn begin(self) -> io::Result<Self> {
        match self {
            Self::Between(from) => Ok(Self::Within(Box::new(StreamingDecoder::new(from).map_err(io::Error::other)?))),
            other => Ok(other),
        }
    }
}

/// Skips what carries no data; `None` at the end.
fn next_frame(from: &mut impl BufRead) -> io::Result<Option<()>> {
    loop {
        let begin = from.fill_buf()?;
        if begin.is_empty() {
            return Ok(None);
        }
        if !is_skippable(begin) {
            return Ok(Some(()));
        }
        let mut header = [0; 8];
        from.read_exact(&mut header)?;
        let length = u64::from(u32::from_le_bytes([header[4], header[5], header[6], header[7]]));
        io::copy(&mut from.by_ref().take(length), &mut io::sink())?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        decompressed(stream)?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn streams_are_decompressed_by_what_they_are() {
        let (head, tail) = (b"head ".repeat(10_000), b"tail ".repeat(10_000));
        let both = [&head[..], &tail].concat();
        let skippable = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        assert_eq!(read(&both).unwrap(), both);
        assert_eq!(read(&[gzip(&head), gzip(&tail)].concat()).unwrap(), both);
        let frames = [skippable.clone(), zstandard(&head), skippable.clone(), zstandard(&tail), skippable].concat();
        assert_eq!(read(&frames).unwrap(), both);
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn truncated_streams_are_refused() {
        let text = b"some text ".repeat(1000);
        for stream in [gzip(&text), zstandard(&text)] {
            assert!(read(&stream[..stream.len() - 5]).is_err());
        }
    }
}
