//! From a container's pipes, or its terminal, into its log.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::read;

use super::entry::{Entry, set_nonblocking};
use super::events::Shim;
use super::log::Lines;
use super::poller::{Poller, Source, Token};
use crate::clock;

/// How much is read in one go, so that a loud container does not hold up the others.
const CHUNK: usize = 64 << 10;

/// One stream of a container. Closed when the container has closed it.
pub(super) struct Output {
    lines: Lines,
    open: Option<(OwnedFd, Token)>,
    /// A client is behind: nothing is read until it has caught up.
    held: bool,
}

impl Shim {
    /// Watches the streams of a container that has just started.
    pub(super) fn watch_outputs(&mut self, container: &str, streams: [(&'static str, Option<OwnedFd>); 2]) -> std::io::Result<()> {
        let Some(entry) = self.containers.get_mut(container) else { return Ok(()) };
        for (name, descriptor) in streams {
            let Some(descriptor) = descriptor else { continue };
            set_nonblocking(&descriptor)?;
            let source = Source::Output { container: container.to_owned(), place: entry.outputs.len() };
            let token = self.poller.watch(&descriptor, source)?;
            entry.outputs.push(Output { lines: Lines::new(name), open: Some((descriptor, token)), held: false });
        }
        Ok(())
    }

    pub(super) fn read_output(&mut self, container: &str, place: usize) {
        let Some(entry) = self.containers.get_mut(container) else { return };
        // What happened may be from before it was held.
        if entry.outputs.get(place).is_some_and(|output| !output.held) {
            let count = entry.read(place, &mut self.poller, &mut self.buffer);
            self.share(container, place, count);
        }
    }

    /// Takes what is left of an ended container's output, then closes the streams.
    pub(super) fn finish_outputs(&mut self, container: &str) {
        /// A process that has escaped the container could write for ever.
        const MAX_CHUNKS: usize = 64;
        let places = self.containers.get(container).map_or(0, |entry| entry.outputs.len());
        for place in 0..places {
            for _ in 0..MAX_CHUNKS {
                let Some(entry) = self.containers.get_mut(container) else { return };
                match entry.read(place, &mut self.poller, &mut self.buffer) {
                    0 => break,
                    count => self.share(container, place, count),
                }
            }
            if let Some(entry) = self.containers.get_mut(container) {
                entry.close(place, &mut self.poller);
            }
        }
        self.dismiss(container);
    }

    /// Stops, or goes on, reading a stream.
    pub(super) fn hold_output(&mut self, container: &str, place: usize, hold: bool) {
        let output = self.containers.get_mut(container).and_then(|entry| entry.outputs.get_mut(place));
        let Some(output) = output.filter(|output| output.held != hold) else { return };
        output.held = hold;
        let Some((descriptor, token)) = &mut output.open else { return };
        if hold {
            return self.poller.forget(*token, &*descriptor);
        }
        match self.poller.watch(&*descriptor, Source::Output { container: container.to_owned(), place }) {
            Ok(watched) => *token = watched,
            Err(error) => eprintln!("shim: watching the output of {container}: {error}"),
        }
    }
}

impl Entry {
    /// Reads a stream once. Returns how much of the buffer is new; nothing if there is no more.
    fn read(&mut self, place: usize, poller: &mut Poller, buffer: &mut Vec<u8>) -> usize {
        let Some(output) = self.outputs.get_mut(place) else { return 0 };
        let Some((descriptor, _)) = &output.open else { return 0 };
        buffer.resize(CHUNK, 0);
        match read(descriptor, buffer) {
            Ok(count) if count > 0 => {
                self.log.write(&output.lines.push(&buffer[..count], clock::now()));
                count
            }
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            // The end; a terminal reports it as an error.
            _ => {
                self.close(place, poller);
                0
            }
        }
    }

    fn close(&mut self, place: usize, poller: &mut Poller) {
        let Some(output) = self.outputs.get_mut(place) else { return };
        if let Some((descriptor, token)) = output.open.take() {
            poller.forget(token, &descriptor);
            self.log.write(&output.lines.finish(clock::now()));
        }
    }

    /// The master of the container's terminal, if it has one.
    pub(super) fn terminal(&self) -> Option<&OwnedFd> {
        let output = self.outputs.first().filter(|_| self.spec.terminal)?;
        output.open.as_ref().map(|(master, _)| master)
    }
}
