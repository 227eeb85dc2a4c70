//! Paths inside a container's root. Its symbolic links can't lead out, whatever they say and whoever changes them meanwhile.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// The kernel can't tell whether `..` stays inside while anybody mounts or renames anything: then it asks to try again.
const MAX_RACES: usize = 1000;

/// The directory that will be `/`.
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Refers to an existing file or directory.
    pub(super) fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlag::empty()).map_err(Into::into)
    }

    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        for _ in 0..MAX_RACES {
            match openat2(&self.0, path, how) {
                Err(Errno::EAGAIN) => std::thread::yield_now(),
                done => return done,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Refers to a directory; it and its parents are made if they don't exist.
    pub(super) fn make_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.advance(&path)? {
                Ok(directory) => return Ok(directory),
                Err(resolved) => path = resolved,
            }
        }
        Err(Errno::ELOOP.into())
    }

    /// One attempt. Where a symbolic link leads nowhere, gives the path to try instead.
    fn advance(&self, path: &Path) -> io::Result<Result<OwnedFd, PathBuf>> {
        match self.open(path, OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {}
            done => return Ok(Ok(done?)),
        }
        let mut made = PathBuf::new();
        for part in path.components() {
            let parent = self.open(&made, OFlag::O_DIRECTORY)?;
            made.push(part);
            let Component::Normal(name) = part else { continue };
            match self.open(&made, OFlag::O_DIRECTORY) {
                Err(Errno::ENOENT) => {}
                done => {
                    done?;
                    continue;
                }
            }
            match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                Err(Errno::EEXIST) => return Ok(Err(through_link(&parent, path, &made, name)?)),
                done => done?,
            }
        }
        Ok(Ok(self.open(path, OFlag::O_DIRECTORY)?))
    }

    /// Refers to a file; an empty one is made if it doesn't exist.
    pub(super) fn make_file(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.open(&path, OFlag::empty()) {
                Err(Errno::ENOENT) => {}
                done => return done.map_err(Into::into),
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EISDIR.into()) };
            let directory = self.make_directory(parent)?;
            match create_file(&directory, name) {
                // A link that leads nowhere.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => path = through_link(&directory, &path, &path, name)?,
                done => done?,
            }
        }
        Err(Errno::ELOOP.into())
    }
}

/// The rest of `path` below what the dangling link `made` points to.
fn through_link(parent: &OwnedFd, path: &Path, made: &Path, name: &OsStr) -> io::Result<PathBuf> {
    let target = PathBuf::from(readlinkat(parent, name)?);
    let rest = path.strip_prefix(made).map_err(io::Error::other)?;
    // An absolute target replaces everything: it starts at the container's root again.
    let target = made.parent().unwrap_or(Path::new("/")).join(target);
    Ok(if rest.as_os_str().is_empty() { target } else { target.join(rest) })
}

/// Makes an empty file, never through a symbolic link.
pub(super) fn create_file(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
    openat(parent, name, flags, Mode::from_bits_truncate(0o644))?;
    Ok(())
}

pub(super) fn is_directory(file: impl AsFd) -> io::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(file)?.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR)
}

/// The device number of what a descriptor refers to.
pub(super) fn device(file: impl AsFd) -> io::Result<u64> {
    Ok(fstat(file)?.st_rdev)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(directory: &Path) -> Root {
        Root::new(fs::File::open(directory).expect("opens").into())
    }

    #[test]
    fn directories_are_made_inside_whatever_the_links_say() {
        let outside = tempfile::tempdir().expect("a directory");
        let inside = outside.path().join("root");
        fs::create_dir(&inside).expect("a directory");
        symlink("../../../../..", inside.join("up")).expect("a link");
        symlink(outside.path(), inside.join("absolute")).expect("a link");
        root(&inside).make_directory(Path::new("/up/made")).expect("makes");
        root(&inside).make_directory(Path::new("/absolute/made")).expect("makes");
        root(&inside).make_directory(Path::new("/../made-too")).expect("makes");
        assert!(inside.join("made").is_dir() && inside.join("made-too").is_dir());
        assert!(!outside.path().join("made").exists());
    }

    #[test]
    fn a_dangling_link_is_followed_inside() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("var")).expect("a directory");
        symlink("/run", directory.path().join("var/run")).expect("a link");
        root(directory.path()).make_directory(Path::new("/var/run/secrets")).expect("makes");
        assert!(directory.path().join("run/secrets").is_dir());
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        symlink("b", directory.path().join("a")).expect("a link");
        symlink("a", directory.path().join("b")).expect("a link");
        assert!(root(directory.path()).make_directory(Path::new("/a/x")).is_err());
    }

    #[test]
    fn a_file_is_made_with_its_parents() {
        let directory = tempfile::tempdir().expect("a directory");
        symlink("/etc/app/hosts", directory.path().join("link")).expect("a link");
        let made = root(directory.path()).make_file(Path::new("/link")).expect("makes");
        assert!(!is_directory(&made).expect("is there"));
        assert!(directory.path().join("etc/app/hosts").is_file());
    }
}
