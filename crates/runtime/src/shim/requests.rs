//! What a server can ask for.

use std::os::fd::AsFd;

use super::entry::{Caller, Entry, Phase};
use super::events::Shim;
use crate::protocol::{Answer, Incoming, Refusal, Request};
use crate::syscall;

impl Shim {
    /// Does what is asked, at once or, where it takes time, later.
    pub(super) fn call(&mut self, peer: u64, call: Incoming) {
        let caller = Caller { peer, call: call.id };
        let request = match serde_json::from_value(call.request) {
            Ok(request) => request,
            Err(error) => return self.reply(caller, Err(Refusal::Failed(format!("not a request that this shim knows: {error}")))),
        };
        let result = match request {
            Request::Describe => Ok(Some(Answer::Sandbox(Box::new(self.describe())))),
            Request::Start(spec) => self.start(caller, *spec).map(|()| None),
            Request::Exec { container, spec } => self.exec(caller, &container, spec).map(|()| None),
            Request::Attach { container, input } => self.attach(caller, &container, input).map(|()| None),
            Request::CloseStdin { container } => self.close_stdin(&container).map(Some),
            Request::KillExec { exec } => self.kill_exec(exec).map(Some),
            Request::Signal { container, signal } => self.signal(&container, signal).map(Some),
            Request::ReopenLog { container } => self.reopen_log(&container).map(Some),
            Request::Remove { container } => self.remove(caller, &container).map(|()| None),
        };
        match result {
            Ok(None) => {}
            Ok(Some(answer)) => self.reply(caller, Ok(answer)),
            Err(refusal) => self.reply(caller, Err(refusal)),
        }
    }

    pub(super) fn container(&mut self, id: &str) -> Result<&mut Entry, Refusal> {
        self.containers.get_mut(id).ok_or_else(|| Refusal::NoContainer(id.to_owned()))
    }

    pub(super) fn running(&mut self, id: &str) -> Result<&mut Entry, Refusal> {
        let entry = self.container(id)?;
        if entry.is_running() { Ok(entry) } else { Err(Refusal::NotRunning(id.to_owned())) }
    }

    fn signal(&mut self, id: &str, signal: i32) -> Result<Answer, Refusal> {
        let entry = self.running(id)?;
        if signal == libc::SIGKILL {
            entry.kill()?;
        } else {
            syscall::signal_process(entry.process.as_fd(), signal)?;
        }
        Ok(Answer::Done)
    }

    fn reopen_log(&mut self, id: &str) -> Result<Answer, Refusal> {
        self.container(id)?.log.reopen()?;
        Ok(Answer::Done)
    }

    /// Answers when the container's group is gone.
    fn remove(&mut self, caller: Caller, id: &str) -> Result<(), Refusal> {
        let entry = self.container(id)?;
        if !matches!(entry.phase, Phase::Exited { .. }) {
            return Err(Refusal::Failed(format!("container {id} has not exited")));
        }
        let group = entry.group.clone();
        self.containers.remove(id);
        self.save();
        self.remove_group(group, caller, Ok(Answer::Done));
        Ok(())
    }
}
