//! The runtime on this kernel.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::cgroup::{Cgroups, Group};
use crate::protocol::{Answer, Refusal, Request};
use crate::{
    Attachment, ContainerSpec, Exec, ExecSpec, Opened, RuntimeConfig, RuntimeError, RuntimeEvent, Sandbox, SandboxSpec, is_plain_name,
};

mod connection;
mod recover;
mod spawn;
mod teardown;

use connection::{Ask, Waiter};

/// Longer than a shim takes to give up a start.
const START_DEADLINE: Duration = Duration::from_secs(25);

/// For everything that takes no time.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longer than a teardown takes to give up.
const REMOVE_DEADLINE: Duration = Duration::from_secs(30);

/// Starts, finds and ends pods on this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    node: Arc<Node>,
}

/// What all clones share.
#[derive(Debug)]
struct Node {
    config: RuntimeConfig,
    /// What shims are started from.
    executable: OwnedFd,
    cgroups: Cgroups,
    boot: String,
    /// Pods whose shim we talk to.
    pods: Mutex<HashMap<String, Pod>>,
    events: mpsc::UnboundedSender<RuntimeEvent>,
}

/// A pod whose shim we talk to.
#[derive(Clone, Debug)]
struct Pod {
    calls: mpsc::Sender<Ask>,
    shim_pid: i32,
    /// Its end is no news: it is not ready yet, or is being removed.
    quiet: Arc<AtomicBool>,
}

impl Runtime {
    /// Finds what an earlier process left and listens to it.
    pub async fn open(config: RuntimeConfig) -> Result<Opened, RuntimeError> {
        recover::open(config).await
    }

    /// Starts a pod's shim with its namespaces. The network namespace is empty but for a loopback that is up.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox, RuntimeError> {
        if !is_plain_name(&spec.uid) {
            return Err(RuntimeError::CannotRun(format!("{:?} is no pod uid", spec.uid)));
        }
        if self.node.pods().contains_key(&spec.uid) {
            return Err(RuntimeError::Shim { pod: spec.uid, message: "there is one already".to_owned() });
        }
        let (node, pod) = (self.node.clone(), spec.uid.clone());
        // Apart from the caller: a caller who gives up leaves no half-made pod.
        let created = tokio::spawn(async move { node.create(spec).await }).await;
        created.unwrap_or_else(|error| Err(RuntimeError::Shim { pod, message: error.to_string() }))
    }

    /// Starts a container and returns when its command has been executed. Returns its pid and start time (ns since 1970).
    pub async fn start_container(&self, pod: &str, spec: ContainerSpec) -> Result<(i32, i64), RuntimeError> {
        match self.node.call("starting a container", START_DEADLINE, pod, Request::Start(Box::new(spec))).await? {
            Answer::Started { pid, started_at } => Ok((pid, started_at)),
            other => Err(unexpected(pod, &other)),
        }
    }

    /// Runs a command in a running container.
    pub async fn exec(&self, pod: &str, container: &str, spec: ExecSpec) -> Result<Exec, RuntimeError> {
        let (sender, receiver) = oneshot::channel();
        let ask = Ask { request: Request::Exec { container: container.to_owned(), spec }, waiter: Waiter::Exec(sender) };
        self.node.ask("exec", START_DEADLINE, pod, ask, receiver).await
    }

    /// Joins a running container's streams, with the right to give `input` if it takes any.
    pub async fn attach(&self, pod: &str, container: &str, input: bool) -> Result<Attachment, RuntimeError> {
        let (sender, receiver) = oneshot::channel();
        let ask = Ask { request: Request::Attach { container: container.to_owned(), input }, waiter: Waiter::Attach(sender) };
        self.node.ask("attach", DEADLINE, pod, ask, receiver).await
    }

    /// Ends a container's input, as soon as all who are attached have ended theirs.
    pub async fn close_stdin(&self, pod: &str, container: &str) -> Result<(), RuntimeError> {
        let request = Request::CloseStdin { container: container.to_owned() };
        self.node.call("closing a container's input", DEADLINE, pod, request).await.map(drop)
    }

    /// Ends a command that [`Runtime::exec`] started, and its children.
    pub async fn kill_exec(&self, pod: &str, exec: u64) -> Result<(), RuntimeError> {
        self.node.call("ending a command", DEADLINE, pod, Request::KillExec { exec }).await.map(drop)
    }

    /// Sends a signal to a container's first process; SIGKILL goes to all of its processes.
    pub async fn signal(&self, pod: &str, container: &str, signal: i32) -> Result<(), RuntimeError> {
        let request = Request::Signal { container: container.to_owned(), signal };
        self.node.call("signalling a container", DEADLINE, pod, request).await.map(drop)
    }

    /// Begins a new log file at the container's `log_path` (the caller has moved the old one away).
    pub async fn reopen_log(&self, pod: &str, container: &str) -> Result<(), RuntimeError> {
        let request = Request::ReopenLog { container: container.to_owned() };
        self.node.call("reopening a log", DEADLINE, pod, request).await.map(drop)
    }

    /// Forgets an exited container, its cgroup and its state. Its root stays mounted: that is the caller's.
    pub async fn remove_container(&self, pod: &str, container: &str) -> Result<(), RuntimeError> {
        let request = Request::Remove { container: container.to_owned() };
        self.node.call("removing a container", DEADLINE, pod, request).await.map(drop)
    }

    /// Ends all that is left of a pod: processes, namespaces, cgroups. Nothing to do is fine.
    pub async fn remove_sandbox(&self, pod: &str) -> Result<(), RuntimeError> {
        if !is_plain_name(pod) {
            return Ok(());
        }
        let (node, name) = (self.node.clone(), pod.to_owned());
        let removal = tokio::spawn(async move { node.remove(&name).await });
        match timeout(REMOVE_DEADLINE, removal).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(RuntimeError::Shim { pod: pod.to_owned(), message: error.to_string() }),
            Err(_) => Err(late("removal", pod, REMOVE_DEADLINE)),
        }
    }

    /// The network that the pod's containers share, to be entered.
    pub fn network_namespace(&self, pod: &str) -> Result<std::fs::File, RuntimeError> {
        let path = format!("/proc/{}/ns/net", self.node.pod(pod)?.shim_pid);
        std::fs::File::open(path).map_err(|source| io_error("entering a pod's network", source))
    }

    /// CPU time used (ns) and memory in use (bytes) of a pod.
    pub async fn usage(&self, pod: &str) -> Result<(u64, u64), RuntimeError> {
        self.node.pod(pod)?;
        let group = self.node.group(pod);
        blocking("reading the usage", move || Ok(group.usage())).await
    }

    /// Removes the instance's control groups if no pod is left, for a node that is being taken down.
    pub async fn remove_groups(&self) -> Result<(), RuntimeError> {
        let cgroups = self.node.cgroups.clone();
        blocking("removing the control groups", move || {
            cgroups.remove();
            Ok(())
        })
        .await
    }
}

impl Node {
    fn pods(&self) -> MutexGuard<'_, HashMap<String, Pod>> {
        // Nothing can panic while it is held.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pod(&self, pod: &str) -> Result<Pod, RuntimeError> {
        self.pods().get(pod).cloned().ok_or_else(|| RuntimeError::NoSandbox(pod.to_owned()))
    }

    fn directory(&self, pod: &str) -> PathBuf {
        self.config.run_dir.join("pods").join(pod)
    }

    fn group(&self, pod: &str) -> Group {
        self.cgroups.pod(pod)
    }

    async fn call(&self, action: &'static str, deadline: Duration, pod: &str, request: Request) -> Result<Answer, RuntimeError> {
        let (sender, receiver) = oneshot::channel();
        self.ask(action, deadline, pod, Ask { request, waiter: Waiter::Answer(sender) }, receiver).await
    }

    /// Hands a request to the pod's connection and waits for what comes back.
    async fn ask<T>(
        &self,
        action: &'static str,
        deadline: Duration,
        pod: &str,
        ask: Ask,
        answer: oneshot::Receiver<Result<T, Refusal>>,
    ) -> Result<T, RuntimeError> {
        let calls = self.pod(pod)?.calls;
        let gone = || RuntimeError::Shim { pod: pod.to_owned(), message: "it has ended".to_owned() };
        let exchange = async {
            calls.send(ask).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?.map_err(|refusal| refused(pod, refusal))
        };
        timeout(deadline, exchange).await.unwrap_or_else(|_| Err(late(action, pod, deadline)))
    }

    async fn remove(&self, pod: &str) -> Result<(), RuntimeError> {
        let known = self.pods().remove(pod);
        if let Some(known) = &known {
            known.quiet.store(true, Ordering::Release);
        }
        let (directory, group) = (self.directory(pod), self.group(pod));
        let shim = known.map(|known| known.shim_pid);
        blocking("removing a pod", move || teardown::remove(&directory, &group, shim)).await
    }
}

/// Runs what blocks where it may block.
async fn blocking<T: Send + 'static>(
    context: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, RuntimeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|source| io_error(context, source))
}

fn io_error(context: impl Into<String>, source: std::io::Error) -> RuntimeError {
    RuntimeError::Io { context: context.into(), source }
}

fn late(action: &'static str, pod: &str, deadline: Duration) -> RuntimeError {
    RuntimeError::Deadline { action, pod: pod.to_owned(), seconds: deadline.as_secs() }
}

fn unexpected(pod: &str, answer: &Answer) -> RuntimeError {
    RuntimeError::Shim { pod: pod.to_owned(), message: format!("it answered {answer:?}") }
}

fn refused(pod: &str, refusal: Refusal) -> RuntimeError {
    match refusal {
        Refusal::NoContainer(container) => RuntimeError::NoContainer { pod: pod.to_owned(), container },
        Refusal::NotRunning(container) => RuntimeError::NotRunning(container),
        Refusal::CannotRun(message) => RuntimeError::CannotRun(message),
        Refusal::Failed(message) => RuntimeError::Shim { pod: pod.to_owned(), message },
    }
}
