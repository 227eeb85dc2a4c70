//! Paths of the node that a pod asks for.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use thiserror::Error;

/// Why the path can't be used.
#[derive(Debug, Error)]
pub enum HostPathError {
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    WrongType { path: String, wanted: &'static str },
    #[error("hostPath type {0:?} is not known")]
    UnknownType(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Checks that the path is what its type says, and makes it if the type says so.
pub fn prepare(path: &Path, kind: &str) -> Result<(), HostPathError> {
    let found = fs::metadata(path).map(|metadata| metadata.file_type());
    let absent = matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
    let (wanted, fits): (_, fn(&fs::FileType) -> bool) = match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if absent => return Ok(fs::create_dir_all(path)?),
        "FileOrCreate" if absent => return Ok(fs::File::create(path).map(drop)?),
        "Directory" | "DirectoryOrCreate" => ("directory", fs::FileType::is_dir),
        "File" | "FileOrCreate" => ("file", fs::FileType::is_file),
        "Socket" => ("socket file", FileTypeExt::is_socket),
        "CharDevice" => ("character device", FileTypeExt::is_char_device),
        "BlockDevice" => ("block device", FileTypeExt::is_block_device),
        unknown => return Err(HostPathError::UnknownType(unknown.to_owned())),
    };
    match found.is_ok_and(|found| fits(&found)) {
        true => Ok(()),
        false => Err(HostPathError::WrongType { path: path.display().to_string(), wanted }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("d");
        assert!(prepare(&path, "Directory").is_err());
        prepare(&path, "DirectoryOrCreate").unwrap();
        prepare(&path, "Directory").unwrap();
        assert!(prepare(&path, "File").is_err());
        assert!(prepare(&path, "Sock").is_err());
        prepare(&root.path().join("f"), "FileOrCreate").unwrap();
        prepare(&root.path().join("f"), "File").unwrap();
        prepare(Path::new("/dev/null"), "CharDevice").unwrap();
        prepare(&root.path().join("absent"), "").unwrap();
    }
}
