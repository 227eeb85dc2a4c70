//! The loop.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::attach::Attachment;
use super::entry::{Caller, Entry, ExecEntry, Phase, kill_all};
use super::peer::Peer;
use super::poller::{Poller, Source};
use super::sandbox::Prepared;
use crate::cgroup::Group;
use crate::process::privileges::Capabilities;
use crate::protocol::{Answer, Message, Refusal, SETUP_CALL, Setup};
use crate::state::Saved;
use crate::{Sandbox, SandboxSpec};

/// How long a group may stay busy after its last process was killed.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(5);

/// The kernel does not tell when a group can be removed: it is tried again.
const REMOVAL_RETRY: Duration = Duration::from_millis(2);

/// Everything there is to know about the pod.
pub(super) struct Shim {
    pub(super) directory: PathBuf,
    boot: String,
    spec: SandboxSpec,
    pub(super) group: Group,
    pub(super) capabilities: Capabilities,
    pub(super) pause: Option<OwnedFd>,
    pub(super) warnings: Vec<String>,
    pub(super) containers: BTreeMap<String, Entry>,
    pub(super) execs: BTreeMap<u64, ExecEntry>,
    pub(super) next_exec: u64,
    pub(super) attachments: BTreeMap<u64, Attachment>,
    pub(super) next_attachment: u64,
    pub(super) peers: BTreeMap<u64, Peer>,
    next_peer: u64,
    removals: Vec<Removal>,
    pub(super) poller: Poller,
    pub(super) buffer: Vec<u8>,
    listener: UnixListener,
    pub(super) signals: SignalFd,
    /// Held as long as this process lives: by it a server knows.
    _lock: OwnedFd,
}

/// A group that is to be removed as soon as the kernel lets it.
struct Removal {
    group: Group,
    /// Who waits, and for which answer. It comes last: then the group's name is free.
    caller: Caller,
    result: Result<Answer, Refusal>,
    deadline: Instant,
}

impl Shim {
    /// Begins to serve; the server that started us is the first peer and learns that we are ready.
    pub(super) fn new(setup: &mut Setup, prepared: Prepared, server: UnixStream, lock: OwnedFd) -> io::Result<Self> {
        let mut ended = SigSet::empty();
        ended.add(Signal::SIGCHLD);
        ended.thread_block()?;
        let signals = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut poller = Poller::new()?;
        poller.watch(&signals, Source::Signals)?;
        poller.watch(&prepared.listener, Source::Listener)?;
        let mut shim = Self {
            directory: std::mem::take(&mut setup.directory),
            boot: std::mem::take(&mut setup.boot),
            spec: setup.sandbox.clone(),
            group: prepared.group,
            capabilities: prepared.capabilities,
            pause: prepared.pause,
            warnings: prepared.warnings,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            next_exec: 1,
            attachments: BTreeMap::new(),
            next_attachment: 1,
            peers: BTreeMap::new(),
            next_peer: 1,
            removals: Vec::new(),
            poller,
            buffer: Vec::new(),
            listener: prepared.listener,
            signals,
            _lock: lock,
        };
        shim.saved().write(&shim.directory)?;
        let peer = shim.add_peer(server)?;
        shim.reply(Caller { peer, call: SETUP_CALL }, Ok(Answer::Sandbox(Box::new(shim.describe()))));
        Ok(shim)
    }

    pub(super) fn run(mut self) -> io::Result<Infallible> {
        loop {
            for source in self.poller.wait(self.timeout())? {
                self.handle(source);
            }
            self.remove_groups();
            self.give_up_late_starts();
            self.cut_off_late_clients();
        }
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.children_ended(),
            Source::Listener => self.accept(),
            Source::Peer(peer) => self.serve(peer),
            Source::Report(subject) => self.report(&subject),
            Source::Output { container, place } => self.read_output(&container, place),
            Source::Sink { attachment, place } => self.serve_sink(attachment, place),
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let starts = self.containers.values().filter_map(Entry::starting);
        let starts = starts.chain(self.execs.values().filter_map(|exec| exec.starting.as_ref()));
        let deadlines = starts.map(|starting| starting.deadline).chain(self.attachments.values().filter_map(Attachment::deadline));
        let deadline = deadlines.map(|deadline| deadline.saturating_duration_since(now)).min();
        let retry = if self.removals.is_empty() { None } else { Some(REMOVAL_RETRY) };
        [deadline, retry].into_iter().flatten().min()
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            // Without descriptors left there is nobody to tell.
            let _full = self.add_peer(socket);
        }
    }

    fn add_peer(&mut self, socket: UnixStream) -> io::Result<u64> {
        let id = self.next_peer;
        self.next_peer += 1;
        let token = self.poller.watch(&socket, Source::Peer(id))?;
        self.peers.insert(id, Peer::new(socket, token)?);
        Ok(id)
    }

    fn serve(&mut self, id: u64) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match peer.flush().and_then(|()| peer.receive()) {
            Ok(calls) => calls.into_iter().for_each(|call| self.call(id, call)),
            Err(_) => self.drop_peer(id),
        }
        self.watch_backlog(id);
    }

    fn watch_backlog(&mut self, id: u64) {
        let Some(peer) = self.peers.get(&id) else { return };
        if self.poller.watch_writing(peer.token, &peer.socket, peer.is_behind()).is_err() {
            self.drop_peer(id);
        }
    }

    /// The server is gone, or talks nonsense. Containers don't notice; its commands in them have lost their streams and end.
    fn drop_peer(&mut self, id: u64) {
        if let Some(peer) = self.peers.remove(&id) {
            self.poller.forget(peer.token, &peer.socket);
        }
        self.execs.values().filter(|exec| exec.peer == id).for_each(ExecEntry::kill);
    }

    pub(super) fn send(&mut self, id: u64, message: &Message, descriptors: Vec<OwnedFd>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match peer.send(message, descriptors) {
            Ok(()) if !peer.is_behind() => {}
            Ok(()) => self.watch_backlog(id),
            Err(_) => self.drop_peer(id),
        }
    }

    pub(super) fn reply(&mut self, caller: Caller, result: Result<Answer, Refusal>) {
        self.send(caller.peer, &Message::Reply { id: caller.call, result }, Vec::new());
    }

    pub(super) fn describe(&self) -> Sandbox {
        Sandbox {
            spec: self.spec.clone(),
            shim_pid: nix::unistd::getpid().as_raw(),
            containers: self.containers.values().filter_map(Entry::describe).collect(),
            warnings: self.warnings.clone(),
        }
    }

    fn saved(&self) -> Saved {
        Saved { boot: self.boot.clone(), sandbox: self.describe() }
    }

    /// Remembers the present state for a server that finds us dead.
    pub(super) fn save(&self) {
        if let Err(error) = self.saved().write(&self.directory) {
            eprintln!("shim: saving the state: {error}");
        }
    }

    /// Removes a group whose processes have ended, or are about to, and then answers.
    pub(super) fn remove_group(&mut self, group: Group, caller: Caller, result: Result<Answer, Refusal>) {
        self.removals.push(Removal { group, caller, result, deadline: Instant::now() + REMOVAL_DEADLINE });
    }

    fn remove_groups(&mut self) {
        for removal in std::mem::take(&mut self.removals) {
            let late = Instant::now() >= removal.deadline;
            let result = match removal.group.remove() {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !late => {
                    kill_all(&removal.group);
                    self.removals.push(removal);
                    continue;
                }
                Err(error) if removal.result.is_ok() => Err(Refusal::Failed(format!("removing the control group: {error}"))),
                _ => removal.result,
            };
            self.reply(removal.caller, result);
        }
    }

    /// Kills children that have not become their command in time; their end is reported as any other.
    fn give_up_late_starts(&mut self) {
        let now = Instant::now();
        for entry in self.containers.values_mut() {
            if let Phase::Starting(starting) = &mut entry.phase
                && starting.deadline <= now
            {
                starting.give_up(now, &entry.process);
            }
        }
        for exec in self.execs.values_mut() {
            if let Some(starting) = exec.starting.as_mut().filter(|starting| starting.deadline <= now) {
                starting.give_up(now, &exec.process);
            }
        }
    }
}
