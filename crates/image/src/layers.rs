//! From the layers of an image to directories that overlay file systems are made of.
//!
//! A layer is unpacked once, beneath the name of its chain: what it means depends on the layers below it. Images that share their
//! lower layers share the directories.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::content::{Content, Record, failed, make_dir};
use crate::digest::{Digest, Hashing};
use crate::documents::{Configuration, ImageManifest};
use crate::layer::{self, Limits, Meaning};
use crate::tree::Tree;
use crate::{ImageError, compression};

/// The most layers an image may have.
const MOST_LAYERS: usize = 256;

/// An image whose documents are known and checked, and whose layers are still to come.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Of the manifest, or of the configuration where there is no manifest.
    pub(crate) digest: Digest,
    pub(crate) id: Digest,
    pub(crate) size: u64,
    pub(crate) configuration: Configuration,
    /// The name of each layer when unpacked, the lowest first.
    pub(crate) chains: Vec<Digest>,
}

impl Plan {
    pub(crate) fn new(digest: Digest, id: Digest, size: u64, configuration: Configuration) -> Result<Self, ImageError> {
        let layers = configuration.rootfs.diff_ids.len();
        if layers == 0 || layers > MOST_LAYERS {
            return Err(ImageError::UnsupportedImage { digest: digest.to_string(), reason: format!("it has {layers} layers") });
        }
        let native = crate::documents::Platform::native();
        if configuration.os != native.os || configuration.architecture != native.architecture {
            let reason = format!(
                "it is for {}/{}, this machine is {}/{}",
                configuration.os, configuration.architecture, native.os, native.architecture
            );
            return Err(ImageError::UnsupportedImage { digest: digest.to_string(), reason });
        }
        let chains = chains(&configuration.rootfs.diff_ids);
        Ok(Self { digest, id, size, configuration, chains })
    }

    /// The plan for a manifest whose configuration is at hand.
    pub(crate) fn of_manifest(digest: Digest, manifest: &ImageManifest, configuration: &[u8]) -> Result<Self, ImageError> {
        let parsed: Configuration =
            serde_json::from_slice(configuration).map_err(|source| ImageError::Document { what: "the configuration", source })?;
        if parsed.rootfs.diff_ids.len() != manifest.layers.len() {
            let reason = "its manifest and its configuration tell different layers".to_owned();
            return Err(ImageError::UnsupportedImage { digest: digest.to_string(), reason });
        }
        let size = manifest.layers.iter().map(|layer| layer.size).fold(manifest.config.size, u64::saturating_add);
        Self::new(digest, manifest.config.digest.clone(), size, parsed)
    }

    /// What is unpacked, checked and named now, beneath these references.
    pub(crate) fn record(self, references: Vec<String>) -> Record {
        let config = self.configuration.execution();
        Record { references, digest: self.digest, id: self.id, size: self.size, layers: self.chains, config }
    }

    pub(crate) fn diff_id(&self, layer: usize) -> &Digest {
        &self.configuration.rootfs.diff_ids[layer]
    }

    /// Unpacks one layer, unless it is there. The layers below it are.
    pub(crate) fn unpack(&self, content: &Content, layer: usize, from: File, limits: Limits) -> Result<(), ImageError> {
        let chain = &self.chains[layer];
        if content.layer(chain).is_dir() {
            return Ok(());
        }
        let workspace = content.workspace()?;
        let root = workspace.path().join("root");
        make_dir(&root)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&root, mode).map_err(failed("change", &root))?;
        let below: Vec<_> = self.chains[..layer].iter().rev().map(|chain| content.layer(chain)).collect();
        let below: Vec<&Path> = below.iter().map(AsRef::as_ref).collect();
        let mut tree = Tree::open(&root, &below, rustix::process::geteuid().is_root()).map_err(failed("open", &root))?;
        self.unpack_into(&mut tree, layer, from, limits)?;
        content.adopt_layer(&root, chain)
    }

    fn unpack_into(&self, tree: &mut Tree, layer: usize, from: File, limits: Limits) -> Result<(), ImageError> {
        let expected = self.diff_id(layer);
        let unpacking = |source| ImageError::Unpack { layer: expected.to_string(), source };
        let damaged = |error| unpacking(layer::UnpackError::Damaged(error));
        let stream = compression::decompressed(BufReader::with_capacity(256 << 10, from)).map_err(damaged)?;
        let mut stream = Hashing::new(stream);
        layer::unpack(&mut stream, tree, Meaning::Layer, limits).map_err(unpacking)?;
        drain(&mut stream).map_err(damaged)?;
        let (_, actual, _) = stream.finish();
        if actual == *expected {
            Ok(())
        } else {
            Err(ImageError::WrongDigest { what: "an unpacked layer", expected: expected.to_string(), actual: actual.to_string() })
        }
    }
}

/// Reads what follows the end of an archive: padding, and not without bound.
fn drain(stream: &mut impl Read) -> io::Result<()> {
    const MOST: u64 = 16 << 20;
    let padding = io::copy(&mut stream.take(MOST + 1), &mut io::sink())?;
    if padding > MOST { Err(io::Error::new(io::ErrorKind::InvalidData, "there is more after its end")) } else { Ok(()) }
}

/// The identifiers of all chains of layers, from the lowest layer alone to all of them.
pub(crate) fn chains(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chains
}

/// Lets things happen once at a time by name, so that the second who wants them finds them done.
#[derive(Clone, Debug, Default)]
pub(crate) struct OneAtATime {
    locks: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl OneAtATime {
    pub(crate) async fn enter(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or waits for are only in the map.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_depends_on_every_layer_below() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
        let chain = chains(&[a.clone(), b.clone(), c.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()));
        assert_eq!(chain[2], Digest::of(format!("{} {c}", chain[1]).as_bytes()));
        assert_ne!(chains(&[b, a, c])[2], chain[2]);
    }
}
