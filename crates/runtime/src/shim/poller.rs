//! Waiting for whatever happens first.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What something can happen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Signals,
    Listener,
    Peer(u64),
    Report(Subject),
    /// One of a container's output streams, by its place in the list.
    Output {
        container: String,
        place: usize,
    },
    /// A client's copy of one of these streams.
    Sink {
        attachment: u64,
        place: usize,
    },
}

/// What a child will become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Container(String),
    Exec(u64),
}

/// The name of a watched descriptor.
pub(super) type Token = u64;

/// How many events are taken at once.
const BATCH: usize = 32;

pub(super) struct Poller {
    epoll: Epoll,
    sources: HashMap<Token, Source>,
    next: Token,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, sources: HashMap::new(), next: 0 })
    }

    /// Reports from now on when the descriptor can be read.
    pub(super) fn watch(&mut self, descriptor: impl AsFd, source: Source) -> io::Result<Token> {
        self.next += 1;
        self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
        self.sources.insert(self.next, source);
        Ok(self.next)
    }

    /// Reports also, or no longer, when the descriptor can be written.
    pub(super) fn watch_writing(&mut self, token: Token, descriptor: impl AsFd, wanted: bool) -> io::Result<()> {
        let flags = if wanted { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        self.epoll.modify(descriptor, &mut EpollEvent::new(flags, token)).map_err(Into::into)
    }

    /// Must precede closing: a child that is being born may still hold a copy, which would keep reporting.
    pub(super) fn forget(&mut self, token: Token, descriptor: impl AsFd) {
        self.sources.remove(&token);
        // An error means that it is not watched: as wished.
        let _absent = self.epoll.delete(descriptor);
    }

    /// What has happened; nothing if the time is over.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Source>> {
        // Rounded up, so that a deadline is over when the wait for it ends.
        let milliseconds = |timeout: Duration| u16::try_from(timeout.as_millis() + 1).unwrap_or(u16::MAX);
        let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| EpollTimeout::from(milliseconds(timeout)));
        let mut events = [EpollEvent::empty(); BATCH];
        match self.epoll.wait(&mut events, timeout) {
            Ok(count) => Ok(events[..count].iter().filter_map(|event| self.sources.get(&event.data()).cloned()).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}
