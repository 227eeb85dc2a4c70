//! Finding what an earlier process left.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{DEADLINE, Node, Runtime, blocking, io_error, spawn, teardown};
use crate::protocol::{Answer, Request};
use crate::state::{self, Saved};
use crate::{Container, ContainerState, Exit, Opened, RuntimeConfig, RuntimeError, RuntimeEvent, Sandbox, cgroup, clock};

/// A shim that is being born gets so long until it listens or ends.
const BIRTH_DEADLINE: Duration = Duration::from_secs(12);

const RETRY: Duration = Duration::from_millis(10);

pub(super) async fn open(config: RuntimeConfig) -> Result<Opened, RuntimeError> {
    let (sender, events) = mpsc::unbounded_channel();
    let node = Arc::new(blocking("opening the runtime", move || prepare(config, sender)).await?);
    let directories = pods(&node.config.run_dir).map_err(|source| io_error("reading the pods", source))?;
    let mut searches = JoinSet::new();
    for pod in directories {
        let node = node.clone();
        searches.spawn(async move { (node.recover(&pod).await, pod) });
    }
    let mut found = Vec::new();
    while let Some(search) = searches.join_next().await {
        match search {
            Ok((Ok(sandbox), _)) => found.extend(sandbox),
            Ok((Err(error), pod)) => tracing::warn!(pod, %error, "a pod that an earlier process left can't be recovered"),
            Err(error) => tracing::warn!(%error, "a search for a pod failed"),
        }
    }
    found.sort_by(|a, b| a.spec.uid.cmp(&b.spec.uid));
    Ok(Opened { runtime: Runtime { node }, found, events })
}

fn prepare(config: RuntimeConfig, events: mpsc::UnboundedSender<RuntimeEvent>) -> io::Result<Node> {
    DirBuilder::new().recursive(true).mode(0o700).create(config.run_dir.join("pods"))?;
    Ok(Node {
        executable: spawn::seal(&config.executable)?,
        cgroups: cgroup::discover(&config.cgroup_parent)?,
        boot: state::boot()?,
        config,
        pods: Mutex::new(HashMap::new()),
        events,
    })
}

fn pods(run_dir: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(run_dir.join("pods"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

impl Node {
    /// A pod as it is now: alive, dead with its containers, or (`None`) no longer of this world.
    async fn recover(self: &Arc<Self>, pod: &str) -> Result<Option<Sandbox>, RuntimeError> {
        let directory = self.directory(pod);
        let socket = blocking("finding a shim", {
            let directory = directory.clone();
            move || connect(&directory)
        });
        let found = match socket.await {
            Ok(Some(socket)) => self.reconnect(pod, socket).await,
            Ok(None) => return self.bury(pod, directory).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(sandbox) => Ok(Some(sandbox)),
            Err(error) => {
                tracing::warn!(pod, %error, "a pod's shim does not answer");
                self.pods().remove(pod);
                self.bury(pod, directory).await
            }
        }
    }

    async fn reconnect(self: &Arc<Self>, pod: &str, socket: UnixStream) -> Result<Sandbox, RuntimeError> {
        let credentials = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials);
        let shim_pid = credentials.map_err(|error| io_error("asking for a shim's pid", error.into()))?.pid();
        let (connection, calls) = self.adopt(pod, socket, shim_pid)?;
        self.attend(pod.to_owned(), connection, calls, None);
        match self.call("recovery", DEADLINE, pod, Request::Describe).await? {
            Answer::Sandbox(sandbox) => {
                self.announce(pod)?;
                Ok(*sandbox)
            }
            other => Err(super::unexpected(pod, &other)),
        }
    }

    /// A pod without a shim: nothing of it may run on. It is reported until it is removed, unless it is from before the last boot.
    async fn bury(&self, pod: &str, directory: PathBuf) -> Result<Option<Sandbox>, RuntimeError> {
        let (group, boot) = (self.group(pod), self.boot.clone());
        let dead = blocking("ending a pod without a shim", move || {
            // What can't be read says nothing, as what is not there.
            let saved = Saved::read(&directory).ok().flatten().filter(|saved| saved.boot == boot);
            let Some(mut saved) = saved else { return teardown::remove(&directory, &group, None).map(|()| None) };
            teardown::silence(&directory, &group, None)?;
            saved.sandbox.containers.iter_mut().for_each(end);
            saved.write(&directory)?;
            Ok(Some(saved.sandbox))
        });
        let dead = dead.await?;
        if dead.is_some() {
            // The receiver is still ours.
            let _heard = self.events.send(RuntimeEvent::SandboxLost { pod: pod.to_owned() });
        }
        Ok(dead)
    }
}

/// What a container that was running when its shim died has come to.
fn end(container: &mut Container) {
    if let ContainerState::Running { started_at, .. } = container.state {
        let exit = Exit { code: 128 + libc::SIGKILL, signal: Some(libc::SIGKILL), out_of_memory: false, finished_at: clock::now() };
        container.state = ContainerState::Exited { started_at, exit };
    }
}

/// A connection to the shim, or `None` if it is dead.
fn connect(directory: &Path) -> io::Result<Option<UnixStream>> {
    let opened = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/shim.sock", opened.as_raw_fd());
    let deadline = Instant::now() + BIRTH_DEADLINE;
    while teardown::is_alive(directory)? {
        match UnixStream::connect(&path) {
            Ok(socket) => return Ok(Some(socket)),
            // It is being born: nothing tells when it listens.
            Err(_) if Instant::now() < deadline => std::thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
