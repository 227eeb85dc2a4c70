//! Removes what containers may have filled: by descriptors, following no link, crossing into no other file system.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::at;

/// Deeper trees are refused: each level holds a descriptor.
const MAX_DEPTH: usize = 512;

/// Opens a directory; its last component is never a link.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(io::Error::from).map_err(at("open", path))
}

/// Removes the entry `name` of the directory `parent` and all below it. An absent entry is fine.
pub fn remove(parent: &Path, name: &str) -> io::Result<()> {
    if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not the name of an entry")));
    }
    let directory = match open_directory(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let device = fstat(&directory)?.st_dev;
    remove_entry(directory.as_fd(), Path::new(name), device, 0).map_err(at("remove", &parent.join(name)))
}

fn remove_entry(directory: BorrowedFd<'_>, name: &Path, device: u64, depth: usize) -> io::Result<()> {
    let found = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        found => found?,
    };
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
        return Ok(unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?);
    }
    if depth >= MAX_DEPTH || found.st_dev != device {
        let reason = if depth >= MAX_DEPTH { "it is too deep" } else { "another file system is mounted there" };
        return Err(io::Error::other(format!("{} is left alone: {reason}", name.display())));
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(directory, name, flags, Mode::empty())?;
    for entry in entries(opened.as_fd())? {
        remove_entry(opened.as_fd(), &entry, device, depth + 1)?;
    }
    Ok(unlinkat(directory, name, UnlinkatFlags::RemoveDir)?)
}

/// The names in an open directory. Goes through the descriptor, so nobody can exchange the directory meanwhile.
pub(crate) fn entries(directory: BorrowedFd<'_>) -> io::Result<Vec<PathBuf>> {
    let listed = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    listed.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
}

/// Unmounts everything at and below `directory`, the newest first, following no link.
pub fn unmount_beneath(directory: &Path) -> io::Result<()> {
    let mounts = fs::read("/proc/self/mountinfo")?;
    let points = mounts.split(|byte| *byte == b'\n').filter_map(mount_point);
    let mut beneath: Vec<_> = points.filter(|point| point.starts_with(directory)).collect();
    beneath.reverse();
    for point in beneath {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(io::Error::from).map_err(at("unmount", &point))?;
    }
    Ok(())
}

/// The fifth field of a line of mountinfo, with its octal escapes undone.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(&plain)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_removed_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (victim, volume) = (root.path().join("victim"), root.path().join("volume"));
        fs::create_dir_all(victim.join("data")).unwrap();
        fs::write(victim.join("data/precious"), "x").unwrap();
        fs::create_dir_all(volume.join("a/b")).unwrap();
        symlink(&victim, volume.join("a/link")).unwrap();
        symlink("../../victim/data/precious", volume.join("a/b/file")).unwrap();
        remove(root.path(), "volume").unwrap();
        assert!(!volume.exists());
        assert_eq!(fs::read_to_string(victim.join("data/precious")).unwrap(), "x");
    }

    #[test]
    fn a_link_in_place_of_the_volume_loses_only_the_link() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("victim")).unwrap();
        fs::write(root.path().join("victim/file"), "x").unwrap();
        symlink(root.path().join("victim"), root.path().join("volume")).unwrap();
        remove(root.path(), "volume").unwrap();
        assert!(root.path().join("victim/file").exists());
        symlink(root.path().join("victim"), root.path().join("parent")).unwrap();
        assert!(remove(&root.path().join("parent"), "file").is_err(), "the parent must not be a link");
    }

    #[test]
    fn only_the_name_of_an_entry_can_be_removed() {
        let root = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "a/b", "/etc"] {
            assert!(remove(root.path(), name).is_err(), "{name}");
        }
        remove(root.path(), "absent").unwrap();
    }

    #[test]
    fn a_mount_inside_is_left_alone() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("volume/inside mount");
        fs::create_dir_all(&inside).unwrap();
        crate::scratch::memory(&inside, Some(1 << 20)).unwrap();
        fs::write(inside.join("file"), "x").unwrap();
        assert!(remove(root.path(), "volume").is_err());
        assert!(inside.join("file").exists());
        unmount_beneath(&root.path().join("volume")).unwrap();
        remove(root.path(), "volume").unwrap();
    }
}
