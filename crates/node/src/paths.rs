//! Where the node keeps what.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

/// The directories of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    data: PathBuf,
    run: PathBuf,
}

impl Paths {
    pub fn new(data: &Path, run: &Path) -> Self {
        Self { data: data.to_owned(), run: run.to_owned() }
    }

    pub fn pods(&self) -> PathBuf {
        self.data.join("pods")
    }

    /// All that belongs to one pod and lies on disk.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    pub fn volume(&self, uid: &str, volume: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(volume)
    }

    /// Memory, for what must not reach a disk.
    pub fn secrets(&self) -> PathBuf {
        self.run.join("secrets")
    }

    pub fn secret_volume(&self, uid: &str, volume: &str) -> PathBuf {
        self.secrets().join(uid).join(volume)
    }

    /// Where a part of a volume is bound for one container.
    pub fn subpath(&self, uid: &str, container: &str, index: usize) -> PathBuf {
        self.pod(uid).join("volume-subpaths").join(container).join(index.to_string())
    }

    /// The pod's own files of `/etc`.
    pub fn etc(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc")
    }

    pub fn termination_message(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(container).join(attempt.to_string())
    }

    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// The name of a pod's directory of logs.
    pub fn log_directory_name(pod: &Pod) -> String {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let meta = &pod.metadata;
        format!("{}_{}_{}", text(&meta.namespace), text(&meta.name), text(&meta.uid))
    }

    pub fn container_logs(&self, pod: &Pod, container: &str) -> PathBuf {
        self.logs().join(Self::log_directory_name(pod)).join(container)
    }

    pub fn log(&self, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
        self.container_logs(pod, container).join(format!("{attempt}.log"))
    }

    /// Directories of local volumes.
    pub fn local_volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }
}
