//! The files of volumes on this node: what configuration volumes hold, where scratch space lies, who owns it, which part of
//! a volume a container sees, and how all of it is removed again.
//!
//! What a container can write is hostile: nothing here follows a symbolic link out of the directory it was given. Paths that
//! containers can change are walked by descriptors ([`tree`], [`subpath`]), never by name.
//!
//! Everything here blocks; the node agent calls it off its event loop.

use std::io;
use std::path::Path;

pub mod atomic;
pub mod content;
pub mod host_path;
pub mod local;
pub mod ownership;
pub mod scratch;
pub mod subpath;
pub mod tree;

pub use content::{File, Payload};

/// The error with what was done to which path.
fn at(action: &str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let context = format!("{action} {}", path.display());
    move |error| io::Error::new(error.kind(), format!("{context}: {error}"))
}
