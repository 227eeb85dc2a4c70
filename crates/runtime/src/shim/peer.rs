//! One connection: usually the server, after a restart its successor.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use super::poller::Token;
use crate::protocol::{self, Incoming, Message};
use crate::syscall;

/// A peer that leaves so many messages unread is cut off.
const MAX_QUEUED: usize = 4096;

pub(super) struct Peer {
    pub(super) socket: UnixStream,
    pub(super) token: Token,
    received: Vec<u8>,
    outgoing: VecDeque<Outgoing>,
}

/// A frame on its way out. The descriptors go with its first byte.
struct Outgoing {
    frame: Vec<u8>,
    written: usize,
    descriptors: Vec<OwnedFd>,
}

impl Peer {
    pub(super) fn new(socket: UnixStream, token: Token) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, token, received: Vec::new(), outgoing: VecDeque::new() })
    }

    /// The calls that have arrived. An error ends the connection, as does its end.
    pub(super) fn receive(&mut self) -> io::Result<Vec<Incoming>> {
        let mut buffer = [0; 16 << 10];
        let (count, _) = match syscall::receive(self.socket.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            received => received?,
        };
        self.received.extend_from_slice(&buffer[..count]);
        let mut calls = Vec::new();
        while let Some(call) = protocol::decode(&mut self.received)? {
            calls.push(call);
        }
        Ok(calls)
    }

    pub(super) fn send(&mut self, message: &Message, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        if self.outgoing.len() >= MAX_QUEUED {
            return Err(io::Error::other("the peer does not read"));
        }
        self.outgoing.push_back(Outgoing { frame: protocol::encode(message)?, written: 0, descriptors });
        self.flush()
    }

    /// Whether something is left to be written.
    pub(super) fn is_behind(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(next) = self.outgoing.front_mut() {
            match next.write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                done => done?,
            }
            if next.written == next.frame.len() {
                self.outgoing.pop_front();
            }
        }
        Ok(())
    }
}

impl Outgoing {
    fn write(&mut self, socket: &UnixStream) -> io::Result<()> {
        let raw: Vec<i32> = self.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[] } else { &rights[..] };
        let slice = [IoSlice::new(&self.frame[self.written..])];
        self.written += sendmsg::<UnixAddr>(socket.as_raw_fd(), &slice, control, MsgFlags::MSG_NOSIGNAL, None)?;
        self.descriptors.clear();
        Ok(())
    }
}
