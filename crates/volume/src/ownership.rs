//! Gives a volume to the pod's `fsGroup`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, fstatat};
use nix::unistd::{Gid, fchownat};

use crate::{at, tree};

/// When the whole volume is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangePolicy {
    Always,
    /// Only if the volume's root is not as it should be.
    OnRootMismatch,
}

/// Gives all of a volume to the group, as the policy says.
pub fn apply(root: &Path, gid: u32, read_only: bool, policy: ChangePolicy) -> io::Result<()> {
    let found = fstat(&tree::open_directory(root)?)?;
    let wanted = added_bits(true, read_only).bits();
    let fits = found.st_gid == gid && found.st_mode & wanted == wanted;
    match policy {
        ChangePolicy::OnRootMismatch if fits => Ok(()),
        _ => give(root, gid, read_only),
    }
}

/// Gives a directory and all below it to the group: readable, and writable unless the volume is read-only.
pub(crate) fn give(root: &Path, gid: u32, read_only: bool) -> io::Result<()> {
    let directory = tree::open_directory(root)?;
    give_below(directory.as_fd(), gid, read_only).map_err(at("give to a group", root))?;
    // The root last, so that `OnRootMismatch` sees an interrupted change.
    give_entry(directory.as_fd(), Path::new("."), gid, read_only, true).map_err(at("give to a group", root))
}

fn give_below(directory: BorrowedFd<'_>, gid: u32, read_only: bool) -> io::Result<()> {
    for name in tree::entries(directory)? {
        let found = fstatat(directory, &name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => {
                let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let opened = openat(directory, &name, flags, Mode::empty())?;
                give_below(opened.as_fd(), gid, read_only)?;
                give_entry(opened.as_fd(), Path::new("."), gid, read_only, true)?;
            }
            SFlag::S_IFLNK => chown(directory, &name, gid)?,
            _ => give_file(directory, &name, gid, read_only)?,
        }
    }
    Ok(())
}

/// A file is opened as itself first, so that a link put in its place is not followed.
fn give_file(directory: BorrowedFd<'_>, name: &Path, gid: u32, read_only: bool) -> io::Result<()> {
    let file = openat(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK {
        return chown(directory, name, gid);
    }
    let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    nix::unistd::chown(through.as_str(), None, Some(Gid::from_raw(gid)))?;
    let mode = Mode::from_bits_truncate(fstat(&file)?.st_mode) | added_bits(false, read_only);
    Ok(fchmodat(nix::fcntl::AT_FDCWD, through.as_str(), mode, FchmodatFlags::FollowSymlink)?)
}

fn give_entry(directory: BorrowedFd<'_>, name: &Path, gid: u32, read_only: bool, is_directory: bool) -> io::Result<()> {
    chown(directory, name, gid)?;
    let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_bits_truncate(found.st_mode) | added_bits(is_directory, read_only);
    Ok(fchmodat(directory, name, mode, FchmodatFlags::FollowSymlink)?)
}

fn chown(directory: BorrowedFd<'_>, name: &Path, gid: u32) -> io::Result<()> {
    Ok(fchownat(directory, name, None, Some(Gid::from_raw(gid)), AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// New files of a directory belong to its group.
fn added_bits(is_directory: bool, read_only: bool) -> Mode {
    let access = if read_only { Mode::S_IRUSR | Mode::S_IRGRP } else { Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IWGRP };
    let search = Mode::S_IXUSR | Mode::S_IXGRP | Mode::S_ISGID;
    if is_directory { access | search } else { access }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn as_root() -> bool {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            eprintln!("skipped: changing groups needs root");
        }
        root
    }

    #[test]
    fn the_group_owns_all_and_no_link_is_followed() {
        if !as_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let (volume, victim) = (root.path().join("volume"), root.path().join("victim"));
        fs::create_dir_all(volume.join("d")).unwrap();
        fs::write(volume.join("d/file"), "x").unwrap();
        fs::write(&victim, "x").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&victim, volume.join("d/link")).unwrap();
        apply(&volume, 4242, false, ChangePolicy::Always).unwrap();
        let (directory, file) = (fs::metadata(volume.join("d")).unwrap(), fs::metadata(volume.join("d/file")).unwrap());
        assert_eq!((directory.gid(), directory.mode() & 0o2070), (4242, 0o2070));
        assert_eq!((file.gid(), file.mode() & 0o060), (4242, 0o060));
        let victim = fs::metadata(&victim).unwrap();
        assert_eq!((victim.gid(), victim.mode() & 0o777), (0, 0o600));
    }

    #[test]
    fn a_matching_root_spares_the_walk() {
        if !as_root() {
            return;
        }
        let volume = tempfile::tempdir().unwrap();
        apply(volume.path(), 4242, false, ChangePolicy::OnRootMismatch).unwrap();
        fs::write(volume.path().join("later"), "x").unwrap();
        nix::unistd::chown(&volume.path().join("later"), None, Some(Gid::from_raw(0))).unwrap();
        apply(volume.path(), 4242, false, ChangePolicy::OnRootMismatch).unwrap();
        assert_eq!(fs::metadata(volume.path().join("later")).unwrap().gid(), 0);
        apply(volume.path(), 4242, false, ChangePolicy::Always).unwrap();
        assert_eq!(fs::metadata(volume.path().join("later")).unwrap().gid(), 4242);
    }
}
