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
            entry.outputs.push(Output { lines: Lines::new(name), open: Some((descriptor, token)) });
        }
        Ok(())
    }

    pub(super) fn read_output(&mut self, container: &str, place: usize) {
        if let Some(entry) = self.containers.get_mut(container) {
            entry.read(place, &mut self.poller, &mut self.buffer);
        }
    }
}

impl Entry {
    /// Reads a stream once. Returns whether there may be more.
    fn read(&mut self, place: usize, poller: &mut Poller, buffer: &mut Vec<u8>) -> bool {
        let Some(output) = self.outputs.get_mut(place) else { return false };
        let Some((descriptor, _)) = &output.open else { return false };
        buffer.resize(CHUNK, 0);
        match read(descriptor, buffer) {
            Ok(count) if count > 0 => {
                self.log.write(&output.lines.push(&buffer[..count], clock::now()));
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            // The end; a terminal reports it as an error.
            _ => {
                self.close(place, poller);
                false
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

    /// Takes what is left of an ended container's output, then closes the streams.
    pub(super) fn finish_outputs(&mut self, poller: &mut Poller, buffer: &mut Vec<u8>) {
        /// A process that has escaped the container could write for ever.
        const MAX_CHUNKS: usize = 64;
        for place in 0..self.outputs.len() {
            for _ in 0..MAX_CHUNKS {
                if !self.read(place, poller, buffer) {
                    break;
                }
            }
            self.close(place, poller);
        }
    }
}
