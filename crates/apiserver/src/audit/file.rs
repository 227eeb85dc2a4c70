//! The file that records are written to, by a thread of its own, and the files that were full before it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::Counts;
use super::queue::Line;

/// Where records are written, and how much of it is kept.
#[derive(Clone, Debug)]
pub struct Place {
    pub path: PathBuf,
    /// When a file is this long, in bytes, the next one begins.
    pub size: u64,
    /// How many full files are kept.
    pub backups: u32,
}

/// The file that is written now.
pub struct Log {
    place: Place,
    file: BufWriter<File>,
    written: u64,
}

impl Log {
    /// Goes on with a file, or begins it. Only its owner may read it.
    pub fn open(place: Place) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&place.path)?;
        let written = file.metadata()?.len();
        Ok(Self { place, file: BufWriter::new(file), written })
    }

    /// Writes a line.
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.written > 0 && self.written + line.len() as u64 > self.place.size {
            self.turn()?;
        }
        if line.len() >= self.file.capacity() {
            return self.long_line(line);
        }
        // As a whole, or not at all: this only goes to the buffer, once there is room in it. What is in it is tried again.
        self.file.write_all(line)?;
        self.written += line.len() as u64;
        Ok(())
    }

    /// Writes what the buffer does not hold. Half a line would spoil the next one.
    fn long_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.flush()?;
        let file = self.file.get_mut();
        let before = file.metadata()?.len();
        file.write_all(line).inspect_err(|_| drop(file.set_len(before)))?;
        self.written += line.len() as u64;
        Ok(())
    }

    /// Moves the full file away and begins the next.
    fn turn(&mut self) -> io::Result<()> {
        self.file.flush()?;
        // It is not there if it was moved before, but the next could not be begun.
        if self.place.path.try_exists()? {
            self.make_room()?;
        }
        *self = Self::open(self.place.clone())?;
        Ok(())
    }

    fn make_room(&self) -> io::Result<()> {
        let Place { path, backups, .. } = &self.place;
        for number in (1..*backups).rev() {
            move_if_there(&numbered(path, number), &numbered(path, number + 1))?;
        }
        match backups {
            0 => std::fs::remove_file(path),
            _ => std::fs::rename(path, numbered(path, 1)),
        }
    }

    /// Writes what comes until nobody can send any more. What can't be written is counted, and told in the program's own log.
    pub fn run(mut self, mut lines: mpsc::Receiver<Line>, counts: &Counts) {
        while let Some(first) = lines.blocking_recv() {
            let (mut next, mut refused) = (Some(first), None);
            while let Some(line) = next {
                refused = self.line(&line.text).inspect_err(|_| counts.failed()).err().or(refused);
                drop(line);
                next = lines.try_recv().ok();
            }
            refused = self.file.flush().inspect_err(|_| counts.failed()).err().or(refused);
            if let Some(error) = refused {
                tracing::error!(path = %self.place.path.display(), %error, "requests can't be put on record");
            }
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::queue::Queue;
    use super::*;

    #[test]
    fn each_record_that_the_disk_refuses_is_counted() {
        // Never full by itself: such a place can't be moved away.
        let place = Place { path: "/dev/full".into(), size: u64::MAX, backups: 0 };
        let (queue, waiting) = Queue::new(3, 1 << 20);
        for _ in 0..3 {
            // Too long to be kept for later.
            queue.try_put(vec![b'x'; 1 << 16].into()).unwrap();
        }
        drop(queue);
        let counts = Counts::default();
        Log::open(place).unwrap().run(waiting, &counts);
        assert_eq!(counts.told(), (0, 3));
    }

    #[test]
    fn full_files_make_room_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let place = Place { path: path.clone(), size: 20, backups: 2 };
        for number in 0..4 {
            // Opened anew each time: what is there counts.
            let mut log = Log::open(place.clone()).unwrap();
            for part in ["a", "b"] {
                log.line(format!("line-{number}-{part}\n").as_bytes()).unwrap();
            }
            log.file.flush().unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "line-3-a\nline-3-b\n");
        assert_eq!([1, 2].map(|number| read(&numbered(&path, number))), ["line-2-a\nline-2-b\n", "line-1-a\nline-1-b\n"]);
        assert!(!numbered(&path, 3).exists());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        // Moved away, though the next could not be begun: that is tried again, and nothing moves on.
        let mut log = Log::open(place).unwrap();
        std::fs::remove_file(&path).unwrap();
        log.line(&[b'x'; 1 << 16]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 16);
        assert_eq!([1, 2].map(|number| read(&numbered(&path, number))), ["line-2-a\nline-2-b\n", "line-1-a\nline-1-b\n"]);
    }
}
