//! What the shim knows about a container and about a command in one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::log::Log;
use super::output::Output;
use super::poller::Token;
use crate::cgroup::Group;
use crate::process::command::Program;
use crate::process::{Ends, Launched, Report};
use crate::protocol::Refusal;
use crate::{Container, ContainerSpec, ContainerState, Exit, syscall};

/// A command that has not been executed after so long is given up.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) peer: u64,
    pub(super) call: u64,
}

pub(super) struct Entry {
    pub(super) spec: ContainerSpec,
    pub(super) program: Program,
    pub(super) group: Group,
    pub(super) pid: i32,
    pub(super) process: OwnedFd,
    pub(super) log: Log,
    pub(super) outputs: Vec<Output>,
    /// Held open: the container reads from it until it ends.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    Starting(Starting),
    Running { started_at: i64 },
    Exited { started_at: i64, exit: Exit },
}

pub(super) struct ExecEntry {
    pub(super) pid: i32,
    pub(super) process: OwnedFd,
    /// Whose command it is: it ends with that connection.
    pub(super) peer: u64,
    /// Until the command has been executed.
    pub(super) starting: Option<Starting>,
}

/// A child that has not become its command yet.
pub(super) struct Starting {
    pub(super) caller: Caller,
    pub(super) report: OwnedFd,
    pub(super) token: Token,
    pub(super) ends: Ends,
    ready: bool,
    pub(super) deadline: Instant,
}

/// How far a child has come.
pub(super) enum Progress {
    Waiting,
    Executed,
    Failed(Refusal),
}

impl Starting {
    /// Splits what was launched into the process and what is to be waited for.
    pub(super) fn new(launched: Launched, caller: Caller, token: Token) -> (i32, OwnedFd, Self) {
        let Launched { pid, process, report, ends } = launched;
        (pid, process, Self { caller, report, token, ends, ready: false, deadline: Instant::now() + START_DEADLINE })
    }

    /// Reads what the child says.
    pub(super) fn progress(&mut self) -> Progress {
        let mut buffer = [0; 4096];
        loop {
            match syscall::receive(self.report.as_fd(), &mut buffer) {
                Ok((0, _)) if self.ready => return Progress::Executed,
                Ok((0, _)) => return Progress::Failed(Refusal::Failed("the process ended before its command was executed".to_owned())),
                Ok((count, mut descriptors)) => match serde_json::from_slice(&buffer[..count]) {
                    Ok(Report::Ready) => self.ready = true,
                    Ok(Report::Terminal) => self.ends.stdout = descriptors.pop(),
                    Ok(Report::Failed(refusal)) => return Progress::Failed(refusal),
                    Err(error) => return Progress::Failed(Refusal::Failed(format!("a report that can't be read: {error}"))),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
                Err(error) => return Progress::Failed(error.into()),
            }
        }
    }
}

impl Entry {
    /// For the outside; a container that has not started yet is none.
    pub(super) fn describe(&self) -> Option<Container> {
        let state = match &self.phase {
            Phase::Starting(_) => return None,
            Phase::Running { started_at } => ContainerState::Running { pid: self.pid, started_at: *started_at },
            Phase::Exited { started_at, exit } => ContainerState::Exited { started_at: *started_at, exit: exit.clone() },
        };
        Some(Container { id: self.spec.id.clone(), name: self.spec.name.clone(), state })
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    pub(super) fn starting(&self) -> Option<&Starting> {
        match &self.phase {
            Phase::Starting(starting) => Some(starting),
            _ => None,
        }
    }

    /// Kills every process of the container. With a process namespace of its own, all end with the first.
    pub(super) fn kill(&self) -> io::Result<()> {
        let first = syscall::signal_process(self.process.as_fd(), libc::SIGKILL);
        self.kill_group();
        first
    }

    pub(super) fn kill_group(&self) {
        kill_all(&self.group);
    }
}

/// Kills what is in a group now.
pub(super) fn kill_all(group: &Group) {
    for pid in group.processes() {
        // Gone meanwhile is fine.
        let _gone = syscall::open_process(pid).and_then(|process| syscall::signal_process(process.as_fd(), libc::SIGKILL));
    }
}

/// Makes reading return at once when there is nothing.
pub(super) fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    fcntl(descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
