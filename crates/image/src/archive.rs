//! Loading images from archives: OCI layouts, packed or as a directory, and what `docker save` writes.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use crate::content::{Content, Record, Workspace, failed, make_dir};
use crate::digest::{Digest, Hashing};
use crate::documents::{Descriptor, IMAGE_NAME, ImageManifest, Index, Manifest, REFERENCE_NAME, Saved};
use crate::layer::{self, Limits, Meaning};
use crate::layers::Plan;
use crate::pull::verify;
use crate::tree::Tree;
use crate::{ImageError, compression, name};

/// The largest document, in bytes.
const MOST_DOCUMENT: u64 = 8 << 20;

/// The most images in one archive.
const MOST_IMAGES: usize = 1000;

const ARCHIVE: Limits = Limits { bytes: 128 << 30, entries: 100_000 };

/// Loads all images of an archive.
pub(crate) fn load(content: &Content, archive: &Path) -> Result<Vec<Record>, ImageError> {
    let _kept = content.keep_layers()?;
    let (mut layout, _workspace) = Layout::open(content, archive)?;
    let records = match layout.optional("index.json")? {
        Some(text) => layout.load_index(content, &text)?,
        None => layout.load_saved(content)?,
    };
    records.into_iter().map(|record| content.record(record)).collect()
}

/// The files of an archive.
struct Layout {
    tree: Tree,
    /// What an image without a name is called.
    stem: String,
    path: std::path::PathBuf,
}

impl Layout {
    fn open(content: &Content, archive: &Path) -> Result<(Self, Option<Workspace>), ImageError> {
        let stem = archive.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = stem.split('.').next().unwrap_or_default().to_lowercase();
        if archive.is_dir() {
            let tree = Tree::open(archive, &[], false).map_err(failed("open", archive))?;
            return Ok((Self { tree, stem, path: archive.to_owned() }, None));
        }
        let workspace = content.workspace()?;
        let root = workspace.path().join("layout");
        make_dir(&root)?;
        let mut tree = Tree::open(&root, &[], false).map_err(failed("open", &root))?;
        let file = File::open(archive).map_err(failed("open", archive))?;
        let stream = compression::decompressed(BufReader::with_capacity(256 << 10, file)).map_err(failed("read", archive))?;
        layer::unpack(stream, &mut tree, Meaning::Plain, ARCHIVE)
            .map_err(|source| ImageError::Archive { path: archive.to_owned(), source: Box::new(source) })?;
        Ok((Self { tree, stem, path: archive.to_owned() }, Some(workspace)))
    }

    fn bad(&self, reason: impl Into<String>) -> ImageError {
        ImageError::NoArchive { path: self.path.clone(), reason: reason.into() }
    }

    fn open_file(&mut self, path: &str) -> Result<File, ImageError> {
        self.tree.read(path.as_bytes()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.bad(format!("it lacks {path}")),
            _ => failed("read", &self.path.join(path))(error),
        })
    }

    fn document(&mut self, path: &str) -> Result<Vec<u8>, ImageError> {
        let file = self.open_file(path)?;
        let mut text = Vec::new();
        file.take(MOST_DOCUMENT + 1).read_to_end(&mut text).map_err(failed("read", &self.path))?;
        if text.len() as u64 > MOST_DOCUMENT { Err(self.bad(format!("its {path} is too large"))) } else { Ok(text) }
    }

    fn optional(&mut self, path: &str) -> Result<Option<Vec<u8>>, ImageError> {
        match self.tree.read(path.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => self.document(path).map(Some),
        }
    }

    /// A document that a descriptor points at.
    fn blob(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let text = self.document(&blob_path(&descriptor.digest))?;
        verify(descriptor, text.len() as u64, &Digest::of(&text))?;
        Ok(text)
    }

    /// A layer that a descriptor points at, at its beginning.
    fn layer(&mut self, descriptor: &Descriptor) -> Result<File, ImageError> {
        let mut file = self.open_file(&blob_path(&descriptor.digest))?;
        let mut hashing = Hashing::new(&mut file);
        io::copy(&mut hashing, &mut io::sink()).map_err(failed("read", &self.path))?;
        let (_, actual, size) = hashing.finish();
        verify(descriptor, size, &actual)?;
        file.rewind().map_err(failed("read", &self.path))?;
        Ok(file)
    }

    fn load_index(&mut self, content: &Content, text: &[u8]) -> Result<Vec<Record>, ImageError> {
        let index: Index = parse("the index", text)?;
        if index.manifests.is_empty() || index.manifests.len() > MOST_IMAGES {
            return Err(self.bad(format!("it tells of {} images", index.manifests.len())));
        }
        let mut records = Vec::new();
        for descriptor in &index.manifests {
            let manifest = self.blob(descriptor)?;
            let record = match parse("the manifest", &manifest)? {
                Manifest::Image(manifest) => self.load_manifest(content, descriptor, &manifest)?,
                Manifest::Index(index) => self.load_native(content, &index)?,
            };
            records.push(Record { references: vec![self.reference(descriptor)?], ..record });
        }
        Ok(records)
    }

    fn load_native(&mut self, content: &Content, index: &Index) -> Result<Record, ImageError> {
        let chosen = index.native().ok_or_else(|| self.bad("it has nothing for this kind of machine"))?;
        let text = self.blob(chosen)?;
        match parse("the manifest", &text)? {
            Manifest::Image(manifest) => self.load_manifest(content, chosen, &manifest),
            Manifest::Index(_) => Err(self.bad("it has an index within an index")),
        }
    }

    fn load_manifest(&mut self, content: &Content, descriptor: &Descriptor, manifest: &ImageManifest) -> Result<Record, ImageError> {
        let configuration = self.blob(&manifest.config)?;
        let plan = Plan::of_manifest(descriptor.digest.clone(), manifest, &configuration)?;
        for (number, layer) in manifest.layers.iter().enumerate() {
            if !content.layer(&plan.chains[number]).is_dir() {
                let file = self.layer(layer)?;
                plan.unpack(content, number, file, layer::LAYER)?;
            }
        }
        Ok(plan.record(Vec::new()))
    }

    /// What an image of a layout is called.
    fn reference(&self, descriptor: &Descriptor) -> Result<String, ImageError> {
        let tag = descriptor.annotations.get(REFERENCE_NAME);
        let given = match (descriptor.annotations.get(IMAGE_NAME), tag) {
            (Some(whole), _) => whole.clone(),
            (None, Some(name)) if name.contains(['/', ':']) => name.clone(),
            (None, Some(tag)) => format!("{}:{tag}", self.stem),
            (None, None) => self.stem.clone(),
        };
        normal(&given)
    }

    fn load_saved(&mut self, content: &Content) -> Result<Vec<Record>, ImageError> {
        let text = self.optional("manifest.json")?.ok_or_else(|| self.bad("it has neither an index.json nor a manifest.json"))?;
        let images: Vec<Saved> = parse("the manifest", &text)?;
        if images.is_empty() || images.len() > MOST_IMAGES {
            return Err(self.bad(format!("it tells of {} images", images.len())));
        }
        images.iter().map(|saved| self.load_one_saved(content, saved)).collect()
    }

    /// There is no manifest to verify: the configuration names the layers by what they contain.
    fn load_one_saved(&mut self, content: &Content, saved: &Saved) -> Result<Record, ImageError> {
        let text = self.document(&saved.config)?;
        let id = Digest::of(&text);
        let mut files = Vec::new();
        for layer in &saved.layers {
            files.push(self.open_file(layer)?);
        }
        let mut size = text.len() as u64;
        for file in &files {
            size += file.metadata().map_err(failed("read", &self.path))?.len();
        }
        let plan = Plan::new(id.clone(), id, size, parse("the configuration", &text)?)?;
        if plan.chains.len() != files.len() {
            return Err(self.bad("its manifest and its configuration tell different layers"));
        }
        for (number, file) in files.into_iter().enumerate() {
            plan.unpack(content, number, file, layer::LAYER)?;
        }
        let named = saved.repo_tags.as_deref().filter(|tags| !tags.is_empty());
        let references = named.map_or_else(|| Ok(vec![normal(&self.stem)?]), |tags| tags.iter().map(|tag| normal(tag)).collect());
        Ok(plan.record(references?))
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn normal(given: &str) -> Result<String, ImageError> {
    let reference = name::normal(given).map_err(|source| ImageError::BadReference { reference: given.to_owned(), source })?;
    Ok(reference.whole())
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(text).map_err(|source| ImageError::Document { what, source })
}
