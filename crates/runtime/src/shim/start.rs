//! Starting a container.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;

use super::entry::{Caller, Entry, Phase, Progress, Starting};
use super::events::Shim;
use super::log::Log;
use super::poller::{Source, Subject};
use crate::cgroup::Group;
use crate::process::command::Program;
use crate::process::privileges::Capabilities;
use crate::process::{Launch, Launched, container, seccomp};
use crate::protocol::{Answer, Refusal};
use crate::{ContainerSpec, Seccomp, clock, is_plain_name, state, syscall};

impl Shim {
    /// Begins; the caller is answered when the command has been executed, or can't be.
    pub(super) fn start(&mut self, caller: Caller, spec: ContainerSpec) -> Result<(), Refusal> {
        if !is_plain_name(&spec.id) {
            return Err(Refusal::CannotRun(format!("{:?} is no container id", spec.id)));
        }
        if self.containers.contains_key(&spec.id) {
            return Err(Refusal::Failed(format!("container {} exists", spec.id)));
        }
        let group = self.group.container(&spec.id);
        let (program, log, launched) = match self.launch(&spec, &group) {
            Ok(launched) => launched,
            Err(refusal) => {
                self.remove_group(group, caller, Err(refusal));
                return Ok(());
            }
        };
        let source = Source::Report(Subject::Container(spec.id.clone()));
        let token = match self.poller.watch(&launched.report, source) {
            Ok(token) => token,
            Err(error) => {
                self.remove_group(group, caller, Err(launched.abandon(error)));
                return Ok(());
            }
        };
        let (pid, process, starting) = Starting::new(launched, caller, token);
        let phase = Phase::Starting(starting);
        let entry = Entry { spec, program, group, pid, process, log, outputs: Vec::new(), stdin: None, phase };
        self.containers.insert(entry.spec.id.clone(), entry);
        Ok(())
    }

    fn launch(&mut self, spec: &ContainerSpec, group: &Group) -> Result<(Program, Log, Launched), Refusal> {
        let program = self.program(spec)?;
        let warnings = group.create(&spec.resources).map_err(|error| Refusal::Failed(format!("making a control group: {error}")))?;
        self.warn(warnings);
        group.prepare_container(spec.security.privileged)?;
        let log =
            Log::open(&spec.log_path).map_err(|error| Refusal::Failed(format!("opening the log {}: {error}", spec.log_path.display())))?;
        let shared_memory = state::shared_memory(&self.directory);
        let plan = container::Plan { spec, program: &program, group, shared_memory: &shared_memory };
        let target = spec.process_namespace_of.as_ref().map(|id| self.running_process(id)).transpose()?;
        let beside = self.pause.as_ref().or(target);
        let own = if beside.is_some() { CloneFlags::empty() } else { CloneFlags::CLONE_NEWPID };
        let launch = Launch { terminal: spec.terminal, stdin: spec.stdin, namespaces: own | CloneFlags::CLONE_NEWNS, beside };
        let launched = launch.start(|child| container::run(&plan, child))?;
        Ok((program, log, launched))
    }

    /// The first process of a container.
    fn running_process(&self, id: &str) -> Result<&OwnedFd, Refusal> {
        let running = self.containers.get(id).filter(|entry| entry.is_running());
        running.map(|entry| &entry.process).ok_or_else(|| Refusal::NotRunning(id.to_owned()))
    }

    fn program(&mut self, spec: &ContainerSpec) -> Result<Program, Refusal> {
        let wanted = Capabilities::parse(&spec.security.capabilities)
            .map_err(|name| Refusal::CannotRun(format!("capability {name} does not exist")))?;
        let (capabilities, missing) = wanted.limited_to(self.capabilities);
        self.warn(missing.iter().map(|name| format!("CAP_{name} can't be given: this process lacks it")).collect());
        let filter = match spec.security.seccomp {
            Seccomp::Unconfined => Vec::new(),
            Seccomp::RuntimeDefault => {
                seccomp::program(capabilities).map_err(|error| Refusal::Failed(format!("building the seccomp filter: {error}")))?
            }
        };
        Ok(Program {
            args: spec.args.clone(),
            env: spec.env.clone(),
            working_dir: spec.working_dir.clone(),
            user: spec.user.clone(),
            security: spec.security.clone(),
            capabilities,
            filter,
            terminal: spec.terminal,
        })
    }

    /// Remembers what can't be enforced, each once.
    fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// A child has said something, or has become its command.
    pub(super) fn report(&mut self, subject: &Subject) {
        match subject {
            Subject::Container(id) => self.container_progress(id),
            Subject::Exec(id) => self.exec_progress(*id),
        }
    }

    /// Takes a starting container as far as it has come.
    pub(super) fn container_progress(&mut self, id: &str) {
        let Some(entry) = self.containers.get_mut(id) else { return };
        let Phase::Starting(starting) = &mut entry.phase else { return };
        match starting.progress() {
            Progress::Waiting => {}
            Progress::Executed => self.container_started(id),
            Progress::Failed(refusal) => self.container_failed(id, refusal),
        }
    }

    fn container_started(&mut self, id: &str) {
        let Some(entry) = self.containers.get_mut(id) else { return };
        let started_at = clock::now();
        let Phase::Starting(mut starting) = std::mem::replace(&mut entry.phase, Phase::Running { started_at }) else { return };
        entry.stdin = starting.ends.stdin.take();
        let pid = entry.pid;
        self.poller.forget(starting.token, &starting.report);
        let streams = [("stdout", starting.ends.stdout.take()), ("stderr", starting.ends.stderr.take())];
        if let Err(error) = self.watch_outputs(id, streams) {
            eprintln!("shim: watching the output of {id}: {error}");
        }
        self.save();
        self.reply(starting.caller, Ok(Answer::Started { pid, started_at }));
    }

    fn container_failed(&mut self, id: &str, refusal: Refusal) {
        let Some(entry) = self.containers.remove(id) else { return };
        // It is ending by itself; if not, it must.
        let _ended = entry.kill();
        if let Phase::Starting(starting) = entry.phase {
            self.poller.forget(starting.token, &starting.report);
            self.remove_group(entry.group, starting.caller, Err(refusal));
        }
    }
}

impl Starting {
    /// Ends the child; asked again much later if it does not end.
    pub(super) fn give_up(&mut self, now: Instant, process: &OwnedFd) {
        const AGAIN: Duration = Duration::from_secs(60);
        self.deadline = now + AGAIN;
        let _ended = syscall::signal_process(std::os::fd::AsFd::as_fd(process), libc::SIGKILL);
    }
}
