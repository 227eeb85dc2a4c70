//! Building images: from a directory to an archive that [`Images::load`](crate::Images::load) and other tools take.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use thiserror::Error;

use crate::ImageConfig;
use crate::digest::{Digest, Hashing};
use crate::documents::{
    CONFIG, Configuration, Descriptor, IMAGE_NAME, INDEX, ImageManifest, Index, LAYER_GZIP, MANIFEST, Platform, REFERENCE_NAME,
};

/// Why an image was not built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error("{reference:?} is not a name for an image")]
    BadReference { reference: String, source: oci_client::ParseError },
    #[error("{} is neither a file, a directory nor a symbolic link", .0.display())]
    Unsupported(PathBuf),
    #[error("cannot {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot write a document of the image")]
    Document(#[from] serde_json::Error),
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Io { doing, path, source }
}

/// Writes an image of one layer, which holds a directory's content, to an OCI archive. Owners and modes are kept, times are not: the
/// same content makes the same image. Returns the digest of its manifest.
pub fn archive(tree: &Path, config: &ImageConfig, reference: &str, to: &Path) -> Result<String, BuildError> {
    let name = crate::name::normal(reference).map_err(|source| BuildError::BadReference { reference: reference.to_owned(), source })?;
    let (layer, layer_digest, layer_size, diff_id) = write_layer(tree, to)?;
    let configuration = serde_json::to_vec(&Configuration::new(config, vec![diff_id]))?;
    let layer_descriptor = Descriptor { media_type: LAYER_GZIP.to_owned(), ..descriptor(layer_digest, layer_size) };
    let manifest = serde_json::to_vec(&ImageManifest {
        schema_version: 2,
        media_type: MANIFEST.to_owned(),
        config: Descriptor { media_type: CONFIG.to_owned(), ..descriptor(Digest::of(&configuration), configuration.len() as u64) },
        layers: vec![layer_descriptor.clone()],
    })?;
    let digest = Digest::of(&manifest);
    let tag = name.tag().unwrap_or("latest").to_owned();
    let annotations = [(IMAGE_NAME.to_owned(), name.whole()), (REFERENCE_NAME.to_owned(), tag)].into();
    let entry = Descriptor {
        media_type: MANIFEST.to_owned(),
        annotations,
        platform: Some(Platform::native()),
        ..descriptor(digest.clone(), manifest.len() as u64)
    };
    let index = serde_json::to_vec(&Index { schema_version: 2, media_type: INDEX.to_owned(), manifests: vec![entry] })?;
    let documents = [
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index),
        (blob(&digest), manifest),
        (blob(&Digest::of(&configuration)), configuration),
    ];
    write_archive(to, &documents, &layer_descriptor, layer).map_err(failed("write", to))?;
    Ok(digest.to_string())
}

fn descriptor(digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: String::new(), digest, size, annotations: Default::default(), platform: None }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// A file beside another, without a name.
fn unnamed_beside(path: &Path) -> Result<File, BuildError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    File::options().read(true).write(true).mode(0o600).custom_flags(flags).open(dir).map_err(failed("create a file in", dir))
}

/// The layer, compressed, at its beginning; its digest and size; and its digest before compression.
fn write_layer(tree: &Path, beside: &Path) -> Result<(File, Digest, u64, Digest), BuildError> {
    let file = unnamed_beside(beside)?;
    let compressed = Hashing::new(BufWriter::new(file));
    let mut layer = tar::Builder::new(Hashing::new(GzEncoder::new(compressed, Compression::fast())));
    append_dir(&mut layer, tree, Path::new(""))?;
    let finished = layer.into_inner().and_then(|plain| {
        let (gzip, diff_id, _) = plain.finish();
        let (file, digest, size) = gzip.finish()?.finish();
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok((file, digest, size, diff_id))
    });
    finished.map_err(failed("write the layer beside", beside))
}

fn append_dir<W: Write>(layer: &mut tar::Builder<W>, tree: &Path, dir: &Path) -> Result<(), BuildError> {
    let path = tree.join(dir);
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed("list", &path))? {
        names.push(entry.map_err(failed("list", &path))?.file_name());
    }
    names.sort();
    for name in names {
        append(layer, tree, &dir.join(name))?;
    }
    Ok(())
}

fn append<W: Write>(layer: &mut tar::Builder<W>, tree: &Path, name: &Path) -> Result<(), BuildError> {
    let path = tree.join(name);
    let metadata = path.symlink_metadata().map_err(failed("read", &path))?;
    let described = |kind, size| described(&metadata, kind, size);
    if metadata.is_dir() {
        layer.append_data(&mut described(EntryType::Directory, 0), name, io::empty()).map_err(failed("pack", &path))?;
        append_dir(layer, tree, name)
    } else if metadata.is_symlink() {
        let target = fs::read_link(&path).map_err(failed("read", &path))?;
        layer.append_link(&mut described(EntryType::Symlink, 0), name, target).map_err(failed("pack", &path))
    } else if metadata.is_file() {
        let file = File::open(&path).map_err(failed("open", &path))?;
        // A file that grows meanwhile must not outgrow its header.
        layer
            .append_data(&mut described(EntryType::Regular, metadata.len()), name, file.take(metadata.len()))
            .map_err(failed("pack", &path))
    } else if metadata.file_type().is_fifo() {
        layer.append_data(&mut described(EntryType::Fifo, 0), name, io::empty()).map_err(failed("pack", &path))
    } else {
        Err(BuildError::Unsupported(path))
    }
}

fn described(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = header(kind, metadata.mode() & 0o7777, size);
    header.set_uid(u64::from(metadata.uid()));
    header.set_gid(u64::from(metadata.gid()));
    header
}

/// Writes the archive beneath a temporary name first: what has its name is whole.
fn write_archive(to: &Path, documents: &[(String, Vec<u8>)], layer: &Descriptor, content: File) -> io::Result<()> {
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let mut archive = tar::Builder::new(BufWriter::new(File::create(&new)?));
    for (name, text) in documents {
        archive.append_data(&mut header(EntryType::Regular, 0o644, text.len() as u64), name, text.as_slice())?;
    }
    archive.append_data(&mut header(EntryType::Regular, 0o644, layer.size), blob(&layer.digest), content)?;
    archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(new, to)
}
