//! One instance: its folders, its names in the kernel, and what is on record about it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use network::{Cidr, NetworkConfig};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The folder of an embedded store.
pub const STORE: &str = "store";

/// Why an instance can't be used.
#[derive(Debug, Error)]
pub enum InstanceError {
    #[error("{path}: {source}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is in use by a running steadfast (process {pid}); stop it first, or name another --data-dir")]
    InUse { path: PathBuf, pid: String },
    #[error(
        "{path} belongs to a cluster whose state is in the {there} store, and not in the {wanted} one: start with --store {}, or move the \
         state with `steadfast migrate --from {} --to {}`; a new cluster needs another --data-dir",
        .there.example(), .there.example(), .wanted.example()
    )]
    OtherStore { path: PathBuf, there: StoreKind, wanted: StoreKind },
    #[error("{path} is not readable as the record of an instance: {reason}")]
    Record { path: PathBuf, reason: String },
}

/// What an instance was started with, for the verbs that act on it later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub node_name: String,
    pub pod_cidr: Cidr,
    pub service_cidr: Cidr,
    /// Where the API is served.
    pub listen: String,
    /// No real node: nothing was made in the kernel. Older records have another name for it.
    #[serde(alias = "simulated")]
    pub without_node: bool,
    /// Where the cluster's state is. Older records don't say.
    #[serde(default)]
    pub store: Option<StoreKind>,
    /// Where the administrator's credentials are.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
}

/// What holds a cluster's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    Embedded,
    Etcd,
}

impl StoreKind {
    /// As users name such a store.
    fn example(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Etcd => "etcd://HOST:PORT,...",
        }
    }
}

impl std::fmt::Display for StoreKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Embedded { "embedded" } else { "etcd" })
    }
}

/// The folders and names of one instance. They follow from the data directory alone.
#[derive(Clone, Debug)]
pub struct Instance {
    data_dir: PathBuf,
    /// Eight hexadecimal digits.
    id: String,
}

/// Held while the server of an instance runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct Running {
    _lock: Flock<File>,
}

impl Instance {
    /// The instance of a data directory, which need not exist.
    pub fn new(data_dir: &Path) -> Result<Self, InstanceError> {
        let data_dir = std::path::absolute(data_dir).map_err(|source| InstanceError::Folder { path: data_dir.to_owned(), source })?;
        let id = format!("{:08x}", fnv(data_dir.as_os_str().as_bytes()));
        Ok(Self { data_dir, id })
    }

    /// Whether anything was ever kept here.
    pub fn exists(&self) -> bool {
        self.record_path().exists()
    }

    /// Makes the data directory, private to its owner.
    pub fn create(&self) -> Result<(), InstanceError> {
        private_folder(&self.data_dir)
    }

    /// Makes this process the one that runs the instance.
    pub fn lock(&self) -> Result<Running, InstanceError> {
        let path = self.data_dir.join("lock");
        let failed = |source| InstanceError::Folder { path: path.clone(), source };
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                fs::write(&path, std::process::id().to_string()).map_err(failed)?;
                Ok(Running { _lock: lock })
            }
            Err(_) => {
                let pid = fs::read_to_string(&path).unwrap_or_default();
                Err(InstanceError::InUse { path: self.data_dir.clone(), pid })
            }
        }
    }

    /// The process that runs the instance, if one does.
    pub fn server(&self) -> Option<i32> {
        match self.lock() {
            Err(InstanceError::InUse { pid, .. }) => pid.trim().parse().ok(),
            _ => None,
        }
    }

    /// Keeps what the instance was started with.
    pub fn write_record(&self, record: &Record) -> Result<(), InstanceError> {
        let path = self.record_path();
        let text = serde_json::to_vec_pretty(record).expect("a record has string keys only");
        let temporary = path.with_extension("part");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| InstanceError::Folder { path, source })
    }

    /// What the instance was started with.
    pub fn record(&self) -> Result<Record, InstanceError> {
        let path = self.record_path();
        let text = fs::read(&path).map_err(|source| InstanceError::Folder { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|error| InstanceError::Record { path, reason: error.to_string() })
    }

    /// Refuses a store of another kind than the one with the cluster's state: what is there, if anything, is of another time.
    pub fn check_store(&self, wanted: StoreKind) -> Result<(), InstanceError> {
        let on_record = if self.exists() { self.record()?.store } else { None };
        let there = on_record.or_else(|| self.folder(STORE).is_dir().then_some(StoreKind::Embedded));
        match there.filter(|there| *there != wanted) {
            Some(there) => Err(InstanceError::OtherStore { path: self.data_dir.clone(), there, wanted }),
            None => Ok(()),
        }
    }

    /// Puts on record where the cluster's state is from now on.
    pub fn moved_to(&self, store: StoreKind) -> Result<(), InstanceError> {
        if self.exists() { self.write_record(&Record { store: Some(store), ..self.record()? }) } else { Ok(()) }
    }

    /// Deletes everything the instance keeps.
    pub fn delete(&self) -> Result<(), InstanceError> {
        match fs::remove_dir_all(&self.data_dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(InstanceError::Folder { path: self.data_dir.clone(), source }),
            _ => Ok(()),
        }
    }

    /// A folder below the data directory.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.data_dir.join(name)
    }

    /// What a reboot makes void: sockets, the state of containers.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/steadfast").join(&self.id)
    }

    /// Below which the instance's cgroups lie.
    pub fn cgroup_parent(&self) -> String {
        format!("steadfast/{}", self.id)
    }

    /// The instance's network; its bridge and rules are called after the instance.
    pub fn network(&self, pod_cidr: Cidr, service_cidr: Cidr) -> NetworkConfig {
        NetworkConfig { name: format!("sf{}", self.id), pod_cidr, service_cidr, state_dir: self.folder("network") }
    }

    fn record_path(&self) -> PathBuf {
        self.data_dir.join("instance.json")
    }
}

/// FNV-1a: the same in every version of this program, so that a new one finds what an old one left.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Makes a folder that only its owner can enter.
fn private_folder(path: &Path) -> Result<(), InstanceError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| InstanceError::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_on_the_same_folder_is_refused_and_told_who_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let instance = Instance::new(folder.path()).expect("an instance");
        assert_eq!(instance.server(), None);
        let running = instance.lock().expect("nobody runs");
        assert_eq!(instance.server(), Some(i32::try_from(std::process::id()).expect("a pid")));
        drop(running);
        assert_eq!(instance.server(), None);
    }

    #[test]
    fn a_store_of_another_kind_than_the_one_with_the_state_is_refused_with_the_next_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let instance = Instance::new(folder.path()).expect("an instance");
        instance.check_store(StoreKind::Etcd).expect("nothing is there");
        std::fs::create_dir(instance.folder(STORE)).expect("a store");
        let refused = instance.check_store(StoreKind::Etcd).expect_err("the state is embedded").to_string();
        assert!(refused.contains("--from embedded --to etcd://HOST:PORT,..."), "{refused}");
        // As written before the kind was.
        let old = r#"{"node_name": "a", "pod_cidr": {"address": "10.0.0.0", "prefix": 16}, "service_cidr": {"address": "10.1.0.0",
            "prefix": 16}, "listen": "127.0.0.1:6443", "simulated": true}"#;
        std::fs::write(instance.record_path(), old).expect("a record");
        instance.check_store(StoreKind::Embedded).expect("the state is embedded");
        instance.moved_to(StoreKind::Etcd).expect("a record");
        instance.check_store(StoreKind::Etcd).expect("the state is there");
        let refused = instance.check_store(StoreKind::Embedded).expect_err("the store is stale").to_string();
        assert!(refused.contains("start with --store etcd://"), "{refused}");
        assert!(instance.record().expect("a record").without_node);
    }

    #[test]
    fn instances_of_different_folders_share_no_name() {
        let [one, two] = ["/a", "/b"].map(|path| Instance::new(Path::new(path)).expect("an instance"));
        assert_ne!(one.run_dir(), two.run_dir());
        assert_ne!(one.cgroup_parent(), two.cgroup_parent());
        assert!(one.id.len() + 2 <= 10);
    }
}
