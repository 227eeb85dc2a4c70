//! What a process does between its birth as a copy of the shim and the command that it becomes.
//!
//! All of it runs in the child. What goes wrong is told through the report socket; that socket closes when the command is executed.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair};
use nix::unistd::{Pid, pipe2, setsid};
use serde::{Deserialize, Serialize};

use crate::protocol::Refusal;
use crate::syscall;

pub(crate) mod command;
pub(crate) mod container;
mod devices;
pub(crate) mod join;
pub(crate) mod pause;
pub(crate) mod privileges;
mod resolve;
mod root;
pub(crate) mod seccomp;
mod system;
mod terminal;

/// What a child says before it becomes its command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Comes with the terminal's master.
    Terminal,
    /// The next step is the command: if the child ends without this word, it never came to it.
    Ready,
    Failed(Refusal),
}

/// The shim's ends of a process's standard streams.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// The process's ends. With a terminal there are none: it opens its own.
#[derive(Debug, Default)]
struct Streams {
    stdin: Option<OwnedFd>,
    outputs: Option<(OwnedFd, OwnedFd)>,
}

/// A child that has been started.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) process: OwnedFd,
    /// Gives [`Report`]s, and its end when the command has been executed.
    pub(crate) report: OwnedFd,
    pub(crate) ends: Ends,
}

impl Launched {
    /// Ends a child that can't be waited for.
    pub(crate) fn abandon(&self, error: io::Error) -> Refusal {
        let _gone = syscall::signal_process(self.process.as_fd(), libc::SIGKILL);
        error.into()
    }
}

/// The child's side.
pub(crate) struct Child {
    report: OwnedFd,
    streams: Streams,
}

/// How to start a child.
pub(crate) struct Launch<'a> {
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    /// New namespaces for it.
    pub(crate) namespaces: CloneFlags,
    /// The process whose process namespace it is to be in.
    pub(crate) beside: Option<&'a OwnedFd>,
}

impl Launch<'_> {
    /// Starts a child that runs `body`.
    pub(crate) fn start(&self, body: impl FnOnce(&mut Child) -> Result<Infallible, Refusal>) -> io::Result<Launched> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (report, childs_report) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let (ends, streams) = self.streams()?;
        let mut child = Child { report: childs_report, streams };
        let pid = self.fork(|| {
            let Err(refusal) = begin().map_err(Refusal::from).and_then(|()| body(&mut child));
            child.tell(&Report::Failed(refusal), None);
        })?;
        // It can't have been waited for yet, so the number is its own.
        let process = syscall::open_process(pid).inspect_err(|_| {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        })?;
        Ok(Launched { pid, process, report, ends })
    }

    /// A process namespace is entered by being born into it: the shim points there for the moment of birth.
    fn fork(&self, body: impl FnOnce()) -> io::Result<i32> {
        let Some(beside) = self.beside else { return syscall::fork(self.namespaces.bits(), body) };
        let own = fs::File::open("/proc/self/ns/pid")?;
        setns(beside, CloneFlags::CLONE_NEWPID)?;
        let pid = syscall::fork(self.namespaces.bits(), body);
        setns(own, CloneFlags::CLONE_NEWPID)?;
        pid
    }

    fn streams(&self) -> io::Result<(Ends, Streams)> {
        if self.terminal {
            return Ok((Ends::default(), Streams::default()));
        }
        let (stdout, childs_stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, childs_stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let (childs_stdin, stdin) =
            if self.stdin { pipe2(OFlag::O_CLOEXEC).map(|(read, write)| (Some(read), Some(write)))? } else { (None, None) };
        let ends = Ends { stdin, stdout: Some(stdout), stderr: Some(stderr) };
        Ok((ends, Streams { stdin: childs_stdin, outputs: Some((childs_stdout, childs_stderr)) }))
    }
}

/// Every child is a session of its own, has no signal handling of the shim's, and does not outlive the shim.
fn begin() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    syscall::reset_signals()?;
    setsid()?;
    Ok(())
}

impl Child {
    fn tell(&self, report: &Report, descriptor: Option<&OwnedFd>) {
        let Ok(text) = serde_json::to_vec(report) else { return };
        let raw: Vec<i32> = descriptor.iter().map(|descriptor| descriptor.as_fd().as_raw_fd()).collect();
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &[ControlMessage::ScmRights(&raw)] };
        // If the shim is gone, so are we.
        let _gone = sendmsg::<UnixAddr>(self.report.as_raw_fd(), &[io::IoSlice::new(&text)], control, MsgFlags::MSG_NOSIGNAL, None);
    }
}

/// Sets how readily the kernel ends this process when memory is short. Lowering needs a privilege: then it stays as it is.
fn set_out_of_memory_score(adjust: Option<i32>) -> io::Result<()> {
    let Some(adjust) = adjust else { return Ok(()) };
    match fs::write("/proc/self/oom_score_adj", adjust.clamp(-1000, 1000).to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// Adds what was being done to an error.
fn failed(action: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Refusal {
    move |error| Refusal::Failed(format!("{action}: {error}"))
}
