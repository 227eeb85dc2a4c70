//! Clients of a container's streams: each gets a copy of the output, beside the log, and may give input.
//!
//! # Guarantees
//! * A client loses nothing of the output from its answer on. One that does not read holds the container back, but not for long: it is
//!   cut off.
//! * A client is gone when its ends are closed, by whom and for whatever reason: also when the server was killed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, write};

use super::entry::{Caller, set_nonblocking};
use super::events::Shim;
use super::poller::{Poller, Source, Token};
use crate::protocol::{Answer, Message, Refusal};

/// How long a client may keep a container from writing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients of one pod.
const MAX_ATTACHMENTS: usize = 32;

/// One client.
pub(super) struct Attachment {
    container: String,
    /// It may give input.
    gives: bool,
    /// By the places of the container's outputs.
    sinks: Vec<Option<Sink>>,
    /// The container has ended: what is unwritten is the last.
    ends: bool,
}

/// Where a client's copy of a stream goes.
struct Sink {
    descriptor: OwnedFd,
    token: Token,
    unwritten: Vec<u8>,
    /// Until when it must have taken something.
    deadline: Option<Instant>,
}

impl Shim {
    /// Answers with the client's ends.
    pub(super) fn attach(&mut self, caller: Caller, container: &str, input: bool) -> Result<(), Refusal> {
        if self.attachments.len() >= MAX_ATTACHMENTS {
            return Err(Refusal::Failed(format!("{MAX_ATTACHMENTS} clients are attached already; try again when one has left")));
        }
        let id = self.next_attachment;
        self.next_attachment += 1;
        let entry = self.running(container)?;
        let (is_terminal, gives) = (entry.spec.terminal, entry.spec.stdin && input);
        // The terminal is for telling its size, too.
        let stdin = if is_terminal { entry.terminal() } else { entry.stdin.as_ref().filter(|_| gives) };
        let stdin = stdin.map(OwnedFd::try_clone).transpose()?;
        let mut ends = Vec::new();
        let mut attachment = Attachment { container: container.to_owned(), gives, sinks: Vec::new(), ends: false };
        for place in 0..if is_terminal { 1 } else { 2 } {
            match sink(&mut self.poller, Source::Sink { attachment: id, place }) {
                Ok((end, sink)) => {
                    attachment.sinks.push(Some(sink));
                    ends.push(end);
                }
                Err(error) => {
                    attachment.close_all(&mut self.poller);
                    return Err(error.into());
                }
            }
        }
        let answer = Answer::Attached { stdin: stdin.is_some(), stderr: !is_terminal };
        ends.splice(1..1, stdin);
        self.attachments.insert(id, attachment);
        self.send(caller.peer, &Message::Reply { id: caller.call, result: Ok(answer) }, ends);
        Ok(())
    }

    /// The container reads the end when all who are attached have closed theirs.
    pub(super) fn close_stdin(&mut self, container: &str) -> Result<Answer, Refusal> {
        self.container(container)?.stdin = None;
        Ok(Answer::Done)
    }

    /// Gives the clients of a stream what was just read of it. Who can't take it all holds the stream.
    pub(super) fn share(&mut self, container: &str, place: usize, count: usize) {
        let mut gone = Vec::new();
        let mut behind = false;
        for (id, attachment) in self.attachments.iter_mut().filter(|(_, attachment)| attachment.container == container) {
            let Some(Some(sink)) = attachment.sinks.get_mut(place) else { continue };
            sink.unwritten.extend_from_slice(&self.buffer[..count]);
            match sink.flush(&mut self.poller) {
                Ok(()) => behind |= sink.is_behind(),
                Err(_) => gone.push(*id),
            }
        }
        if behind {
            self.hold_output(container, place, true);
        }
        gone.into_iter().for_each(|id| self.leave(id));
    }

    /// A client can take more, or is gone.
    pub(super) fn serve_sink(&mut self, id: u64, place: usize) {
        let Some(attachment) = self.attachments.get_mut(&id) else { return };
        let Some(Some(sink)) = attachment.sinks.get_mut(place) else { return };
        if sink.is_closed() || sink.flush(&mut self.poller).is_err() {
            return self.leave(id);
        }
        if sink.is_behind() {
            return;
        }
        if attachment.ends {
            attachment.close(place, &mut self.poller);
            if attachment.sinks.iter().all(Option::is_none) {
                self.attachments.remove(&id);
            }
            return;
        }
        let container = attachment.container.clone();
        self.go_on(&container, place);
    }

    /// Reads a stream again if none of its clients is behind.
    fn go_on(&mut self, container: &str, place: usize) {
        let mut sinks = self.attachments.values().filter(|other| other.container == container).filter_map(|other| other.sinks.get(place));
        if !sinks.any(|sink| sink.as_ref().is_some_and(Sink::is_behind)) {
            self.hold_output(container, place, false);
        }
    }

    /// A client has gone. If it could give input, that may have been all there will be.
    fn leave(&mut self, id: u64) {
        let Some(mut attachment) = self.attachments.remove(&id) else { return };
        for place in 0..attachment.sinks.len() {
            attachment.close(place, &mut self.poller);
            self.go_on(&attachment.container, place);
        }
        if let Some(entry) = self.containers.get_mut(&attachment.container)
            && attachment.gives
            && entry.spec.stdin_once
        {
            entry.stdin = None;
        }
    }

    /// The container has ended, and all its output is shared: clients get the rest of it, and then the end.
    pub(super) fn dismiss(&mut self, container: &str) {
        for attachment in self.attachments.values_mut().filter(|attachment| attachment.container == container) {
            attachment.ends = true;
            for place in 0..attachment.sinks.len() {
                if attachment.sinks[place].as_ref().is_some_and(|sink| !sink.is_behind()) {
                    attachment.close(place, &mut self.poller);
                }
            }
        }
        self.attachments.retain(|_, attachment| attachment.sinks.iter().any(Option::is_some));
    }

    pub(super) fn cut_off_late_clients(&mut self) {
        let now = Instant::now();
        let is_late = |attachment: &Attachment| attachment.deadline().is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> = self.attachments.iter().filter(|(_, attachment)| is_late(attachment)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.leave(id));
    }
}

impl Attachment {
    /// When its patience with the client ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sinks.iter().flatten().filter_map(|sink| sink.deadline).min()
    }

    fn close(&mut self, place: usize, poller: &mut Poller) {
        if let Some(sink) = self.sinks.get_mut(place).and_then(Option::take) {
            poller.forget(sink.token, &sink.descriptor);
        }
    }

    fn close_all(&mut self, poller: &mut Poller) {
        (0..self.sinks.len()).for_each(|place| self.close(place, poller));
    }
}

/// A pipe to a client: its end, and ours, which is watched.
fn sink(poller: &mut Poller, source: Source) -> io::Result<(OwnedFd, Sink)> {
    let (end, descriptor) = pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(&descriptor)?;
    let token = poller.watch(&descriptor, source)?;
    Ok((end, Sink { descriptor, token, unwritten: Vec::new(), deadline: None }))
}

impl Sink {
    fn is_behind(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Nobody can read it any more.
    fn is_closed(&self) -> bool {
        let mut asked = [PollFd::new(self.descriptor.as_fd(), PollFlags::empty())];
        let answered = poll(&mut asked, PollTimeout::ZERO);
        answered.is_ok() && asked[0].revents().is_some_and(|found| found.contains(PollFlags::POLLERR))
    }

    /// Writes what it takes, and watches for more room if that is not all.
    fn flush(&mut self, poller: &mut Poller) -> io::Result<()> {
        let before = self.unwritten.len();
        while self.is_behind() {
            match write(&self.descriptor, &self.unwritten) {
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if !self.is_behind() {
            self.deadline = None;
        } else if self.deadline.is_none() || self.unwritten.len() < before {
            self.deadline = Some(Instant::now() + PATIENCE);
        }
        poller.watch_writing(self.token, &self.descriptor, self.is_behind())
    }
}
