//! Starting a shim.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::connection::{Ask, Connection, QUEUE, Waiter};
use super::{Node, Pod, blocking, io_error, late, refused, teardown, unexpected};
use crate::protocol::{Answer, Setup};
use crate::syscall::{self, attribute};
use crate::{RuntimeError, RuntimeEvent, Sandbox, SandboxSpec, shim};

/// A little more than a shim gives itself.
const SETUP_DEADLINE: Duration = Duration::from_secs(11);

/// The program that shims run, mounted read-only where nobody can remount it: a container that gets hold of it can't overwrite it.
pub(super) fn seal(executable: &Path) -> io::Result<OwnedFd> {
    let sealed = syscall::copy_mount(&CString::new(executable.as_os_str().as_bytes())?, false)?;
    syscall::change_mount(sealed.as_fd(), attribute::READ_ONLY | attribute::NO_SUID, nix::mount::MsFlags::MS_PRIVATE.bits(), false)?;
    Ok(sealed)
}

/// A shim's process and our end of its connection.
struct Spawned {
    child: Child,
    socket: UnixStream,
}

fn spawn(executable: &OwnedFd, directory: &Path, spec: &SandboxSpec) -> io::Result<Spawned> {
    DirBuilder::new().mode(0o700).create(directory)?;
    // The lock passes to the shim, and ends with it.
    let lock = File::open(directory)?;
    lock.try_lock().map_err(io::Error::from)?;
    let (socket, shims) = UnixStream::pair()?;
    let child = Command::new(format!("/proc/self/fd/{}", executable.as_raw_fd()))
        .arg0("steadfast")
        .args([shim::ARGUMENT, &spec.namespace, &spec.name])
        .env_clear()
        .stdin(OwnedFd::from(shims))
        .stdout(lock)
        .stderr(Stdio::from(File::create(directory.join("shim.log"))?))
        .spawn()?;
    Ok(Spawned { child, socket })
}

impl Node {
    pub(super) async fn create(self: Arc<Self>, spec: SandboxSpec) -> Result<Sandbox, RuntimeError> {
        let (pod, directory) = (spec.uid.clone(), self.directory(&spec.uid));
        if fs::exists(&directory).unwrap_or(true) {
            // Left by a pod that nobody knows any more.
            self.remove(&pod).await?;
        }
        let created = self.clone().set_up(spec).await;
        if created.is_err() {
            let cause = fs::read_to_string(directory.join("shim.log")).unwrap_or_default();
            tracing::warn!(pod, cause, "a pod's shim could not be started");
            self.remove(&pod).await?;
        }
        created
    }

    async fn set_up(self: Arc<Self>, spec: SandboxSpec) -> Result<Sandbox, RuntimeError> {
        let pod = spec.uid.clone();
        let (node, for_spawn) = (self.clone(), spec.clone());
        let directory = self.directory(&pod);
        let spawned = blocking("starting a shim", move || spawn(&node.executable, &node.directory(&for_spawn.uid), &for_spawn)).await?;
        let shim_pid = i32::try_from(spawned.child.id()).unwrap_or_default();
        let setup = Setup { sandbox: spec, directory, cgroups: self.cgroups.clone(), boot: self.boot.clone() };
        let (sender, answer) = oneshot::channel();
        let (mut connection, calls) = self.adopt(&pod, spawned.socket, shim_pid)?;
        let written = connection.set_up(&setup, Waiter::Answer(sender)).await;
        self.attend(pod.clone(), connection, calls, Some(spawned.child));
        written.map_err(|source| io_error("starting a shim", source))?;
        let ended = || RuntimeError::Shim { pod: pod.clone(), message: "it ended before it was ready".to_owned() };
        let answer = timeout(SETUP_DEADLINE, answer).await.map_err(|_| late("creation", &pod, SETUP_DEADLINE))?;
        match answer.map_err(|_| ended())?.map_err(|refusal| refused(&pod, refusal))? {
            Answer::Sandbox(sandbox) => {
                self.announce(&pod)?;
                Ok(*sandbox)
            }
            other => Err(unexpected(&pod, &other)),
        }
    }

    /// From now on the end of the pod's shim is news.
    pub(super) fn announce(&self, pod: &str) -> Result<(), RuntimeError> {
        let known = self.pod(pod)?;
        known.quiet.store(false, Ordering::Release);
        // It may have ended a moment before.
        if known.calls.is_closed() { Err(RuntimeError::Shim { pod: pod.to_owned(), message: "it has ended".to_owned() }) } else { Ok(()) }
    }

    /// Makes the pod one whose shim we talk to.
    pub(super) fn adopt(&self, pod: &str, socket: UnixStream, shim_pid: i32) -> Result<(Connection, mpsc::Receiver<Ask>), RuntimeError> {
        let (calls, asked) = mpsc::channel(QUEUE);
        let owner = Pod { calls, shim_pid, quiet: Arc::new(AtomicBool::new(true)) };
        let connection = Connection::new(pod, socket, self.events.clone()).map_err(|source| io_error("talking to a shim", source))?;
        self.pods().insert(pod.to_owned(), owner);
        Ok((connection, asked))
    }

    /// Talks to a shim until it ends, and then sees that nothing of it is left running.
    pub(super) fn attend(self: &Arc<Self>, pod: String, connection: Connection, mut calls: mpsc::Receiver<Ask>, child: Option<Child>) {
        let node = self.clone();
        tokio::spawn(async move {
            let end = connection.run(&mut calls).await;
            // Before it is looked at whether this is news: see `announce`.
            drop(calls);
            node.ended(&pod, &end, child).await;
        });
    }

    async fn ended(&self, pod: &str, end: &io::Error, child: Option<Child>) {
        let lost = self.pods().get(pod).filter(|known| !known.quiet.load(Ordering::Acquire)).map(|known| known.shim_pid);
        let (directory, group) = (self.directory(pod), self.group(pod));
        if let Some(shim_pid) = lost {
            tracing::warn!(pod, %end, "a pod's shim has ended unexpectedly");
            self.pods().remove(pod);
            let silenced = blocking("ending a lost pod", move || teardown::silence(&directory, &group, Some(shim_pid))).await;
            if let Err(error) = silenced {
                tracing::warn!(pod, %error, "a lost pod's processes may still run");
            }
        }
        if let Some(mut child) = child {
            // It has closed its connection, so it is ending.
            let _reaped = blocking("waiting for a shim", move || child.wait()).await;
        }
        if lost.is_some() {
            // Without a listener nobody wants to know.
            let _unheard = self.events.send(RuntimeEvent::SandboxLost { pod: pod.to_owned() });
        }
    }
}
