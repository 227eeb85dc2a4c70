//! Images: pulled from registries or loaded from archives, verified, unpacked once, and mounted as the roots of containers.
//!
//! Everything in an image was written by strangers. Digests and sizes are verified before anything gets its name; the modules
//! `layer` and `tree` are where hostile archives end.

mod archive;
pub mod build;
mod compression;
mod content;
mod digest;
mod documents;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod layer;
mod layers;
mod mount;
mod name;
mod pull;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;

pub use layer::UnpackError;

use content::{Content, Record};
use layers::OneAtATime;

/// The images of a node. Cheap to clone. Several processes may use one directory.
#[derive(Clone, Debug)]
pub struct Images {
    content: Content,
    /// Layers being fetched.
    layers: OneAtATime,
}

/// An image whose layers are unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its names, in normal form.
    pub references: Vec<String>,
    /// Of its manifest; of its configuration if it came without a manifest.
    pub digest: String,
    /// Of its configuration and layers as they are transferred, in bytes.
    pub size: u64,
    pub config: ImageConfig,
}

/// What a container of an image is started with, unless the pod says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// As `NAME=value`.
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    /// As `user`, `uid`, `user:group` or `uid:gid`; names are those of the image's `/etc/passwd` and `/etc/group`.
    pub user: Option<String>,
    /// As `6379/tcp`.
    pub exposed_ports: Vec<String>,
    pub volumes: Vec<String>,
    pub stop_signal: Option<String>,
}

/// Credentials for a registry.
#[derive(Clone)]
pub enum Auth {
    Basic { user: String, password: String },
    Bearer(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
        })
    }
}

/// How far the download of a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The layer's digest.
    pub layer: String,
    /// In bytes.
    pub done: u64,
    pub total: u64,
}

/// Why something could not be done with an image.
#[derive(Debug, Error)]
pub enum ImageError {
    #[error("{reference:?} is not a name for an image")]
    BadReference { reference: String, source: oci_client::ParseError },
    #[error("cannot {step} of {reference}")]
    Registry { reference: String, step: &'static str, source: Box<oci_client::errors::OciDistributionError> },
    #[error("the registry {registry} took too long to {step}")]
    Deadline { registry: String, step: &'static str },
    #[error("{what} has the digest {actual}, not {expected}")]
    WrongDigest { what: &'static str, expected: String, actual: String },
    #[error("content {digest} does not have the {expected} bytes it should have")]
    WrongSize { digest: String, expected: u64 },
    #[error("content {digest} has {size} bytes; at most {most} are possible")]
    TooLarge { digest: String, size: u64, most: u64 },
    #[error("image {digest} is not supported: {reason}")]
    UnsupportedImage { digest: String, reason: String },
    #[error("{what} of the image cannot be understood")]
    Document { what: &'static str, source: serde_json::Error },
    #[error("layer {layer} cannot be unpacked")]
    Unpack { layer: String, source: UnpackError },
    #[error("the archive {} cannot be unpacked", .path.display())]
    Archive { path: PathBuf, source: Box<UnpackError> },
    #[error("{} is not an archive of images: {reason}", .path.display())]
    NoArchive { path: PathBuf, reason: String },
    #[error("there is no image {0}")]
    NoSuchImage(String),
    #[error("{0:?} is not an identifier for a container")]
    BadContainer(String),
    #[error("container {0} is mounted from another image")]
    Mounted(String),
    #[error("cannot mount or unmount the root of container {container}")]
    Mount { container: String, source: io::Error },
    #[error("cannot {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the task ended early")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ImageError> + Send + 'static) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await?
}

fn normal(reference: &str) -> Result<oci_client::Reference, ImageError> {
    name::normal(reference).map_err(|source| ImageError::BadReference { reference: reference.to_owned(), source })
}

/// Whether an image is meant by what someone wrote: a name, a name with a digest, or a digest alone.
fn is_meant(record: &Record, given: &str, reference: Option<&oci_client::Reference>) -> bool {
    if given == record.digest.as_str() || given == record.id.as_str() {
        return true;
    }
    let Some(reference) = reference else { return false };
    let same_repository = |known: &String| {
        name::normal(known).is_ok_and(|known| known.registry() == reference.registry() && known.repository() == reference.repository())
    };
    match reference.digest() {
        Some(digest) => digest == record.digest.as_str() && record.references.iter().any(same_repository),
        None => record.references.contains(&reference.whole()),
    }
}

/// What someone wrote as a reference; nothing when it is a digest alone.
fn as_reference(given: &str) -> Result<Option<oci_client::Reference>, ImageError> {
    if digest::Digest::try_from(given.to_owned()).is_ok() { Ok(None) } else { normal(given).map(Some) }
}

fn find_in(records: &[Record], given: &str) -> Result<Option<Record>, ImageError> {
    let reference = as_reference(given)?;
    Ok(records.iter().find(|record| is_meant(record, given, reference.as_ref())).cloned())
}

/// Takes a name off its image, or all names when the image is meant by a digest.
fn forget(records: &mut Vec<Record>, given: &str) -> Result<(), ImageError> {
    let meant = find_in(records, given)?.ok_or_else(|| ImageError::NoSuchImage(given.to_owned()))?;
    let name = as_reference(given)?.filter(|reference| reference.digest().is_none()).map(|reference| reference.whole());
    for record in records.iter_mut().filter(|record| record.digest == meant.digest) {
        record.references.retain(|known| name.as_ref().is_some_and(|name| name != known));
    }
    records.retain(|record| !record.references.is_empty());
    Ok(())
}

impl Images {
    /// Opens the images kept in a directory, which is created if absent.
    pub async fn open(dir: PathBuf) -> Result<Self, ImageError> {
        let content = blocking(move || Content::open(dir)).await?;
        Ok(Self { content, layers: OneAtATime::default() })
    }

    /// An image that is here: by name in any spelling, by name and digest, or by digest.
    pub async fn find(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let (content, reference) = (self.content.clone(), reference.to_owned());
        blocking(move || Ok(find_in(&content.records()?, &reference)?.map(|record| record.image()))).await
    }

    /// Gets an image from its registry; layers that are here are not transferred again.
    pub async fn pull(&self, reference: &str, auth: Option<Auth>, progress: Option<mpsc::Sender<Progress>>) -> Result<Image, ImageError> {
        let reference = normal(reference)?;
        let pull = pull::Pull { content: &self.content, layers: &self.layers, reference, auth, progress };
        Ok(pull.run().await?.image())
    }

    /// Loads the images of an archive: an OCI layout or the output of `docker save`, compressed or not, or a layout's directory.
    pub async fn load(&self, archive: &Path) -> Result<Vec<Image>, ImageError> {
        let (content, archive) = (self.content.clone(), archive.to_owned());
        let records = blocking(move || archive::load(&content, &archive)).await?;
        Ok(records.iter().map(Record::image).collect())
    }

    /// All images that are here.
    pub async fn list(&self) -> Result<Vec<Image>, ImageError> {
        let content = self.content.clone();
        blocking(move || Ok(content.records()?.iter().map(Record::image).collect())).await
    }

    /// Removes a name, and the image with its last name. By digest, it removes the image with all its names. Containers keep the
    /// layers they are mounted from.
    pub async fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let (content, reference) = (self.content.clone(), reference.to_owned());
        blocking(move || {
            content.change(|records| forget(records, &reference))??;
            content.collect_garbage()
        })
        .await
    }

    /// Mounts the root file system of a container: the image's layers below, what the container writes above.
    pub async fn mount(&self, image: &Image, container: &str) -> Result<PathBuf, ImageError> {
        let (content, digest, container) = (self.content.clone(), image.digest.clone(), container.to_owned());
        blocking(move || {
            let record = content.records()?.into_iter().find(|record| record.digest.as_str() == digest);
            let record = record.ok_or(ImageError::NoSuchImage(digest))?;
            mount::mount_root(&content, &record.layers, &container)
        })
        .await
    }

    /// Unmounts the root of a container and removes what it has written. Nothing to do is fine.
    pub async fn unmount(&self, container: &str) -> Result<(), ImageError> {
        let (content, container) = (self.content.clone(), container.to_owned());
        blocking(move || mount::unmount_root(&content, &container)).await
    }

    /// The containers that have a root here, mounted or left over from before the machine was restarted.
    pub async fn mounted(&self) -> Result<Vec<String>, ImageError> {
        let content = self.content.clone();
        blocking(move || content.container_ids()).await
    }
}
