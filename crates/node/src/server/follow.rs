//! Reads a log as it grows, across rotation: woken by the kernel, not by a clock.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
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
    next: VecDeque<File>,
    current: Option<File>,
    /// Where the newest entries are written.
    live: PathBuf,
    unfinished: Vec<u8>,
    /// What is still read, in bytes; without a limit, all that comes.
    left: Option<u64>,
}

/// Which part of a log is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    /// The last so many lines of what is there, and what comes after them.
    pub tail: Option<u64>,
    /// What is written from now on counts, too.
    pub grows: bool,
}

impl Lines {
    /// Reads the files: the oldest first, the last is the one that grows.
    pub fn open(paths: Vec<PathBuf>, live: &Path, extent: Extent) -> io::Result<Self> {
        // All before the tail is looked for: nothing that is written or moved away meanwhile makes it longer or shorter.
        let mut files = VecDeque::new();
        for path in paths {
            if let Some(file) = open_if_exists(&path)? {
                files.push_back((file.metadata()?.len(), file));
            }
        }
        let (first, offset) = match extent.tail {
            Some(lines) => tail_start(&files, lines)?,
            None => (0, 0),
        };
        files.drain(..first);
        let there = files.iter().map(|(size, _)| size).sum::<u64>() - offset;
        let mut next: VecDeque<File> = files.into_iter().map(|(_, file)| file).collect();
        let mut current = next.pop_front();
        if let Some(file) = &mut current {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(Self { next, current, live: live.to_owned(), unfinished: Vec::new(), left: (!extent.grows).then_some(there) })
    }

    /// Complete lines that are there now; empty at the end of what was written so far.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let wanted = self.left.map_or(CHUNK, |left| CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)));
            let read = match &mut self.current {
                Some(file) => file.read(&mut chunk[..wanted])?,
                None => 0,
            };
            self.left = self.left.map(|left| left - read as u64);
            if read == 0 {
                if wanted > 0 && self.advance()? {
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
        if let Some(file) = self.next.pop_front() {
            self.current = Some(file);
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

/// The file and the offset in it at which the last so many lines begin, when the files are so large.
fn tail_start(files: &VecDeque<(u64, File)>, mut lines: u64) -> io::Result<(usize, u64)> {
    for (index, (size, file)) in files.iter().enumerate().rev() {
        if lines == 0 {
            return Ok((index, *size));
        }
        let mut end = *size;
        let mut chunk = vec![0; CHUNK];
        // What is behind the last line feed is no line yet.
        let mut has_line = false;
        while end > 0 {
            let start = end.saturating_sub(CHUNK as u64);
            let wanted = usize::try_from(end - start).unwrap_or(CHUNK);
            file.read_exact_at(&mut chunk[..wanted], start)?;
            for position in (0..wanted).rev() {
                // The last line feed ends the last line; each one before begins a line.
                if chunk[position] == b'\n' && std::mem::replace(&mut has_line, true) {
                    lines -= 1;
                    if lines == 0 {
                        return Ok((index, start + position as u64 + 1));
                    }
                }
            }
            end = start;
        }
        // The first line of a file has no line feed before it.
        if has_line {
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
    use std::io::Write;

    use super::*;

    const GROWS: Extent = Extent { tail: None, grows: true };

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
        let mut lines = Lines::open(vec![old.clone(), live.clone()], &live, GROWS).unwrap();
        assert_eq!(all(&mut lines), "a\nb\nc\n");
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
        let tail =
            |count| all(&mut Lines::open(vec![old.clone(), live.clone()], &live, Extent { tail: Some(count), grows: true }).unwrap());
        assert_eq!(
            [tail(0), tail(1), tail(2), tail(3), tail(4), tail(9)],
            ["", "d\n", "c\nd\n", "b\nc\nd\n", "a\nb\nc\nd\n", "a\nb\nc\nd\n"]
        );
    }

    #[test]
    fn what_is_written_after_the_question_is_not_in_the_answer() {
        let root = tempfile::tempdir().unwrap();
        let live = root.path().join("0.log");
        fs::write(&live, "a\nb\n").unwrap();
        let open = |tail, grows| Lines::open(vec![live.clone()], &live, Extent { tail, grows }).unwrap();
        let (mut last, mut whole, mut following) = (open(Some(1), false), open(None, false), open(Some(1), true));
        fs::OpenOptions::new().append(true).open(&live).unwrap().write_all(b"c\nd\n").unwrap();
        assert_eq!([&mut last, &mut whole, &mut following].map(all), ["b\n", "a\nb\n", "b\nc\nd\n"]);
        // Nor is what is written after a rotation.
        fs::rename(&live, root.path().join("0.log.1")).unwrap();
        fs::write(&live, "e\n").unwrap();
        assert_eq!([&mut last, &mut whole, &mut following].map(all), ["", "", "e\n"]);
    }

    #[test]
    fn a_line_that_is_not_whole_yet_is_not_the_last() {
        let root = tempfile::tempdir().unwrap();
        let live = root.path().join("0.log");
        fs::write(&live, "a\nb\nhalf").unwrap();
        assert_eq!(all(&mut Lines::open(vec![live.clone()], &live, Extent { tail: Some(1), grows: false }).unwrap()), "b\n");
    }

    #[tokio::test]
    async fn growth_wakes_the_reader() {
        let root = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::new(root.path()).unwrap();
        fs::write(root.path().join("0.log"), "x").unwrap();
        watcher.changed().await.unwrap();
    }
}
