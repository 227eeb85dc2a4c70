//! A second version of the image with a shell, so that changing an image changes what runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{binary, said};

/// The file that the second version has and the first has not.
const MARK: &str = "second";

/// Makes the archive of `busybox:2` from that of `busybox:1`, in an empty folder.
pub(crate) fn make(folder: &Path) -> PathBuf {
    let (layout, tree, made) = (folder.join("layout"), folder.join("tree"), folder.join("busybox-2.tar"));
    unpack(&crate::archive("STEADFAST_BUSYBOX_IMAGE", "busybox.tar"), &layout);
    let index = document(&layout.join("index.json"));
    let manifest = document(&blob(&layout, &index["manifests"][0]));
    for layer in manifest["layers"].as_array().expect("layers") {
        unpack(&blob(&layout, layer), &tree);
    }
    std::fs::write(tree.join(MARK), "2\n").expect("the mark is written");
    let mut build = Command::new(binary());
    build.args(["image", "build"]).arg(&tree).args(["--reference", "docker.io/library/busybox:2", "--cmd", "sh", "--output"]).arg(&made);
    let output = build.output().expect("steadfast runs");
    assert!(output.status.success(), "{}", said(&output));
    made
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("a digest");
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a document of the image")).expect("JSON")
}

fn unpack(archive: &Path, into: &Path) {
    std::fs::create_dir_all(into).expect("a folder");
    let output = Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(into).output().expect("tar runs");
    assert!(output.status.success(), "{}", said(&output));
}
