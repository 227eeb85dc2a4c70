//! Reads a log as it grows, across rotation: woken by the kernel, not by a clock.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::descriptor::reader;

/// What is read at once.
const CHUNK: usize = 64 << 10;
/// A line that is longer is given in pieces.
const MAX_LINE: usize = 1 << 20;

/// The files of a log from some place on: complete lines, in order.
#[derive(Debug)]
pub(super) struct Lines {
    /// Files that come after the current one.
    next: std::collections::VecDeque<PathBuf>,
    current: Option<File>,
    /// Where the newest entries are written.
    live: PathBuf,
    unfinished: Vec<u8>,
}

impl Lines {
    /// Reads the files (the oldest first, the last is the one that grows) from the last `tail` lines on.
    pub fn open(files: Vec<PathBuf>, live: &Path, tail: Option<u64>) -> io::Result<Self> {
        let (first, offset) = match tail {
            Some(lines) => tail_start(&files, lines)?,
            None => (0, 0),
        };
        let mut next: std::collections::VecDeque<_> = files.into_iter().skip(first).collect();
        let mut current = next.pop_front().map(File::open).transpose()?;
        if let Some(file) = &mut current {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(Self { next, current, live: live.to_owned(), unfinished: Vec::new() })
    }

    /// Complete lines that are there now; empty at the end of what was written so far.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = match &mut self.current {
                Some(file) => file.read(&mut chunk)?,
                None => 0,
            };
            if read == 0 {
                if self.advance()? {
                    continue;
                }
                return Ok(Vec::new());
            }
            self.unfinished.extend_from_slice(&chunk[..read]);
            let end = self.unfinished.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1);
            match end {
                Some(end) => return Ok(self.unfinished.drain(..end).collect()),
                None if self.unfinished.len() > MAX_LINE => return Ok(std::mem::take(&mut self.unfinished)),
                None => {}
            }
        }
    }

    /// Goes on to the next file, if there is one: an older that was listed, or a new one in place of this.
    fn advance(&mut self) -> io::Result<bool> {
        if let Some(path) = self.next.pop_front() {
            self.current = open_if_exists(&path)?;
            return Ok(true);
        }
        let Some(live) = open_if_exists(&self.live)? else { return Ok(false) };
        let is_same = match &self.current {
            Some(current) => {
                let (one, other) = (current.metadata()?, live.metadata()?);
                (one.ino(), one.dev()) == (other.ino(), other.dev())
            }
            None => false,
        };
        if !is_same {
            self.current = Some(live);
        }
        Ok(!is_same)
    }
}

fn open_if_exists(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// The file and the offset in it at which the last so many lines begin.
fn tail_start(files: &[PathBuf], mut lines: u64) -> io::Result<(usize, u64)> {
    for (index, path) in files.iter().enumerate().rev() {
        let mut file = File::open(path)?;
        let mut end = file.metadata()?.len();
        if lines == 0 {
            return Ok((index, end));
        }
        let mut chunk = vec![0; CHUNK];
        let mut is_last_byte = true;
        while end > 0 {
            let start = end.saturating_sub(CHUNK as u64);
            let wanted = usize::try_from(end - start).unwrap_or(CHUNK);
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut chunk[..wanted])?;
            for position in (0..wanted).rev() {
                // The line feed at the very end ends the last line; each one before begins a line.
                if chunk[position] == b'\n' && !std::mem::take(&mut is_last_byte) {
                    lines -= 1;
                    if lines == 0 {
                        return Ok((index, start + position as u64 + 1));
                    }
                }
                is_last_byte = false;
            }
            end = start;
        }
        // The first line of a file has no line feed before it.
        if !is_last_byte {
            lines -= 1;
            if lines == 0 {
                return Ok((index, 0));
            }
        }
    }
    Ok((0, 0))
}

/// Tells when something in a directory changes.
#[derive(Debug)]
pub(super) struct Watcher(Receiver);

impl Watcher {
    /// Watches the directory of a log.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(directory, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        Ok(Self(reader(inotify.into())?))
    }

    /// Waits for the next change since the last call.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        self.0.read(&mut events).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn all(lines: &mut Lines) -> String {
        let mut text = Vec::new();
        loop {
            match lines.read().unwrap() {
                read if read.is_empty() => return String::from_utf8(text).unwrap(),
                read => text.extend(read),
            }
        }
    }

    #[test]
    fn a_log_is_read_across_rotation_and_growth() {
        let root = tempfile::tempdir().unwrap();
        let (live, old) = (root.path().join("0.log"), root.path().join("0.log.1"));
        fs::write(&old, "a\nb\n").unwrap();
        fs::write(&live, "c\nd").unwrap();
        let mut lines = Lines::open(vec![old.clone(), live.clone()], &live, None).unwrap();
        assert_eq!(all(&mut lines), "a\nb\nc\n");
        use std::io::Write;
        fs::OpenOptions::new().append(true).open(&live).unwrap().write_all(b"!\n").unwrap();
        assert_eq!(all(&mut lines), "d!\n");
        fs::OpenOptions::new().append(true).open(&live).unwrap().write_all(b"e\n").unwrap();
        fs::rename(&live, root.path().join("0.log.2")).unwrap();
        fs::write(&live, "f\n").unwrap();
        assert_eq!(all(&mut lines), "e\nf\n");
    }

    #[test]
    fn the_tail_may_span_files() {
        let root = tempfile::tempdir().unwrap();
        let (live, old) = (root.path().join("0.log"), root.path().join("0.log.1"));
        fs::write(&old, "a\nb\n").unwrap();
        fs::write(&live, "c\nd\n").unwrap();
        let tail = |count| all(&mut Lines::open(vec![old.clone(), live.clone()], &live, Some(count)).unwrap());
        assert_eq!(
            [tail(0), tail(1), tail(2), tail(3), tail(4), tail(9)],
            ["", "d\n", "c\nd\n", "b\nc\nd\n", "a\nb\nc\nd\n", "a\nb\nc\nd\n"]
        );
    }

    #[tokio::test]
    async fn growth_wakes_the_reader() {
        let root = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::new(root.path()).unwrap();
        fs::write(root.path().join("0.log"), "x").unwrap();
        watcher.changed().await.unwrap();
    }
}
