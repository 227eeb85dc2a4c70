//! Unpacking an archive into a [`Tree`]: the part that reads what strangers wrote.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use tar::{Archive, Entry, EntryType};
use thiserror::Error;

use crate::tree::{self, Missing, Owner, Tree};

/// What the extended headers before one entry may take, in bytes.
const HEADERS: u64 = 1 << 20;

const LONGEST_PATH: usize = 4096;

/// What one archive may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All files together, in bytes.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// The bounds of a layer: beyond those of any image in use.
pub(crate) const LAYER: Limits = Limits { bytes: 64 << 30, entries: 2_000_000 };

/// Why an archive was not unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    #[error("{path:?} would leave the directory")]
    Escapes { path: String },
    #[error("{path:?} is too long a path")]
    PathTooLong { path: String },
    #[error("{path:?} hides nothing that can be hidden")]
    BadWhiteout { path: String },
    #[error("{path:?} is a hard link to {target:?}, which the layer does not hold")]
    LinkMissing { path: String, target: String },
    #[error("{path:?} is of a kind that layers cannot hold: {kind:?}")]
    Unsupported { path: String, kind: u8 },
    #[error("it holds more than {most} bytes")]
    TooLarge { most: u64 },
    #[error("it holds more than {most} entries")]
    TooMany { most: u64 },
    #[error("cannot unpack {path:?}")]
    Entry { path: String, source: io::Error },
    #[error("the archive is damaged")]
    Damaged(#[source] io::Error),
}

/// Whether an archive is a layer, or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Names beginning with `.wh.` hide what is below; owners, times and attributes are kept.
    Layer,
    Plain,
}

/// Bounds what is read between the contents of two entries.
struct Metered<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an extended header is too long"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - length as u64);
        Ok(length)
    }
}

/// Unpacks a whole archive.
pub(crate) fn unpack(from: impl Read, tree: &mut Tree, meaning: Meaning, limits: Limits) -> Result<(), UnpackError> {
    let left = Rc::new(Cell::new(HEADERS));
    let mut archive = Archive::new(Metered { inner: from, left: Rc::clone(&left) });
    let mut unpacking = Unpacking { tree, meaning, limits, bytes: 0, times: Vec::new() };
    let mut entries = 0;
    for entry in archive.entries().map_err(UnpackError::Damaged)? {
        let mut entry = entry.map_err(UnpackError::Damaged)?;
        entries += 1;
        if entries > limits.entries {
            return Err(UnpackError::TooMany { most: limits.entries });
        }
        left.set(u64::MAX);
        unpacking.entry(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(UnpackError::Damaged)?;
        left.set(HEADERS);
    }
    unpacking.set_times()
}

struct Unpacking<'a> {
    tree: &'a mut Tree,
    meaning: Meaning,
    limits: Limits,
    bytes: u64,
    /// The directories whose time of change is set when nothing changes them any more.
    times: Vec<(Vec<u8>, u64)>,
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The path of an entry, relative to the root.
fn checked(path: &[u8]) -> Result<&[u8], UnpackError> {
    if path.len() >= LONGEST_PATH {
        return Err(UnpackError::PathTooLong { path: text(&path[..100]) });
    }
    if path.split(|byte| *byte == b'/').any(|component| component == b"..") {
        return Err(UnpackError::Escapes { path: text(path) });
    }
    Ok(tree::trimmed(path))
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        let whole = entry.path_bytes().into_owned();
        let path = checked(&whole)?;
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > self.limits.bytes {
            return Err(UnpackError::TooLarge { most: self.limits.bytes });
        }
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            return Ok(());
        }
        let failed = |source| UnpackError::Entry { path: text(path), source };
        if path.is_empty() {
            return self.root(entry).map_err(failed);
        }
        let (parent, name) = tree::split(path).map_err(failed)?;
        match name.as_bytes().strip_prefix(b".wh.") {
            Some(hidden) if self.meaning == Meaning::Layer => self.whiteout(path, parent, hidden),
            _ => self.plain(entry, path, parent, name),
        }
    }

    /// The root itself: only its metadata can be told.
    fn root<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        if entry.header().entry_type() != EntryType::Directory {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let root = self.tree.directory(b"", Missing::Refuse)?.try_clone_to_owned()?;
        self.describe(entry, &root, OsStr::new("."), true)
    }

    fn whiteout(&mut self, path: &[u8], parent: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        match hidden {
            b".wh..opq" => self.hide_all(parent),
            // Marks of a file system that once held layers; they say nothing.
            [b'.', b'w', b'h', b'.', ..] => Ok(()),
            b"" | b"." | b".." => return Err(UnpackError::BadWhiteout { path: text(path) }),
            name => self.hide(parent, OsStr::from_bytes(name)),
        }
        .map_err(|source| UnpackError::Entry { path: text(path), source })
    }

    fn hide_all(&mut self, directory: &[u8]) -> io::Result<()> {
        let directory = self.tree.directory(directory, Missing::Make)?;
        tree::set_opaque(directory, OsStr::new("."))
    }

    /// Hides what is below; what this layer itself has there stays.
    fn hide(&mut self, parent: &[u8], name: &OsStr) -> io::Result<()> {
        let directory = self.tree.directory(parent, Missing::Make)?;
        match tree::kind_at(directory, name)? {
            None => tree::make_whiteout(directory, name),
            Some(FileType::Directory) => tree::set_opaque(directory, name),
            Some(_) => Ok(()),
        }
    }

    fn plain<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &[u8], parent: &[u8], name: &OsStr) -> Result<(), UnpackError> {
        let failed = |source| UnpackError::Entry { path: text(path), source };
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::Char | EntryType::Block) {
            tracing::warn!(path = text(path), "left out a device that an image holds");
            return Ok(());
        }
        let at = self.tree.directory(parent, Missing::Make).and_then(|at| at.try_clone_to_owned()).map_err(failed)?;
        let behind_whiteout = self.make_room(&at, name, kind).map_err(failed)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(entry, &at, name).map_err(failed)?,
            EntryType::Directory => {
                self.make_directory(&at, name, behind_whiteout).map_err(failed)?;
                self.times.push((path.to_vec(), entry.header().mtime().unwrap_or(0)));
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                fs::symlinkat(&*target, &at, name).map_err(|errno| failed(errno.into()))?;
                self.tree.changed();
            }
            EntryType::Fifo => {
                fs::mknodat(&at, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0).map_err(|errno| failed(errno.into()))?
            }
            EntryType::Link => return self.link(entry, path, &at, name),
            other => return Err(UnpackError::Unsupported { path: text(path), kind: other.as_byte() }),
        }
        self.describe(entry, &at, name, kind != EntryType::Symlink).map_err(failed)
    }

    /// Removes what an entry replaces: everything but a directory by a directory. True when it was a whiteout.
    fn make_room(&mut self, at: &OwnedFd, name: &OsStr, kind: EntryType) -> io::Result<bool> {
        let found = match tree::kind_at(at.as_fd(), name)? {
            None => return Ok(false),
            Some(FileType::Directory) if kind == EntryType::Directory => return Ok(false),
            Some(found) => found,
        };
        let whiteout = found == FileType::CharacterDevice;
        self.tree.changed();
        tree::remove_at(at.as_fd(), name)?;
        Ok(whiteout)
    }

    fn make_directory(&mut self, at: &OwnedFd, name: &OsStr, opaque: bool) -> io::Result<()> {
        match fs::mkdirat(at, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        if opaque { tree::set_opaque(at.as_fd(), name) } else { Ok(()) }
    }

    fn file<R: Read>(&mut self, entry: &mut Entry<'_, R>, at: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(fs::openat(at, name, flags, Mode::from_raw_mode(0o600))?);
        io::copy(entry, &mut file).map(|_| ())
    }

    fn link<R: Read>(&mut self, entry: &Entry<'_, R>, path: &[u8], at: &OwnedFd, name: &OsStr) -> Result<(), UnpackError> {
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let missing = || UnpackError::LinkMissing { path: text(path), target: text(&target) };
        let (parent, target_name) = tree::split(checked(&target)?).map_err(|_| missing())?;
        let from = self.tree.directory(parent, Missing::Refuse).map_err(|_| missing())?;
        fs::linkat(from, target_name, at, name, AtFlags::empty()).map_err(|_| missing())
    }

    /// Owner, mode, attributes and time, in the order in which they don't undo each other.
    fn describe<R: Read>(&mut self, entry: &mut Entry<'_, R>, at: &OwnedFd, name: &OsStr, has_mode: bool) -> io::Result<()> {
        let header = entry.header();
        let (mode, mtime) = (header.mode()?, header.mtime().unwrap_or(0));
        if self.meaning == Meaning::Plain {
            let mode = if header.entry_type() == EntryType::Directory { 0o700 } else { 0o600 };
            let nobody = Owner { user: 0, group: 0 };
            return self.tree.set_owner_and_mode(at.as_fd(), name, nobody, has_mode.then_some(mode));
        }
        let number = |id: io::Result<u64>| id.and_then(|id| u32::try_from(id).map_err(io::Error::other));
        let owner = Owner { user: number(header.uid())?, group: number(header.gid())? };
        self.tree.set_owner_and_mode(at.as_fd(), name, owner, has_mode.then_some(mode))?;
        let attributes = attributes(entry)?;
        if has_mode && !attributes.is_empty() {
            set_attributes(at, name, &attributes)?;
        }
        Ok(fs::utimensat(at, name, &changed_at(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn set_times(self) -> Result<(), UnpackError> {
        for (path, mtime) in self.times {
            let failed = |source| UnpackError::Entry { path: text(&path), source };
            let (parent, name) = tree::split(&path).map_err(failed)?;
            let at = self.tree.directory(parent, Missing::Refuse).map_err(failed)?;
            // What was a directory may have been replaced since.
            match fs::utimensat(at, name, &changed_at(mtime), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        Ok(())
    }
}

fn changed_at(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The extended attributes that images may carry: capabilities and what users define. Those that steer overlay file systems or
/// access control are not for images to set.
fn attributes<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut attributes = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
            let allowed = name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."));
            if allowed {
                attributes.push((name.to_owned(), extension.value_bytes().to_vec()));
            } else {
                tracing::debug!(name, "left out an attribute that an image holds");
            }
        }
    }
    Ok(attributes)
}

fn set_attributes(at: &OwnedFd, name: &OsStr, attributes: &[(String, Vec<u8>)]) -> io::Result<()> {
    let file = fs::openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    for (name, value) in attributes {
        fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
