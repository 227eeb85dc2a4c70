//! Images from end to end: built, loaded, pulled, mounted.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use image::{Image, ImageConfig, ImageError, Images};
use tempfile::TempDir;

fn config() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/bin/server".to_owned()],
        cmd: vec!["--port".to_owned(), "6379".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        working_dir: Some("/data".to_owned()),
        user: Some("redis".to_owned()),
        exposed_ports: vec!["6379/tcp".to_owned()],
        volumes: vec!["/data".to_owned()],
        stop_signal: Some("SIGTERM".to_owned()),
    }
}

/// A directory with a little of everything.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("bin")).unwrap();
    fs::create_dir_all(path("data")).unwrap();
    fs::write(path("bin/server"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(path("bin/server"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(path("data"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("bin/server", path("server")).unwrap();
    dir
}

fn build(name: &str, in_dir: &Path) -> (PathBuf, String) {
    let archive = in_dir.join("image.tar");
    let digest = image::build::archive(tree().path(), &config(), name, &archive).unwrap();
    (archive, digest)
}

struct Node {
    images: Images,
    dir: TempDir,
}

impl Node {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { images: Images::open(dir.path().join("images")).await.unwrap(), dir }
    }

    fn names(&self, part: &str) -> Vec<String> {
        let names = fs::read_dir(self.dir.path().join("images").join(part)).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn load(&self, name: &str) -> Image {
        let (archive, _) = build(name, self.dir.path());
        self.images.load(&archive).await.unwrap().remove(0)
    }
}

fn is_root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("skipped: only root can mount");
    }
    root
}

#[tokio::test]
async fn a_built_image_is_found_by_every_spelling_of_its_name() {
    let node = Node::new().await;
    let (archive, digest) = build("redis:7", node.dir.path());
    let loaded = node.images.load(&archive).await.unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].references, ["docker.io/library/redis:7"]);
    assert_eq!((&loaded[0].digest, &loaded[0].config), (&digest, &config()));
    for name in ["redis:7", "docker.io/redis:7", "library/redis:7", &digest, &format!("redis@{digest}")] {
        assert_eq!(node.images.find(name).await.unwrap().as_ref(), Some(&loaded[0]), "{name}");
    }
    for name in ["redis", "redis:8", &format!("other@{digest}"), "quay.io/redis:7"] {
        assert_eq!(node.images.find(name).await.unwrap(), None, "{name}");
    }
    assert!(matches!(node.images.find("Not A Name").await, Err(ImageError::BadReference { .. })));
    assert_eq!(node.images.list().await.unwrap(), loaded);
    assert!(node.names("ingest").is_empty(), "nothing is left of the work");
}

#[tokio::test]
async fn the_same_content_makes_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    let (_, first) = build("a", dir.path());
    let (_, second) = build("a", dir.path());
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_mounted_image_can_be_read_and_written_and_is_gone_when_unmounted() {
    if !is_root() {
        return;
    }
    let node = Node::new().await;
    let image = node.load("tiny").await;
    let root = node.images.mount(&image, "one").await.unwrap();
    assert_eq!(fs::read_to_string(root.join("server")).unwrap(), "#!/bin/sh\n");
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("bin/server"), mode("data")), (0o755, 0o4755, 0o1777));

    fs::write(root.join("data/written"), "here").unwrap();
    assert_eq!(node.images.mount(&image, "one").await.unwrap(), root, "mounted again it is the same");
    assert_eq!(fs::read_to_string(root.join("data/written")).unwrap(), "here");
    let other = node.images.mount(&image, "two").await.unwrap();
    assert!(!other.join("data/written").exists(), "containers don't see each other");
    let mut mounted = node.images.mounted().await.unwrap();
    mounted.sort();
    assert_eq!(mounted, ["one", "two"]);

    for container in ["one", "two", "one", "never"] {
        node.images.unmount(container).await.unwrap();
    }
    assert_eq!(node.images.mounted().await.unwrap(), Vec::<String>::new());
    assert!(!root.exists());
    let again = node.images.mount(&image, "one").await.unwrap();
    assert!(!again.join("data/written").exists(), "what a container wrote went with it");
    node.images.unmount("one").await.unwrap();
}

#[tokio::test]
async fn a_removed_image_stays_for_the_containers_that_have_it() {
    if !is_root() {
        return;
    }
    let node = Node::new().await;
    let image = node.load("tiny").await;
    let root = node.images.mount(&image, "one").await.unwrap();
    node.images.remove("tiny").await.unwrap();
    assert_eq!(node.images.find("tiny").await.unwrap(), None);
    assert!(root.join("bin/server").exists());
    assert_eq!(node.names("layers").len(), 1);
    assert!(matches!(node.images.mount(&image, "two").await, Err(ImageError::NoSuchImage(_))));
    node.images.unmount("one").await.unwrap();
    node.load("other").await;
    node.images.remove("other").await.unwrap();
    assert!(node.names("layers").is_empty(), "layers that nobody needs go");
    assert!(matches!(node.images.remove("other").await, Err(ImageError::NoSuchImage(_))));
}

#[tokio::test]
async fn a_container_that_was_not_mounted_to_its_end_holds_nothing_up() {
    let node = Node::new().await;
    let image = node.load("tiny").await;
    let home = node.dir.path().join("images/containers/half");
    fs::create_dir_all(home.join("root")).unwrap();
    fs::write(home.join("layers"), "[\"sha256:").unwrap();
    node.images.remove("tiny").await.unwrap();
    assert!(node.names("layers").is_empty());
    assert_eq!(node.images.mounted().await.unwrap(), ["half"]);
    node.images.unmount("half").await.unwrap();
    assert!(!home.exists() && !image.references.is_empty());
}

#[tokio::test]
async fn container_identifiers_cannot_lead_elsewhere() {
    let node = Node::new().await;
    let image = node.load("tiny").await;
    for bad in ["", "..", ".hidden", "a/b", "../../etc", "a b", &"x".repeat(200)] {
        assert!(matches!(node.images.mount(&image, bad).await, Err(ImageError::BadContainer(_))), "{bad:?}");
        assert!(matches!(node.images.unmount(bad).await, Err(ImageError::BadContainer(_))), "{bad:?}");
    }
}

#[tokio::test]
async fn an_image_keeps_its_layers_while_it_has_a_name() {
    let node = Node::new().await;
    node.load("one").await;
    let image = node.load("two").await;
    assert_eq!(image.references.len(), 2, "the same content under two names is one image");
    node.images.remove("one").await.unwrap();
    assert_eq!(node.names("layers").len(), 1);
    assert_eq!(node.images.find("two").await.unwrap().unwrap().references, ["docker.io/library/two:latest"]);
    node.images.remove(&image.digest).await.unwrap();
    assert!(node.names("layers").is_empty());
}

/// Unpacks an archive into a directory.
fn unpacked(archive: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    assert!(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to).status().unwrap().success());
}

#[tokio::test]
async fn a_layout_is_loaded_from_a_directory_and_from_a_compressed_archive() {
    let node = Node::new().await;
    let (archive, digest) = build("redis:7", node.dir.path());
    let layout = node.dir.path().join("layout");
    unpacked(&archive, &layout);
    assert_eq!(node.images.load(&layout).await.unwrap()[0].digest, digest);
    node.images.remove("redis:7").await.unwrap();
    assert!(Command::new("gzip").arg(&archive).status().unwrap().success());
    assert_eq!(node.images.load(&archive.with_extension("tar.gz")).await.unwrap()[0].digest, digest);
}

#[tokio::test]
async fn what_docker_saves_is_loaded() {
    let node = Node::new().await;
    let (archive, _) = build("ignored", node.dir.path());
    let layout = node.dir.path().join("layout");
    unpacked(&archive, &layout);
    let read = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let blob = |value: &serde_json::Value| layout.join("blobs/sha256").join(&value.as_str().unwrap()["sha256:".len()..]);
    let manifest = read(&blob(&read(&layout.join("index.json"))["manifests"][0]["digest"]));

    let saved = node.dir.path().join("saved");
    fs::create_dir_all(saved.join("abc")).unwrap();
    fs::copy(blob(&manifest["config"]["digest"]), saved.join("config.json")).unwrap();
    fs::copy(blob(&manifest["layers"][0]["digest"]), saved.join("real.tar.gz")).unwrap();
    symlink("../real.tar.gz", saved.join("abc/layer.tar")).unwrap();
    let list = r#"[{"Config":"config.json","RepoTags":["redis:6","quay.io/me/redis:6"],"Layers":["abc/layer.tar"]}]"#;
    fs::write(saved.join("manifest.json"), list).unwrap();
    let packed = node.dir.path().join("saved.tar");
    assert!(Command::new("tar").arg("-cf").arg(&packed).arg("-C").arg(&saved).arg(".").status().unwrap().success());

    let image = node.images.load(&packed).await.unwrap().remove(0);
    assert_eq!(image.references, ["docker.io/library/redis:6", "quay.io/me/redis:6"]);
    assert_eq!((&image.digest, &image.config), (&manifest["config"]["digest"].as_str().unwrap().to_owned(), &config()));
}

#[tokio::test]
async fn content_that_was_tampered_with_is_refused() {
    let node = Node::new().await;
    let (archive, digest) = build("redis:7", node.dir.path());
    let layout = node.dir.path().join("layout");
    unpacked(&archive, &layout);
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for bad in [&flipped[..], &whole[..whole.len() - 1], &[&whole[..], b" "].concat()] {
            fs::write(&path, bad).unwrap();
            let refused = node.images.load(&layout).await;
            assert!(matches!(refused, Err(ImageError::WrongDigest { .. } | ImageError::WrongSize { .. })), "{refused:?}");
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(node.names("layers").is_empty(), "nothing of it was kept");
    assert_eq!(node.images.load(&layout).await.unwrap()[0].digest, digest);
}

#[tokio::test]
async fn what_is_no_archive_of_images_is_refused_with_a_reason() {
    let node = Node::new().await;
    let path = node.dir.path().join("x.tar");
    for (content, reason) in [(&b"nonsense"[..], "cannot be unpacked"), (&[0; 2048][..], "neither an index.json nor a manifest.json")] {
        fs::write(&path, content).unwrap();
        let refused = node.images.load(&path).await.unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let layout = node.dir.path().join("layout");
    fs::create_dir(&layout).unwrap();
    symlink("/etc/passwd", layout.join("index.json")).unwrap();
    let refused = node.images.load(&layout).await;
    assert!(matches!(refused, Err(ImageError::NoArchive { .. })), "links don't lead out of a layout: {refused:?}");
}

#[tokio::test]
async fn work_that_was_interrupted_is_cleaned_up_and_work_under_way_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("ingest/left");
    let busy = dir.path().join("ingest/busy");
    fs::create_dir_all(left.join("root/half")).unwrap();
    fs::create_dir_all(&busy).unwrap();
    let lock = fs::File::open(&busy).unwrap();
    lock.lock().unwrap();
    Images::open(dir.path().to_owned()).await.unwrap();
    assert!(!left.exists());
    assert!(busy.exists());
}

/// A registry of the distribution's package on loopback.
struct Registry {
    process: Child,
    port: u16,
    dir: TempDir,
}

impl Registry {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let storage = dir.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            storage.display()
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry, which `cargo xtask test` installs");
        let registry = Self { process, port, dir };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    /// Stores the image of a layout: what the registry serves is what its files say.
    async fn push(&self, name: &str, layout: &Path) {
        use oci_client::client::{ClientConfig, ClientProtocol};
        use oci_client::secrets::RegistryAuth;
        let client = oci_client::Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
        let reference: oci_client::Reference = format!("127.0.0.1:{}/{name}", self.port).parse().unwrap();
        client.auth(&reference, &RegistryAuth::Anonymous, oci_client::RegistryOperation::Push).await.unwrap();
        let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let blob = |digest: &str| fs::read(layout.join("blobs/sha256").join(&digest["sha256:".len()..])).unwrap();
        let text = blob(index["manifests"][0]["digest"].as_str().unwrap());
        let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for part in [&manifest["config"], &manifest["layers"][0]] {
            let digest = part["digest"].as_str().unwrap();
            client.push_blob(&reference, blob(digest), digest).await.unwrap();
        }
        let kind = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
        client.push_manifest_raw(&reference, text, kind).await.unwrap();
    }

    /// Replaces the content of a blob behind the registry's back.
    fn corrupt(&self, digest: &str) {
        let hex = &digest["sha256:".len()..];
        let path = self.dir.path().join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data");
        let mut content = fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(path, content).unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pulled_once_by_many_and_verified() {
    let node = Node::new().await;
    let registry = Registry::start().await;
    let (archive, digest) = build("ignored", node.dir.path());
    let layout = node.dir.path().join("layout");
    unpacked(&archive, &layout);
    // Whoever pulls first installs the provider of cryptography that the test's own client needs.
    let name = format!("127.0.0.1:{}/team/redis:7", registry.port);
    assert!(matches!(node.images.pull(&name, None, None).await, Err(ImageError::Registry { .. })), "there is no such image yet");
    registry.push("team/redis:7", &layout).await;

    let (sender, mut progress) = tokio::sync::mpsc::channel(1000);
    let images = Arc::new(node.images.clone());
    let pulls: Vec<_> = (0..4)
        .map(|_| {
            let (images, name, sender) = (Arc::clone(&images), name.clone(), sender.clone());
            tokio::spawn(async move { images.pull(&name, None, Some(sender)).await })
        })
        .collect();
    drop(sender);
    for pull in pulls {
        let image = pull.await.unwrap().unwrap();
        assert_eq!((&image.digest, &image.references), (&digest, &vec![name.clone()]));
    }
    let mut complete = 0;
    while let Some(report) = progress.recv().await {
        complete += usize::from(report.done == report.total);
    }
    assert_eq!(complete, 1, "the layer was transferred once");
    assert_eq!(node.images.find(&name).await.unwrap().unwrap().config, config());

    let exact = format!("127.0.0.1:{}/team/redis@{digest}", registry.port);
    assert_eq!(node.images.pull(&exact, None, None).await.unwrap().digest, digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_sends_something_else_is_not_believed() {
    let node = Node::new().await;
    let registry = Registry::start().await;
    let (archive, digest) = build("ignored", node.dir.path());
    let layout = node.dir.path().join("layout");
    unpacked(&archive, &layout);
    let name = format!("127.0.0.1:{}/redis:7", registry.port);
    assert!(node.images.pull(&name, None, None).await.is_err());
    registry.push("redis:7", &layout).await;
    let manifest = fs::read(layout.join("blobs/sha256").join(&digest["sha256:".len()..])).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    registry.corrupt(manifest["layers"][0]["digest"].as_str().unwrap());
    let refused = node.images.pull(&name, None, None).await.unwrap_err();
    assert!(matches!(refused, ImageError::Registry { .. } | ImageError::WrongDigest { .. }), "{refused:?}");
    assert_eq!(node.images.find(&name).await.unwrap(), None);
    assert!(node.names("layers").is_empty());
    assert!(node.names("ingest").is_empty());
}
