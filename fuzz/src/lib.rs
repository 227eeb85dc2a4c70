//! The fuzz targets: everything that reads bytes of strangers, with what must hold whatever they are.
//!
//! `cargo xtask fuzz` runs them under libFuzzer, with our crates instrumented for coverage; its engine is the program of this crate.
//! The ordinary test of this crate tries the seeds (`seeds/<target>`) and whatever once broke (`regressions/<target>`) on them.

use std::fs;
use std::path::{Path, PathBuf};

mod words;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// How many inputs `cargo xtask test` tries: those of about a second on a quiet machine.
    pub tries: u32,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! targets {
    ($($name:literal, $tries:literal => $run:path),* $(,)?) => { &[$(Target { name: $name, tries: $tries, run: $run }),*] };
}

/// All targets. A new one is a row here, and at least one seed.
pub static TARGETS: &[Target] = targets! {
    "annotations", 40_000 => words::annotations,
    "apply", 6_000 => apiserver::fuzz::apply,
    "continue-token", 60_000 => apiserver::fuzz::continue_token,
    "dns-packet", 4_000 => dns::fuzz::packet,
    "etcd-answer", 20_000 => store::etcd::fuzz::answer,
    "etcd-value", 40_000 => store::etcd::fuzz::value,
    "field-selector", 40_000 => apiserver::fuzz::field_selector,
    "image-archive", 4_000 => image::fuzz::archive,
    "image-document", 20_000 => image::fuzz::document,
    "image-layer", 8_000 => image::fuzz::layer,
    "json", 6_000 => apiserver::fuzz::json,
    "json-patch", 12_000 => apiserver::fuzz::json_patch,
    "label-selector", 20_000 => words::label_selector,
    "managed-fields", 40_000 => apiserver::fuzz::managed_fields,
    "merge-patch", 16_000 => apiserver::fuzz::merge_patch,
    "protobuf", 12_000 => apiserver::fuzz::protobuf,
    "quantity", 60_000 => words::quantity,
    "request", 30_000 => apiserver::fuzz::request,
    "spdy-frames", 20_000 => node::fuzz::spdy_frames,
    "spdy-headers", 40_000 => node::fuzz::spdy_headers,
    "store-frame", 40_000 => store::embedded::fuzz::frame,
    "store-recovery", 8_000 => store::embedded::fuzz::recovery,
    "strategic-patch", 12_000 => apiserver::fuzz::strategic_patch,
    "websocket-channel", 20_000 => node::fuzz::channel_message,
    "yaml", 4_000 => apiserver::fuzz::yaml,
};

impl Target {
    /// The target of a name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.iter().copied().find(|target| target.name == name)
    }

    /// Inputs that show an engine what the target reads.
    pub fn seeds(&self) -> Vec<(PathBuf, Vec<u8>)> {
        inputs(&folder("seeds").join(self.name))
    }

    /// Inputs for which something once did not hold.
    pub fn regressions(&self) -> Vec<(PathBuf, Vec<u8>)> {
        inputs(&folder("regressions").join(self.name))
    }

    /// Inputs that are made from the seeds of another target, as nobody can write them by hand.
    pub fn made_seeds(&self) -> Vec<Vec<u8>> {
        let Some(json) = Self::named("json").filter(|_| self.name == "protobuf") else { return Vec::new() };
        json.seeds().iter().filter_map(|(_, seed)| apiserver::fuzz::protobuf_of(seed)).collect()
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| Some((path.clone(), fs::read(path).ok()?))).collect()
}
