//! Writes all files of a volume at once: a reader sees the old set or the new one, never a mixture.
//!
//! The files lie in a directory of their own that the link `..data` names; what containers open are links through `..data`.
//! An update writes a new directory and renames one link.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::{Payload, at, tree};

const CURRENT: &str = "..data";
const NEXT: &str = "..data_next";

/// Makes the volume at `directory` hold exactly these files. Returns whether anything changed.
pub fn write(directory: &Path, payload: &Payload, gid: Option<u32>) -> io::Result<bool> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(at("create", directory))?;
    let old = fs::read_link(directory.join(CURRENT)).ok();
    if old.as_ref().is_some_and(|old| holds(&directory.join(old), payload)) {
        return Ok(false);
    }
    let fresh = fresh_name(directory);
    write_files(&directory.join(&fresh), payload)?;
    if let Some(gid) = gid {
        crate::ownership::give(&directory.join(&fresh), gid, true)?;
    }
    let next = directory.join(NEXT);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &next)(error)),
        _ => symlink(&fresh, &next).map_err(at("link", &next))?,
    }
    fs::rename(&next, directory.join(CURRENT)).map_err(at("rename", &next))?;
    link_names(directory, payload)?;
    if let Some(old) = old.as_ref().and_then(|old| old.to_str()) {
        tree::remove(directory, old)?;
    }
    Ok(true)
}

/// A directory name that does not exist yet.
fn fresh_name(directory: &Path) -> String {
    let unused = |number: &u64| !directory.join(format!("..{number}")).exists();
    let number = (1..u64::MAX).find(unused).unwrap_or_default();
    format!("..{number}")
}

/// Whether the directory holds these very files, with these modes.
fn holds(directory: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&String, &crate::File)| {
        let path = directory.join(path);
        // A group that was given the volume adds its own bits.
        let mode = fs::metadata(&path).map(|metadata| metadata.permissions().mode() & 0o777);
        mode.is_ok_and(|mode| mode & file.mode == file.mode) && fs::read(&path).is_ok_and(|data| data == file.data)
    };
    payload.iter().all(same) && count(directory) == Some(payload.len())
}

fn count(directory: &Path) -> Option<usize> {
    let mut files = 0;
    for entry in fs::read_dir(directory).ok()? {
        let entry = entry.ok()?;
        files += if entry.file_type().ok()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Some(files)
}

fn write_files(directory: &Path, payload: &Payload) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(directory).map_err(at("create", directory))?;
    for (path, file) in payload {
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(directory);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(at("create", parent))?;
        let mut options = fs::OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(0o600).open(&path).map_err(at("create", &path))?;
        opened.write_all(&file.data).map_err(at("write", &path))?;
        // Not by the mode of `open`: that is less the process' umask.
        opened.set_permissions(fs::Permissions::from_mode(file.mode)).map_err(at("set the mode of", &path))?;
    }
    Ok(())
}

/// One link per first path component, and none more.
fn link_names(directory: &Path, payload: &Payload) -> io::Result<()> {
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = payload.keys().map(first).collect();
    for entry in fs::read_dir(directory).map_err(at("list", directory))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            let path = directory.join(&name);
            fs::remove_file(&path).map_err(at("remove", &path))?;
        }
    }
    for name in wanted {
        let link = directory.join(&name);
        match symlink(PathBuf::from(CURRENT).join(&name), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at("link", &link)(error)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::File;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |(path, data): &(&str, &str)| ((*path).to_owned(), File { data: data.as_bytes().to_vec(), mode: 0o640 });
        files.iter().map(file).collect()
    }

    fn names(directory: &Path) -> BTreeSet<String> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn files_are_read_through_one_link() {
        let directory = tempfile::tempdir().unwrap();
        assert!(write(directory.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(directory.path().join("d/b")).unwrap(), "2");
        assert_eq!(fs::read_link(directory.path().join("a")).unwrap(), Path::new("..data/a"));
        let mode = fs::metadata(directory.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn the_same_files_again_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &payload(&[("a", "1")]), None).unwrap();
        let before = names(directory.path());
        assert!(!write(directory.path(), &payload(&[("a", "1")]), None).unwrap());
        assert_eq!(names(directory.path()), before);
    }

    #[test]
    fn an_update_swaps_the_whole_set_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &payload(&[("a", "1"), ("gone", "x")]), None).unwrap();
        let open = fs::read_link(directory.path().join(CURRENT)).unwrap();
        assert!(write(directory.path(), &payload(&[("a", "2"), ("new", "y")]), None).unwrap());
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "2");
        let left = names(directory.path());
        assert!(left.contains("new") && !left.contains("gone") && !left.contains(open.to_str().unwrap()));
        assert_eq!(left.len(), 4, "{left:?}");
    }

    #[test]
    fn an_update_that_was_cut_short_is_made_good() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &payload(&[("a", "1")]), None).unwrap();
        symlink("..nowhere", directory.path().join(NEXT)).unwrap();
        write(directory.path(), &payload(&[("a", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "2");
    }
}
