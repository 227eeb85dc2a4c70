//! Commands in running containers.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;

use super::entry::{Caller, ExecEntry, Progress, Starting};
use super::events::Shim;
use super::poller::{Source, Subject};
use crate::process::command::Program;
use crate::process::{Launch, join};
use crate::protocol::{Answer, Message, Refusal};
use crate::{ExecSpec, syscall};

/// How deep the tree of a command's children is followed.
const MAX_DEPTH: usize = 64;

impl Shim {
    /// Begins; the caller is answered when the command has been executed, or can't be.
    pub(super) fn exec(&mut self, caller: Caller, container: &str, spec: ExecSpec) -> Result<(), Refusal> {
        let entry = self.running(container)?;
        let program = entry.program.with_command(&spec);
        let oom_score_adjust = entry.spec.resources.oom_score_adjust;
        let plan = join::Plan { program: &program, group: &entry.group, container: &entry.process, oom_score_adjust };
        let launch = Launch { terminal: spec.terminal, stdin: spec.stdin, namespaces: CloneFlags::empty(), beside: Some(&entry.process) };
        // The process namespace of a container that is just ending takes no new process.
        let launched = launch.start(|child| join::run(&plan, child)).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOMEM | libc::ESRCH) => Refusal::NotRunning(container.to_owned()),
            _ => error.into(),
        })?;
        let exec = self.next_exec;
        self.next_exec += 1;
        let token = match self.poller.watch(&launched.report, Source::Report(Subject::Exec(exec))) {
            Ok(token) => token,
            Err(error) => return Err(launched.abandon(error)),
        };
        let (pid, process, starting) = Starting::new(launched, caller, token);
        self.execs.insert(exec, ExecEntry { pid, process, peer: caller.peer, starting: Some(starting) });
        Ok(())
    }

    /// Takes a starting command as far as it has come.
    pub(super) fn exec_progress(&mut self, id: u64) {
        let Some(starting) = self.execs.get_mut(&id).and_then(|entry| entry.starting.as_mut()) else { return };
        match starting.progress() {
            Progress::Waiting => {}
            Progress::Executed => self.exec_started(id),
            Progress::Failed(refusal) => self.exec_failed(id, refusal),
        }
    }

    fn exec_started(&mut self, id: u64) {
        let Some(starting) = self.execs.get_mut(&id).and_then(|entry| entry.starting.take()) else { return };
        self.poller.forget(starting.token, &starting.report);
        let ends = starting.ends;
        let answer = Answer::Exec { exec: id, stdin: ends.stdin.is_some(), stderr: ends.stderr.is_some() };
        let descriptors: Vec<OwnedFd> = [ends.stdout, ends.stdin, ends.stderr].into_iter().flatten().collect();
        let Caller { peer, call } = starting.caller;
        self.send(peer, &Message::Reply { id: call, result: Ok(answer) }, descriptors);
        if !self.peers.contains_key(&peer) {
            self.execs.values().filter(|exec| exec.peer == peer).for_each(ExecEntry::kill);
        }
    }

    fn exec_failed(&mut self, id: u64, refusal: Refusal) {
        let Some(entry) = self.execs.remove(&id) else { return };
        let _ended = syscall::signal_process(entry.process.as_fd(), libc::SIGKILL);
        if let Some(starting) = entry.starting {
            self.poller.forget(starting.token, &starting.report);
            self.reply(starting.caller, Err(refusal));
        }
    }

    /// One that has ended already is fine: its exit is on its way.
    pub(super) fn kill_exec(&mut self, id: u64) -> Result<Answer, Refusal> {
        if let Some(entry) = self.execs.get(&id) {
            entry.kill();
        }
        Ok(Answer::Done)
    }
}

impl ExecEntry {
    /// Kills the command and its children.
    pub(super) fn kill(&self) {
        for child in descendants(self.pid, 0) {
            let _gone = syscall::open_process(child).and_then(|child| syscall::signal_process(child.as_fd(), libc::SIGKILL));
        }
        let _gone = syscall::signal_process(self.process.as_fd(), libc::SIGKILL);
    }
}

fn descendants(pid: i32, depth: usize) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut found: Vec<i32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    if depth < MAX_DEPTH {
        let below: Vec<i32> = found.iter().flat_map(|child| descendants(*child, depth + 1)).collect();
        found.extend(below);
    }
    found
}

impl Program {
    /// Another command with the same user, rights and environment.
    fn with_command(&self, spec: &ExecSpec) -> Self {
        Self {
            args: spec.args.clone(),
            env: self.env.iter().chain(&spec.env).cloned().collect(),
            working_dir: self.working_dir.clone(),
            user: self.user.clone(),
            security: self.security.clone(),
            capabilities: self.capabilities,
            filter: self.filter.clone(),
            terminal: spec.terminal,
        }
    }
}
