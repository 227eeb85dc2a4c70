//! Directories of this node as persistent volumes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{at, scratch, tree};

/// Makes the directory of a volume; an existing one is kept as it is.
pub fn create(root: &Path, name: &str) -> io::Result<PathBuf> {
    let directory = directory(root, name)?;
    fs::create_dir_all(root).map_err(at("create", root))?;
    match fs::create_dir(&directory) {
        Ok(()) => scratch::open_to_all(&directory)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(at("create", &directory)(error)),
    }
    Ok(directory)
}

/// Removes a volume and all that is in it. Nothing to do is fine.
pub fn remove(root: &Path, name: &str) -> io::Result<()> {
    directory(root, name)?;
    tree::remove(root, name)
}

/// Where a volume lies.
pub fn directory(root: &Path, name: &str) -> io::Result<PathBuf> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not the name of a volume")));
    }
    Ok(root.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_keeps_its_data_until_it_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = create(root.path(), "pvc-1").unwrap();
        fs::write(directory.join("file"), "x").unwrap();
        create(root.path(), "pvc-1").unwrap();
        assert!(directory.join("file").exists());
        remove(root.path(), "pvc-1").unwrap();
        remove(root.path(), "pvc-1").unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn names_can_not_leave_the_root() {
        let root = tempfile::tempdir().unwrap();
        for name in ["", "..", "../x", "a/b", "/etc", "."] {
            assert!(create(root.path(), name).is_err() && remove(root.path(), name).is_err(), "{name}");
        }
    }
}
