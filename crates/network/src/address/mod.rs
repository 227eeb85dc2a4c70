//! Which pod has which address, on disk before anyone is told.
//!
//! # Guarantees
//! * An answer was written and synced before it is given.
//! * Answers that are asked for while a write is under way share the next one.

mod book;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kinds::ObjectKey;
use plan::service::Cidr;

use crate::{NetworkError, PodIdentity, kernel};
use book::Book;

const FILE: &str = "addresses.json";

/// The addresses of one instance. The file has one owner; two processes must not open it.
#[derive(Debug)]
pub(crate) struct Addresses {
    path: PathBuf,
    book: Mutex<Numbered>,
    /// The number of the newest change that is on disk; held while writing.
    saved: tokio::sync::Mutex<u64>,
}

/// A book and how often it was changed.
#[derive(Debug)]
struct Numbered {
    book: Book,
    changes: u64,
}

impl Addresses {
    /// Reads what earlier processes gave, or begins.
    pub(crate) async fn open(directory: &Path, cidr: Cidr) -> Result<Self, NetworkError> {
        let path = directory.join(FILE);
        let file = path.clone();
        let book = kernel::call("reading addresses", move || read(&file, cidr)).await?;
        Ok(Self { path, book: Mutex::new(Numbered { book, changes: 0 }), saved: tokio::sync::Mutex::new(0) })
    }

    /// The pod's address: the one it has, else the one kept for its name, else the one that was free longest.
    pub(crate) async fn reserve(&self, pod: &PodIdentity) -> Result<Ipv4Addr, NetworkError> {
        let (address, number) = {
            let mut numbered = self.locked();
            let before = numbered.book.address_of(&pod.key, &pod.uid, pod.keep);
            let address = numbered.book.reserve(&pod.key, &pod.uid, pod.keep).ok_or_else(|| numbered.exhausted(&pod.key))?;
            numbered.changes += u64::from(before != Some(address));
            (address, numbered.changes)
        };
        self.save(number).await?;
        Ok(address)
    }

    /// The pod is gone.
    pub(crate) async fn detach(&self, pod: &PodIdentity) -> Result<(), NetworkError> {
        self.change(|book| book.detach(&pod.key, &pod.uid)).await
    }

    /// The name is no longer anybody's.
    pub(crate) async fn release(&self, key: &ObjectKey) -> Result<(), NetworkError> {
        self.change(|book| book.release(key)).await
    }

    /// All names an address is kept for.
    pub(crate) fn kept(&self) -> Vec<ObjectKey> {
        self.locked().book.kept()
    }

    /// All pods that have an address.
    pub(crate) fn holders(&self) -> Vec<PodIdentity> {
        self.locked().book.holders()
    }

    async fn change(&self, change: impl FnOnce(&mut Book) -> bool) -> Result<(), NetworkError> {
        let number = {
            let mut numbered = self.locked();
            let changed = change(&mut numbered.book);
            numbered.changes += u64::from(changed);
            numbered.changes
        };
        self.save(number).await
    }

    /// Waits until the change with this number is on disk, writing it if nobody does.
    async fn save(&self, number: u64) -> Result<(), NetworkError> {
        let mut saved = self.saved.lock().await;
        if *saved >= number {
            return Ok(());
        }
        let (text, newest) = {
            let numbered = self.locked();
            (numbered.book.to_json(), numbered.changes)
        };
        let path = self.path.clone();
        kernel::call("writing addresses", move || write(&path, &text).map_err(|source| NetworkError::State { path, source })).await?;
        *saved = newest;
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, Numbered> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbered {
    fn exhausted(&self, pod: &ObjectKey) -> NetworkError {
        NetworkError::Exhausted { cidr: self.book.cidr().to_string(), pod: pod.clone(), used: self.book.used() }
    }
}

/// Forgets all addresses.
pub(crate) fn purge(directory: &Path) -> Result<(), NetworkError> {
    let path = directory.join(FILE);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(NetworkError::State { path, source }),
        _ => Ok(()),
    }
}

fn read(path: &Path, cidr: Cidr) -> Result<Book, NetworkError> {
    let failed = |source| NetworkError::State { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(text) => Book::from_json(&text, cidr).map_err(|reason| failed(io::Error::new(io::ErrorKind::InvalidData, reason))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
            Ok(Book::new(cidr))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Replaces the file so that at any instant either the old or the new content is there.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}
