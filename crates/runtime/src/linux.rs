//! The runtime on this kernel.

use crate::{ContainerSpec, Exec, ExecSpec, Opened, RuntimeConfig, RuntimeError, Sandbox, SandboxSpec};

/// Starts, finds and ends pods on this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {}

impl Runtime {
    /// Finds what an earlier process left and listens to it.
    pub async fn open(_config: RuntimeConfig) -> Result<Opened, RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// Starts a pod's shim with its namespaces. The network namespace is empty but for a loopback that is up.
    pub async fn create_sandbox(&self, _spec: SandboxSpec) -> Result<Sandbox, RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// Starts a container and returns when its command has been executed. Returns its pid and start time (ns since 1970).
    pub async fn start_container(&self, _pod: &str, _spec: ContainerSpec) -> Result<(i32, i64), RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// Runs a command in a running container.
    pub async fn exec(&self, _pod: &str, _container: &str, _spec: ExecSpec) -> Result<Exec, RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// Ends a command that [`Runtime::exec`] started, and its children.
    pub async fn kill_exec(&self, _pod: &str, _exec: u64) -> Result<(), RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// Sends a signal to a container's first process; SIGKILL goes to all of its processes.
    pub async fn signal(&self, _pod: &str, _container: &str, _signal: i32) -> Result<(), RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// Begins a new log file at the container's `log_path` (the caller has moved the old one away).
    pub async fn reopen_log(&self, _pod: &str, _container: &str) -> Result<(), RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// Forgets an exited container, its cgroup and its state. Its root stays mounted: that is the caller's.
    pub async fn remove_container(&self, _pod: &str, _container: &str) -> Result<(), RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// Ends all that is left of a pod: processes, namespaces, cgroups. Nothing to do is fine.
    pub async fn remove_sandbox(&self, _pod: &str) -> Result<(), RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }

    /// CPU time used (ns) and memory in use (bytes) of a pod.
    pub async fn usage(&self, _pod: &str) -> Result<(u64, u64), RuntimeError> {
        Err(RuntimeError::CannotRun("not built".to_owned()))
    }
}
