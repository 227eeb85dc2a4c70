//! Which part of a volume a container sees (`subPath`), though containers may exchange directories for links meanwhile.
//!
//! The path is resolved by the kernel in one step that can't leave the volume, and what was found is bound to a place that
//! only root can change. From then on nothing depends on names in the volume.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, mkdirat};
use thiserror::Error;

use crate::{at, tree};

/// Why a part of a volume can't be shown.
#[derive(Debug, Error)]
pub enum SubPathError {
    #[error("subPath {0:?} must be relative and must not contain '..'")]
    NotRelative(String),
    #[error("subPath {0:?} leads out of its volume")]
    Escapes(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Binds `subpath` of the volume at `root` to `target`. A missing part is made as a directory.
pub fn bind(root: &Path, subpath: &str, target: &Path) -> Result<(), SubPathError> {
    let part = open_part(root, subpath)?;
    let is_directory = SFlag::from_bits_truncate(fstat(&part).map_err(io::Error::from)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
    tree::unmount_beneath(target)?;
    make_target(target, is_directory)?;
    let source = format!("/proc/self/fd/{}", part.as_raw_fd());
    mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(io::Error::from)
        .map_err(at("bind a part of a volume to", target))?;
    Ok(())
}

fn make_target(target: &Path, is_directory: bool) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(at("create", parent))?;
    }
    match is_directory {
        true => fs::create_dir_all(target).map_err(at("create", target)),
        false => fs::OpenOptions::new().create(true).append(true).open(target).map(drop).map_err(at("create", target)),
    }
}

/// Opens the part as itself, making missing directories on the way.
fn open_part(root: &Path, subpath: &str) -> Result<OwnedFd, SubPathError> {
    let parts: Vec<_> = Path::new(subpath).components().filter(|part| *part != Component::CurDir).collect();
    if parts.iter().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(SubPathError::NotRelative(subpath.to_owned()));
    }
    let volume = tree::open_directory(root)?;
    let refuse = |error| match error {
        Errno::EXDEV | Errno::ELOOP => SubPathError::Escapes(subpath.to_owned()),
        error => SubPathError::Io(at("open", &root.join(subpath))(error.into())),
    };
    match open_beneath(volume.as_fd(), Path::new(subpath)) {
        Err(Errno::ENOENT) => {}
        opened => return opened.map_err(refuse),
    }
    // Who may use the volume may use what is made in it.
    let mode = Mode::from_bits_truncate(fstat(&volume).map_err(io::Error::from)?.st_mode);
    let mut reached = volume;
    for part in parts {
        let name = Path::new(part.as_os_str());
        reached = match open_beneath(reached.as_fd(), name) {
            Err(Errno::ENOENT) => make_directory(reached.as_fd(), name, mode).map_err(refuse)?,
            opened => opened.map_err(refuse)?,
        };
    }
    Ok(reached)
}

/// The mode is set through the descriptor of what was opened: that of `mkdir` is less the process' umask, and the name may be
/// exchanged at any time.
fn make_directory(parent: BorrowedFd<'_>, name: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o750)) {
        Ok(()) => {
            let made = open_beneath(parent, name)?;
            fchmodat(AT_FDCWD, format!("/proc/self/fd/{}", made.as_raw_fd()).as_str(), mode, FchmodatFlags::FollowSymlink)?;
            Ok(made)
        }
        Err(Errno::EEXIST) => open_beneath(parent, name),
        Err(error) => Err(error),
    }
}

/// Links are followed only as far as they stay beneath the directory.
fn open_beneath(directory: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let how =
        OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(directory, path, how)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_leave_the_volume_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volume");
        fs::create_dir_all(volume.join("inside")).unwrap();
        fs::create_dir(root.path().join("outside")).unwrap();
        symlink("/", volume.join("absolute")).unwrap();
        symlink("../outside", volume.join("relative")).unwrap();
        symlink("/proc/self/root", volume.join("magic")).unwrap();
        symlink("loop", volume.join("loop")).unwrap();
        symlink("inside", volume.join("fine")).unwrap();
        for path in ["absolute/etc", "absolute", "relative", "relative/new", "magic", "loop", "magic/etc/passwd"] {
            assert!(matches!(open_part(&volume, path), Err(SubPathError::Escapes(_))), "{path}");
        }
        assert!(open_part(&volume, "fine").is_ok());
        assert!(fs::read_dir(root.path().join("outside")).unwrap().next().is_none(), "nothing was made outside");
    }

    #[test]
    fn paths_with_dots_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for path in ["../x", "a/../../x", "/etc"] {
            assert!(matches!(open_part(root.path(), path), Err(SubPathError::NotRelative(_))), "{path}");
        }
    }

    #[test]
    fn missing_directories_are_made() {
        let root = tempfile::tempdir().unwrap();
        open_part(root.path(), "a/b/c").unwrap();
        assert!(root.path().join("a/b/c").is_dir());
        let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
        assert_eq!(mode(&root.path().join("a/b/c")), mode(root.path()));
    }

    #[test]
    fn a_racer_that_swaps_links_never_gets_out() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volume");
        fs::create_dir_all(volume.join("real")).unwrap();
        fs::create_dir(root.path().join("secret")).unwrap();
        let secret = fs::metadata(root.path().join("secret")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let racer = || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = fs::remove_dir(volume.join("part"));
                    let _ = symlink(root.path().join("secret"), volume.join("part"));
                    let _ = fs::remove_file(volume.join("part"));
                    let _ = fs::create_dir(volume.join("part"));
                }
            };
            scope.spawn(racer);
            for _ in 0..2000 {
                if let Ok(opened) = open_part(&volume, "part") {
                    let found = fstat(&opened).unwrap();
                    assert_ne!(found.st_ino, std::os::unix::fs::MetadataExt::ino(&secret));
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn what_was_bound_stays_though_the_name_is_exchanged() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let (volume, target) = (root.path().join("volume"), root.path().join("bound/0"));
        fs::create_dir_all(volume.join("part")).unwrap();
        fs::write(volume.join("part/file"), "x").unwrap();
        bind(&volume, "part", &target).unwrap();
        fs::rename(volume.join("part"), volume.join("moved")).unwrap();
        symlink("/", volume.join("part")).unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "x");
        bind(&volume, "moved/file", &root.path().join("bound/1")).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("bound/1")).unwrap(), "x");
        tree::unmount_beneath(root.path()).unwrap();
    }
}
