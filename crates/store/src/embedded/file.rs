//! The files of a store: their names, their headers, and how they come into being.
//!
//! `log-<base>` holds the commits after revision `base`; `checkpoint-<base>` the whole state at it. Both begin with a header of 40
//! bytes. A file is written under a temporary name, synced, then renamed: what has its right name is whole.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use twox_hash::XxHash64;

use crate::Revision;

pub(super) const HEADER: usize = 40;

const MAGIC: [u8; 8] = *b"Sfstore\x01";

/// The ending of files that are not yet complete.
pub(super) const INCOMPLETE: &str = ".new";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Log,
    Checkpoint,
}

impl Kind {
    const fn tag(self) -> [u8; 8] {
        match self {
            Self::Log => *b"log     ",
            Self::Checkpoint => *b"chkpoint",
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Log => "log-",
            Self::Checkpoint => "checkpoint-",
        }
    }
}

/// The file of a kind that begins at a revision. Names sort as revisions do.
pub(super) fn path(dir: &Path, kind: Kind, base: Revision) -> PathBuf {
    dir.join(format!("{}{:020}", kind.prefix(), base.0))
}

/// What a file name stands for.
pub(super) fn parse(name: &str) -> Option<(Kind, Revision)> {
    [Kind::Log, Kind::Checkpoint].into_iter().find_map(|kind| {
        let number = name.strip_prefix(kind.prefix())?;
        (number.len() == 20).then(|| number.parse().ok().map(|base| (kind, Revision(base)))).flatten()
    })
}

/// A file that doesn't have its name yet, its header written.
pub(super) struct Incomplete {
    pub(super) file: File,
    pub(super) seed: u64,
    path: PathBuf,
}

impl Incomplete {
    pub(super) fn create(dir: &Path, kind: Kind, base: Revision) -> io::Result<Self> {
        let path = path(dir, kind, base);
        let seed = random();
        let mut name = path.clone().into_os_string();
        name.push(INCOMPLETE);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(name)?;
        file.write_all(&encode(kind, base, seed))?;
        Ok(Self { file, seed, path })
    }

    /// Gives the file its name; it is on disk under it afterwards.
    pub(super) fn complete(self) -> io::Result<(File, PathBuf)> {
        self.file.sync_all()?;
        let mut name = self.path.clone().into_os_string();
        name.push(INCOMPLETE);
        fs::rename(name, &self.path)?;
        sync_parent(&self.path)?;
        Ok((self.file, self.path))
    }
}

/// Makes the names in a file's directory durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A number nobody can foresee.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

fn encode(kind: Kind, base: Revision, seed: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&kind.tag());
    bytes[16..24].copy_from_slice(&base.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&seed.to_le_bytes());
    let hash = XxHash64::oneshot(0, &bytes[..32]);
    bytes[32..].copy_from_slice(&hash.to_le_bytes());
    bytes
}

/// Reads a file's header; its seed, or `None` when it isn't the header of this file.
pub(super) fn read_header(file: &mut File, kind: Kind, base: Revision) -> io::Result<Option<u64>> {
    let mut bytes = [0; HEADER];
    match file.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let seed = bytes[24..32].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Ok((bytes == encode(kind, base, seed)).then_some(seed))
}
