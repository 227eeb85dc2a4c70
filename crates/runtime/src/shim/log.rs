//! A container's log file: each line with its time and stream, in the CRI format.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longer lines are written in parts.
const MAX_LINE: usize = 16 << 10;

/// The file. What can't be written is lost: a full disk must not stop the container.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: open(path)? })
    }

    /// Begins a new file at the same path.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    pub(super) fn write(&mut self, records: &[u8]) {
        let _lost = self.file.write_all(records);
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// One stream's output, cut into records. Holds at most one unfinished line.
#[derive(Debug)]
pub(super) struct Lines {
    stream: &'static str,
    unfinished: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: &'static str) -> Self {
        Self { stream, unfinished: Vec::new() }
    }

    /// Adds what the container has written; returns the records that are complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], now: i64) -> Vec<u8> {
        let time = timestamp(now);
        let mut records = Vec::with_capacity(bytes.len() + 64);
        while !bytes.is_empty() {
            let room = MAX_LINE - self.unfinished.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.record(&mut records, &time, b'F', &window[..end]);
                    bytes = &bytes[end + 1..];
                }
                None if window.len() > room => {
                    self.record(&mut records, &time, b'P', &window[..room]);
                    bytes = &bytes[room..];
                }
                None => {
                    self.unfinished.extend_from_slice(window);
                    bytes = &[];
                }
            }
        }
        records
    }

    /// The last line, if it did not end in a line feed.
    pub(super) fn finish(&mut self, now: i64) -> Vec<u8> {
        let mut records = Vec::new();
        if !self.unfinished.is_empty() {
            self.record(&mut records, &timestamp(now), b'F', &[]);
        }
        records
    }

    fn record(&mut self, records: &mut Vec<u8>, time: &str, tag: u8, end: &[u8]) {
        for part in [time.as_bytes(), b" ", self.stream.as_bytes(), b" ", &[tag], b" ", &self.unfinished, end, b"\n"] {
            records.extend_from_slice(part);
        }
        self.unfinished = Vec::new();
    }
}

/// RFC 3339 in UTC with nanoseconds, for times since 1970.
fn timestamp(nanoseconds: i64) -> String {
    let (seconds, fraction) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Year, month and day of a day since 1970. Years are counted from March, so that the leap day is the last day of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_of_0 = days + 719_468;
    let (era, day) = (since_march_of_0.div_euclid(146_097), since_march_of_0.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    if month < 10 { (era * 400 + year, month + 3, day) } else { (era * 400 + year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn text(records: Vec<u8>) -> String {
        String::from_utf8(records).expect("text")
    }

    #[test]
    fn times_are_written_as_people_expect() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(1_709_210_096_000_000_789), "2024-02-29T12:34:56.000000789Z");
        assert_eq!(timestamp(951_868_799_999_999_999), "2000-02-29T23:59:59.999999999Z");
    }

    #[test]
    fn a_line_is_written_when_it_is_complete() {
        let mut lines = Lines::new("stdout");
        assert_eq!(text(lines.push(b"hel", 0)), "");
        assert_eq!(
            text(lines.push(b"lo\n\nwor", 0)),
            "1970-01-01T00:00:00.000000000Z stdout F hello\n1970-01-01T00:00:00.000000000Z stdout F \n"
        );
        assert_eq!(text(lines.finish(0)), "1970-01-01T00:00:00.000000000Z stdout F wor\n");
        assert_eq!(text(lines.finish(0)), "");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_the_output_is_cut(lengths in vec(0..3 * MAX_LINE, 0..5), step in 1..2 * MAX_LINE) {
            let written: Vec<u8> = lengths.iter().flat_map(|length| [vec![b'x'; *length], b"\n".to_vec()].concat()).collect();
            let mut lines = Lines::new("stdout");
            let records = text(written.chunks(step).flat_map(|chunk| lines.push(chunk, 0)).collect());
            let mut joined = String::new();
            for record in records.lines() {
                let fields: Vec<&str> = record.splitn(4, ' ').collect();
                prop_assert!(fields[3].len() <= MAX_LINE);
                joined += fields[3];
                joined += if fields[2] == "F" { "\n" } else { "" };
            }
            prop_assert_eq!(joined.as_bytes(), written);
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_record() {
        let mut lines = Lines::new("stdout");
        let records = text(lines.push(&[vec![b'x'; MAX_LINE], b"\n".to_vec()].concat(), 0));
        assert_eq!(records.lines().count(), 1);
        assert!(records.contains(" F "));
    }
}
