//! Space that lives as long as its pod: `emptyDir`, on disk or in memory, and the directory that secrets are written to.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::at;

/// A directory on disk that every user of the pod may write.
pub fn disk(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory).map_err(at("create", directory))?;
    open_to_all(directory)
}

/// Memory of at most so many bytes, shared by the pod's containers. Mounted once.
pub fn memory(directory: &Path, limit: Option<u64>) -> io::Result<()> {
    fs::create_dir_all(directory).map_err(at("create", directory))?;
    let size = limit.map_or_else(String::new, |bytes| format!(",size={bytes}"));
    mount_once(directory, &format!("mode=0777{size}"))
}

/// Memory that only root can enter, for secrets: they never reach a disk.
pub fn secrets(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory).map_err(at("create", directory))?;
    mount_once(directory, "mode=0700")
}

fn mount_once(directory: &Path, options: &str) -> io::Result<()> {
    if is_mount_of_memory(directory)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some(options)).map_err(io::Error::from).map_err(at("mount memory on", directory))
}

/// It is a file system of its own, in memory.
fn is_mount_of_memory(directory: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let parent = directory.parent().unwrap_or(directory);
    let own = fs::metadata(directory)?.dev() != fs::metadata(parent)?.dev();
    Ok(own && statfs(directory)?.filesystem_type() == TMPFS_MAGIC)
}

/// Not by the mode of `mkdir`: that is less the process' umask.
pub(crate) fn open_to_all(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).map_err(at("set the mode of", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_limited_and_mounted_once() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volume");
        memory(&volume, Some(64 << 10)).unwrap();
        fs::write(volume.join("small"), "x").unwrap();
        memory(&volume, Some(64 << 10)).unwrap();
        assert!(volume.join("small").exists(), "the second call mounted over the first");
        assert!(fs::write(volume.join("large"), vec![0; 128 << 10]).is_err());
        crate::tree::unmount_beneath(root.path()).unwrap();
        assert!(!volume.join("small").exists());
    }

    #[test]
    fn disk_space_is_open_to_every_user_of_the_pod() {
        let root = tempfile::tempdir().unwrap();
        disk(&root.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(root.path().join("a/b")).unwrap().permissions().mode() & 0o777, 0o777);
    }
}
