//! What is on disk: which images there are, their layers, and the work under way.
//!
//! ```text
//! index.json            the images, replaced as a whole under the lock `index`
//! layers/<chain>/       an unpacked layer, whole from the moment it has its name
//! ingest/<number>/      work under way, locked by the process that does it; what nobody locks is left over and removed
//! containers/<id>/      upper, work, root (the mount), layers (what it is mounted from)
//! locks/{index,gate}    several processes may use the directory at once
//! ```

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::{Image, ImageConfig, ImageError, mount};

/// One image, as the index tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) references: Vec<String>,
    /// Of the manifest.
    pub(crate) digest: Digest,
    /// Of the configuration.
    pub(crate) id: Digest,
    pub(crate) size: u64,
    /// The chain identifiers of the layers, the lowest first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) config: ImageConfig,
}

impl Record {
    pub(crate) fn image(&self) -> Image {
        Image { references: self.references.clone(), digest: self.digest.to_string(), size: self.size, config: self.config.clone() }
    }
}

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    dir: PathBuf,
}

/// Work under way: a directory that goes with it.
pub(crate) struct Workspace {
    path: PathBuf,
    _lock: File,
}

impl Workspace {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        remove_all(&self.path);
    }
}

fn remove_all(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove what is no longer needed");
    }
}

/// An I/O error with what was being done.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { doing, path, source }
}

pub(crate) fn make_dir(path: &Path) -> Result<(), ImageError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

impl Content {
    /// Opens a directory, and removes what interrupted work has left there.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, ImageError> {
        let content = Self { dir };
        for part in ["layers", "ingest", "containers", "locks"] {
            make_dir(&content.dir.join(part))?;
        }
        content.clean()?;
        content.collect_garbage()?;
        Ok(content)
    }

    fn clean(&self) -> Result<(), ImageError> {
        let ingest = self.dir.join("ingest");
        for entry in fs::read_dir(&ingest).map_err(failed("list", &ingest))? {
            let path = entry.map_err(failed("list", &ingest))?.path();
            if File::open(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
                remove_all(&path);
            }
        }
        Ok(())
    }

    pub(crate) fn workspace(&self) -> Result<Workspace, ImageError> {
        let number = std::hash::RandomState::new().build_hasher().finish();
        let path = self.dir.join("ingest").join(format!("{number:016x}"));
        make_dir(&path)?;
        let lock = File::open(&path).map_err(failed("open", &path))?;
        lock.lock().map_err(failed("lock", &path))?;
        Ok(Workspace { path, _lock: lock })
    }

    fn lock_file(&self, name: &str) -> Result<(File, PathBuf), ImageError> {
        let path = self.dir.join("locks").join(name);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        Ok((file.map_err(failed("open", &path))?, path))
    }

    /// Keeps all layers as long as the lock lives, whether an image names them yet or not.
    pub(crate) fn keep_layers(&self) -> Result<File, ImageError> {
        let (file, path) = self.lock_file("gate")?;
        file.lock_shared().map_err(failed("lock", &path))?;
        Ok(file)
    }

    pub(crate) fn layer(&self, chain: &Digest) -> PathBuf {
        self.dir.join("layers").join(chain.hex())
    }

    /// Gives an unpacked layer its name. That it has it already, from someone who was faster, is as good.
    pub(crate) fn adopt_layer(&self, unpacked: &Path, chain: &Digest) -> Result<(), ImageError> {
        let path = self.layer(chain);
        File::open(unpacked).and_then(|root| Ok(rustix::fs::syncfs(&root)?)).map_err(failed("sync", unpacked))?;
        match fs::rename(unpacked, &path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {
                return Err(failed("name", &path)(error));
            }
            _ => {}
        }
        sync_dir(&self.dir.join("layers"))
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.dir.join("containers")
    }

    fn index(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    /// The images there are.
    pub(crate) fn records(&self) -> Result<Vec<Record>, ImageError> {
        let path = self.index();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| ImageError::Document { what: "the index of images", source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Changes which images there are.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Vec<Record>) -> T) -> Result<T, ImageError> {
        let (lock, path) = self.lock_file("index")?;
        lock.lock().map_err(failed("lock", &path))?;
        let mut records = self.records()?;
        let outcome = change(&mut records);
        self.replace_index(&records)?;
        Ok(outcome)
    }

    fn replace_index(&self, records: &[Record]) -> Result<(), ImageError> {
        let text = serde_json::to_vec_pretty(records).map_err(|source| ImageError::Document { what: "the index of images", source })?;
        let path = self.index();
        let new = path.with_extension("new");
        let written = File::create(&new).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        written.map_err(failed("write", &new))?;
        fs::rename(&new, &path).map_err(failed("write", &path))?;
        sync_dir(&self.dir)
    }

    /// Adds an image; its references no longer name any other.
    pub(crate) fn record(&self, new: Record) -> Result<Record, ImageError> {
        let record = self.change(|records| {
            for record in &mut *records {
                record.references.retain(|reference| !new.references.contains(reference));
            }
            let mut new = new;
            if let Some(at) = records.iter().position(|record| record.digest == new.digest) {
                let mut references = records.remove(at).references;
                references.append(&mut new.references);
                new.references = references;
            }
            records.retain(|record| !record.references.is_empty());
            records.push(new.clone());
            new
        })?;
        Ok(record)
    }

    /// Removes layers that no image and no container needs. Does nothing while anybody adds or mounts any: the next time will do.
    pub(crate) fn collect_garbage(&self) -> Result<(), ImageError> {
        let (gate, _) = self.lock_file("gate")?;
        if gate.try_lock().is_err() {
            return Ok(());
        }
        let mut needed: HashSet<String> =
            self.records()?.iter().flat_map(|record| record.layers.iter().map(|layer| layer.hex().to_owned())).collect();
        for container in self.container_ids()? {
            needed.extend(self.container_layers(&container)?.iter().map(|layer| layer.hex().to_owned()));
        }
        let layers = self.dir.join("layers");
        let bin = self.workspace()?;
        for name in list(&layers)?.into_iter().filter(|name| !needed.contains(name)) {
            let path = layers.join(&name);
            fs::rename(&path, bin.path().join(&name)).map_err(failed("remove", &path))?;
        }
        // Nobody must wait until all files are gone.
        drop(gate);
        drop(bin);
        Ok(())
    }

    /// The containers that have a root file system here, or had one when the machine stopped.
    pub(crate) fn container_ids(&self) -> Result<Vec<String>, ImageError> {
        list(&self.containers())
    }

    /// What a container is mounted from, the lowest first; nothing if it wasn't yet. A text that a process or a machine did not write to
    /// its end is none: nothing is mounted then.
    pub(crate) fn container_layers(&self, container: &str) -> Result<Vec<Digest>, ImageError> {
        let home = self.containers().join(container);
        let path = home.join("layers");
        match fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(layers) => Ok(layers),
                Err(_) if !mount::is_mount(&home.join("root"))? => Ok(Vec::new()),
                Err(source) => Err(ImageError::Document { what: "the layers of a container", source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }
}

fn list(dir: &Path) -> Result<Vec<String>, ImageError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        names.extend(entry.map_err(failed("list", dir))?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn sync_dir(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(failed("sync", path))
}
