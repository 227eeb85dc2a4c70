//! What a shim keeps on disk, for a server that comes after its death.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Sandbox;

/// The content of `state.json` in a pod's directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// Which boot of the machine this belongs to: another boot makes it void.
    pub(crate) boot: String,
    pub(crate) sandbox: Sandbox,
}

/// The pod's memory file system, shared by its containers as `/dev/shm`.
pub(crate) fn shared_memory(directory: &Path) -> PathBuf {
    directory.join("shm")
}

/// What names this boot of the machine.
pub(crate) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

impl Saved {
    /// Replaces the file: a reader sees the old or the new one.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join("state.json.new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, directory.join("state.json"))
    }

    /// `None`: the shim had not come to that.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(directory.join("state.json")) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
