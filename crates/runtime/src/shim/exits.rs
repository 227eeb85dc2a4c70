//! The end of processes.

use super::entry::Phase;
use super::events::Shim;
use crate::protocol::Message;
use crate::{Exit, clock, syscall};

/// The code of a process that the kernel has killed.
const KILLED: i32 = 128 + libc::SIGKILL;

impl Shim {
    /// Takes all that have ended: our own children and orphans of containers.
    pub(super) fn children_ended(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Some((pid, status)) = syscall::reap() {
            let exit = exit_of(status);
            let container = self.containers.values().find(|entry| entry.pid == pid && !matches!(entry.phase, Phase::Exited { .. }));
            if let Some(id) = container.map(|entry| entry.spec.id.clone()) {
                self.container_ended(&id, exit);
            } else if let Some(id) = self.execs.iter().find(|(_, exec)| exec.pid == pid).map(|(id, _)| *id) {
                self.exec_ended(id, exit);
            }
        }
    }

    fn container_ended(&mut self, id: &str, mut exit: Exit) {
        // It may have been executed, or have failed, just before. An ended process has closed its report: it is one of both.
        self.container_progress(id);
        let Some(entry) = self.containers.get_mut(id) else { return };
        let Phase::Running { started_at } = entry.phase else { return };
        if self.pause.is_some() || entry.spec.process_namespace_of.is_some() {
            entry.kill_group();
        }
        entry.stdin = None;
        exit.out_of_memory = exit.code == KILLED && entry.group.out_of_memory_kills() > 0;
        entry.phase = Phase::Exited { started_at, exit: exit.clone() };
        self.finish_outputs(id);
        self.save();
        let message = Message::Exited { container: id.to_owned(), exit };
        let peers: Vec<u64> = self.peers.keys().copied().collect();
        for peer in peers {
            self.send(peer, &message, Vec::new());
        }
    }

    fn exec_ended(&mut self, id: u64, exit: Exit) {
        self.exec_progress(id);
        let Some(entry) = self.execs.remove(&id) else { return };
        self.send(entry.peer, &Message::ExecExited { exec: id, exit }, Vec::new());
    }
}

fn exit_of(status: i32) -> Exit {
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    let code = signal.map_or_else(|| libc::WEXITSTATUS(status), |signal| 128 + signal);
    Exit { code, signal, out_of_memory: false, finished_at: clock::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_kept_and_a_signal_becomes_a_code() {
        assert_eq!((exit_of(3 << 8).code, exit_of(3 << 8).signal), (3, None));
        assert_eq!((exit_of(9).code, exit_of(9).signal), (137, Some(9)));
        // Real-time signals too.
        assert_eq!((exit_of(34).code, exit_of(34).signal), (162, Some(34)));
    }
}
