//! A directory tree that is changed only within itself.
//!
//! Every path is resolved one component at a time, relative to open directories, and never through a symbolic link: a link is read
//! and its target resolved by the same walk, with the tree's root as `/` and as the parent of itself. So whatever a layer or an
//! archive contains, nothing outside the tree is touched. Nobody else changes the tree meanwhile.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

/// Symbolic links followed in one path, as in the kernel.
const MOST_LINKS: usize = 40;

/// Directories within directories. Each is held open while a path is resolved.
const MOST_LEVELS: usize = 255;

const XATTR_OPAQUE: &str = "trusted.overlay.opaque";

/// What to do about directories that a path names and that don't exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Make them, like those of the trees below if they have them.
    Make,
    Refuse,
}

/// A tree, and the trees that it is laid over.
pub(crate) struct Tree {
    root: OwnedFd,
    /// The topmost first.
    below: Vec<OwnedFd>,
    /// Whether owners are kept, which takes root.
    owners: bool,
    /// The directory resolved last: archives list the files of a directory together.
    last: Option<(Vec<u8>, OwnedFd)>,
}

/// An owner, as far as owners are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Tree {
    pub(crate) fn open(root: &Path, below: &[&Path], owners: bool) -> io::Result<Self> {
        let open = |path: &Path| fs::openat(CWD, path, DIRECTORY, Mode::empty());
        let below = below.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
        Ok(Self { root: open(root)?, below, owners, last: None })
    }

    /// The directory a path names.
    pub(crate) fn directory(&mut self, path: &[u8], missing: Missing) -> io::Result<BorrowedFd<'_>> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            let directory = Walk::new(self, missing).to(path)?;
            self.last = Some((path.to_vec(), directory));
        }
        let (_, directory) = self.last.as_ref().ok_or(Errno::NOENT)?;
        Ok(directory.as_fd())
    }

    /// Forgets what paths led to: something other than a plain file was made or removed.
    pub(crate) fn changed(&mut self) {
        self.last = None;
    }

    /// Opens a file for reading, wherever links within the tree lead.
    pub(crate) fn read(&mut self, path: &[u8]) -> io::Result<File> {
        let mut path = path.to_vec();
        for _ in 0..MOST_LINKS {
            let (parent, name) = split(&path)?;
            let directory = self.directory(parent, Missing::Refuse)?;
            match fs::openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
                Ok(file) if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) == FileType::RegularFile => return Ok(file.into()),
                Ok(_) => return Err(Errno::INVAL.into()),
                Err(Errno::LOOP) => {
                    let target = fs::readlinkat(directory, name, Vec::new())?;
                    path = [if target.as_bytes().starts_with(b"/") { b"" } else { parent }, b"/", target.as_bytes()].concat();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::LOOP.into())
    }

    /// Gives something its owner and mode, in the order in which they don't undo each other.
    pub(crate) fn set_owner_and_mode(&self, at: BorrowedFd<'_>, name: &OsStr, owner: Owner, mode: Option<u32>) -> io::Result<()> {
        if self.owners {
            fs::chownat(at, name, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if let Some(mode) = mode {
            // Nothing here is a link: the caller gives no mode to those.
            fs::chmodat(at, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
        }
        Ok(())
    }
}

/// The directory and the name of what a path names.
pub(crate) fn split(path: &[u8]) -> io::Result<(&[u8], &OsStr)> {
    let path = trimmed(path);
    let (parent, name) = path.iter().rposition(|byte| *byte == b'/').map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::INVAL.into());
    }
    Ok((parent, OsStr::from_bytes(name)))
}

/// A path without slashes, and single dots, at its ends.
pub(crate) fn trimmed(mut path: &[u8]) -> &[u8] {
    loop {
        path = match path {
            [b'/', rest @ ..] | [rest @ .., b'/'] | [b'.', b'/', rest @ ..] | [rest @ .., b'/', b'.'] => rest,
            b"." => b"",
            _ => return path,
        }
    }
}

/// The resolution of one path.
struct Walk<'a> {
    tree: &'a Tree,
    missing: Missing,
    /// The directories from below the root to where the walk stands.
    opened: Vec<(OsString, OwnedFd)>,
    /// Components still to go.
    ahead: VecDeque<OsString>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(tree: &'a Tree, missing: Missing) -> Self {
        Self { tree, missing, opened: Vec::new(), ahead: VecDeque::new(), links: 0 }
    }

    fn to(mut self, path: &[u8]) -> io::Result<OwnedFd> {
        self.expect(path);
        while let Some(name) = self.ahead.pop_front() {
            match name.as_bytes() {
                b"" | b"." => {}
                b".." => drop(self.opened.pop()),
                _ => self.enter(name)?,
            }
        }
        match self.opened.pop() {
            Some((_, directory)) => Ok(directory),
            None => self.tree.root.try_clone(),
        }
    }

    /// Puts the components of a path before what is still to go.
    fn expect(&mut self, path: &[u8]) {
        for component in path.rsplit(|byte| *byte == b'/') {
            self.ahead.push_front(OsString::from_vec(component.to_vec()));
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.opened.last().map_or(self.tree.root.as_fd(), |(_, directory)| directory.as_fd())
    }

    fn enter(&mut self, name: OsString) -> io::Result<()> {
        match fs::openat(self.here(), &name, DIRECTORY, Mode::empty()) {
            Ok(_) if self.opened.len() >= MOST_LEVELS => Err(Errno::NAMETOOLONG.into()),
            Ok(directory) => {
                self.opened.push((name, directory));
                Ok(())
            }
            Err(Errno::NOENT) if self.missing == Missing::Make => {
                self.make(&name)?;
                self.retry(name)
            }
            Err(Errno::NOTDIR) => self.follow(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Bounded like links: what was made is there the next time.
    fn retry(&mut self, name: OsString) -> io::Result<()> {
        self.ahead.push_front(name);
        Ok(())
    }

    /// Where there is no directory: a link, or a whiteout that something is made behind.
    fn follow(&mut self, name: OsString) -> io::Result<()> {
        match fs::readlinkat(self.here(), &name, Vec::new()) {
            Ok(_) if self.links >= MOST_LINKS => Err(Errno::LOOP.into()),
            Ok(target) => {
                self.links += 1;
                if target.as_bytes().starts_with(b"/") {
                    self.opened.clear();
                }
                self.expect(target.as_bytes());
                Ok(())
            }
            Err(Errno::INVAL) if self.missing == Missing::Make && is_whiteout(self.here(), &name)? => {
                fs::unlinkat(self.here(), &name, AtFlags::empty())?;
                fs::mkdirat(self.here(), &name, Mode::from_raw_mode(0o755))?;
                set_opaque(self.here(), &name)?;
                self.retry(name)
            }
            Err(Errno::INVAL) => Err(Errno::NOTDIR.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a directory that the archive doesn't mention: as it is in the trees below, or else with the usual mode.
    fn make(&self, name: &OsStr) -> io::Result<()> {
        let here = self.here();
        match self.below(name) {
            Some(Below::Directory(stat)) => {
                fs::mkdirat(here, name, Mode::from_raw_mode(0o755))?;
                let owner = Owner { user: stat.st_uid, group: stat.st_gid };
                self.tree.set_owner_and_mode(here, name, owner, Some(stat.st_mode))
            }
            Some(Below::Link(target)) => Ok(fs::symlinkat(target, here, name)?),
            None => Ok(fs::mkdirat(here, name, Mode::from_raw_mode(0o755))?),
        }
    }

    /// What the trees below have at a name within the directory the walk stands in.
    fn below(&self, name: &OsStr) -> Option<Below> {
        self.tree.below.iter().find_map(|root| {
            let mut directory = root.try_clone().ok()?;
            for (component, _) in &self.opened {
                directory = fs::openat(&directory, component, DIRECTORY, Mode::empty()).ok()?;
            }
            let stat = fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Some(Some(Below::Directory(stat))),
                FileType::Symlink => Some(fs::readlinkat(&directory, name, Vec::new()).ok().map(|target| Below::Link(target.into_bytes()))),
                _ => Some(None),
            }
        })?
    }
}

enum Below {
    Directory(Stat),
    Link(Vec<u8>),
}

/// Hides what the trees below have at a name.
pub(crate) fn make_whiteout(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(fs::mknodat(at, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

pub(crate) fn is_whiteout(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Hides what the trees below have within a directory.
pub(crate) fn set_opaque(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let directory = fs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    Ok(fs::fsetxattr(&directory, XATTR_OPAQUE, b"y", fs::XattrFlags::empty())?)
}

/// What is at a name, links not followed.
pub(crate) fn kind_at(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<FileType>> {
    match fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes whatever is at a name, with all that is in it.
pub(crate) fn remove_at(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = fs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(&directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(OsString::from_vec(entry.file_name().to_bytes().to_vec()));
        }
    }
    for name in names {
        remove_at(directory.as_fd(), &name)?;
    }
    Ok(fs::unlinkat(at, name, AtFlags::REMOVEDIR)?)
}
