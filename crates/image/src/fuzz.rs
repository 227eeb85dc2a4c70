//! What the crate `fuzz` asks of the reading of images: all that strangers wrote. Nothing else uses this module.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::compression;
use crate::content::Content;
use crate::documents::{Configuration, Index, Manifest, Saved};
use crate::layer::{self, Limits, Meaning};
use crate::name;
use crate::tree::Tree;

/// What a file beside the unpacked tree says; and nobody else.
const SECRET: &str = "untouched";
const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 200 };

/// A document of an image, or a name for one. Digests that are taken are digests; a name's normal form is its own.
pub fn document(input: &[u8]) {
    let digests: Vec<_> = match serde_json::from_slice::<Manifest>(input) {
        Ok(Manifest::Image(manifest)) => manifest.layers.into_iter().chain([manifest.config]).map(|one| one.digest).collect(),
        Ok(Manifest::Index(index)) => {
            let _ = index.native();
            index.manifests.into_iter().map(|one| one.digest).collect()
        }
        Err(_) => Vec::new(),
    };
    for digest in digests {
        let digits = digest.hex();
        assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digits:?} would be a file's name");
    }
    let _ = (serde_json::from_slice::<Index>(input), serde_json::from_slice::<Vec<Saved>>(input));
    if let Ok(configuration) = serde_json::from_slice::<Configuration>(input) {
        let execution = configuration.execution();
        let again = Configuration::new(&execution, configuration.rootfs.diff_ids).execution();
        assert_eq!(again, execution);
    }
    if let Some(reference) = std::str::from_utf8(input).ok().and_then(|text| name::normal(text).ok()) {
        let whole = reference.whole();
        assert_eq!(name::normal(&whole).map(|again| again.whole()), Ok(whole));
        let _ = name::is_loopback(reference.registry());
    }
}

/// A layer, compressed or not, and the same bytes as any other archive. Whatever is in it, nothing beside the tree changes.
pub fn layer(input: &[u8]) {
    let place = Place::new();
    for meaning in [Meaning::Layer, Meaning::Plain] {
        let root = place.0.join(format!("{meaning:?}"));
        fs::create_dir(&root).expect("a root");
        let mut tree = Tree::open(&root, &[], false).expect("the root is opened");
        if let Ok(stream) = compression::decompressed(input) {
            let _ = layer::unpack(stream.take(16 << 20), &mut tree, meaning, LIMITS);
        }
    }
    place.check();
}

/// An archive of images: an OCI layout, or what `docker save` writes.
pub fn archive(input: &[u8]) {
    let place = Place::new();
    let file = place.0.join("a.tar");
    fs::write(&file, input).expect("the archive is written");
    let content = Content::open(place.0.join("content")).expect("the content is opened");
    let _ = crate::archive::load(&content, &file);
    place.check();
}

/// A directory in which there is something to harm; removed on drop.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = Self(base.join(format!("steadfast-fuzz-image-{}-{number}", std::process::id())));
        let _ = fs::remove_dir_all(&place.0);
        fs::create_dir_all(place.0.join("outside")).expect("a place");
        fs::write(place.secret(), SECRET).expect("something to harm");
        place
    }

    fn secret(&self) -> PathBuf {
        self.0.join("outside/secret")
    }

    fn check(&self) {
        let names = |path: &Path| fs::read_dir(path).expect("a folder").flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
        assert_eq!(names(&self.0.join("outside")), ["secret"]);
        assert!(names(&self.0).len() <= 3, "{:?}", names(&self.0));
        assert_eq!(fs::read_to_string(self.secret()).ok().as_deref(), Some(SECRET));
        assert_eq!(fs::metadata(self.secret()).expect("it is there").nlink(), 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
