//! Runs containers. One shim process per pod holds the pod's namespaces, its containers' log pipes and exit codes, and
//! outlives the server: killing, crashing or upgrading Steadfast never disturbs a container.
//!
//! The shim is this same binary, started with [`shim::ARGUMENT`] as its first argument.
//!
//! ```text
//! Runtime (in the server) ──unix socket──► shim (one per pod; holds net, ipc, uts namespaces)
//!                                             ├── container (own pid, mount, cgroup)
//!                                             └── container ...
//! ```
//!
//! # Guarantees
//! * An exit is reported until it is acknowledged by removing the container, also across restarts of the server.
//! * `Runtime::open` finds every pod and container that an earlier process left, running or not.
//! * Every call has a deadline.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;

mod cgroup;
mod clock;
pub mod linux;
mod process;
mod protocol;
pub mod shim;
mod state;
mod syscall;

pub use linux::Runtime;
pub use process::privileges::CAPABILITIES;

/// What a pod's sandbox needs: the namespaces and limits its containers share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The pod's uid: the sandbox's name.
    pub uid: String,
    /// For people who look at processes and cgroups.
    pub namespace: String,
    pub name: String,
    pub hostname: String,
    /// Use the node's network instead of an own one.
    pub host_network: bool,
    /// Containers see each other's processes.
    pub share_process_namespace: bool,
    /// Namespaced kernel parameters, for example `net.core.somaxconn`.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of the whole pod.
    pub resources: Resources,
}

/// Limits that the kernel enforces. What the machine can't enforce is reported, never ignored silently.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative CPU time: 1024 for a whole core asked for.
    pub cpu_shares: Option<u64>,
    /// CPU time in microseconds per `cpu_period_us`.
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<i64>,
    pub pids_limit: Option<i64>,
    pub oom_score_adjust: Option<i32>,
}

/// One container, ready to run: everything is resolved, nothing is looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique in its pod, for example `redis-0` for the first attempt.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// The directory to be `/`: already mounted, exclusive to this container.
    pub root: PathBuf,
    /// Command and arguments; the first is looked up in the container's PATH.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: String,
    pub user: User,
    pub mounts: Vec<Mount>,
    pub resources: Resources,
    pub security: Security,
    /// The log file. Each line is `<RFC 3339 nanoseconds> <stdout|stderr> <F|P> <text>` (the CRI format).
    pub log_path: PathBuf,
    /// Keep standard input open, for attach.
    pub stdin: bool,
    /// Close it when the first client that gave input goes. A terminal stays open.
    #[serde(default)]
    pub stdin_once: bool,
    /// Run with a terminal.
    pub terminal: bool,
    /// A running container of the pod, by its id, whose processes this one sees and is among.
    #[serde(default)]
    pub process_namespace_of: Option<String>,
}

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// A bind mount, or a file system of the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub source: MountSource,
    /// Absolute, inside the container.
    pub destination: String,
    pub read_only: bool,
    /// Mounts that appear on the node later appear in the container too (`HostToContainer`).
    pub propagate_from_host: bool,
    /// Mounts that the container makes appear on the node (`Bidirectional`).
    pub propagate_to_host: bool,
}

/// Where a mount's content comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the node, already resolved without following the container's symbolic links.
    Path(PathBuf),
    /// Memory, of at most so many bytes.
    Memory { limit: Option<u64> },
}

/// What a process may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Security {
    pub privileged: bool,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    /// The whole set, as `CAP_CHOWN` ...; not a difference to a default.
    pub capabilities: Vec<String>,
    pub seccomp: Seccomp,
    /// `/proc` shows what it shows on the node (procMount: Unmasked).
    pub unmasked_proc: bool,
}

/// Which system calls are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    Unconfined,
    /// Our own list: what container runtimes commonly refuse.
    RuntimeDefault,
}

/// A command to run in a running container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecSpec {
    pub args: Vec<String>,
    /// Beyond the container's own environment.
    pub env: Vec<(String, String)>,
    pub terminal: bool,
    pub stdin: bool,
}

/// A command that runs: its ends of the pipes, and its exit code when it is over.
///
/// With a terminal, `stdin` and `stdout` are the terminal's master and there is no `stderr`.
/// Dropping the value closes the ends; it does not end the command: call [`Runtime::kill_exec`].
#[derive(Debug)]
pub struct Exec {
    pub id: u64,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: Option<OwnedFd>,
    pub exit: tokio::sync::oneshot::Receiver<Exit>,
}

/// A client's ends of a container's streams: a copy of the output from now on, and a way in.
///
/// With a terminal, `stdin` is the terminal's master and there is no `stderr`. Dropping the value is leaving.
#[derive(Debug)]
pub struct Attachment {
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + the signal's number when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel ended it because its memory limit was reached.
    pub out_of_memory: bool,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// `started_at`: nanoseconds since 1970.
    Running {
        pid: i32,
        started_at: i64,
    },
    Exited {
        started_at: i64,
        exit: Exit,
    },
}

/// A container as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub state: ContainerState,
}

/// A pod as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    pub spec: SandboxSpec,
    /// The process that holds the namespaces. `/proc/<pid>/ns/net` is the pod's network.
    pub shim_pid: i32,
    pub containers: Vec<Container>,
    /// Limits that this machine could not enforce, in words for an event.
    pub warnings: Vec<String>,
}

/// Something happened to a pod, unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A container ended.
    Exited { pod: String, container: String, exit: Exit },
    /// The shim ended unexpectedly: its containers are gone too.
    SandboxLost { pod: String },
}

/// Why the runtime could not do it.
#[derive(Debug, Error)]
pub enum RuntimeError {
    #[error("pod {0} has no sandbox")]
    NoSandbox(String),
    #[error("pod {pod} has no container {container}")]
    NoContainer { pod: String, container: String },
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The command was not found, is not executable, or the like: the container can't start as it is specified.
    #[error("{0}")]
    CannotRun(String),
    #[error("{action} of pod {pod} did not finish within {seconds} s")]
    Deadline { action: &'static str, pod: String, seconds: u64 },
    #[error("{context}: {source}")]
    Io {
        context: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the shim of pod {pod} failed: {message}")]
    Shim { pod: String, message: String },
}

/// Where the runtime keeps its things.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// State that a reboot makes void: sockets, container state. Short, since it is part of socket names.
    pub run_dir: PathBuf,
    /// The binary to start as a shim: this one.
    pub executable: PathBuf,
    /// Below which all cgroups of this instance lie, for example `steadfast/<instance>`.
    pub cgroup_parent: String,
}

/// What [`Runtime::open`] gives: the runtime, what an earlier process left, and what happens from now on.
pub struct Opened {
    pub runtime: Runtime,
    pub found: Vec<Sandbox>,
    pub events: mpsc::UnboundedReceiver<RuntimeEvent>,
}

/// Whether a name can be a directory's: pods and containers become directories.
fn is_plain_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=128).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn names_that_lead_elsewhere_are_not_plain() {
        assert!(is_plain_name("0f4d-redis_0.1"));
        for name in ["", ".", "..", "../x", "a/b", "a\0", ".hidden"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
