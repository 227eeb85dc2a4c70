//! Carrying messages to the kernel and its answers back, with a deadline.

use std::io;
use std::time::Duration;

use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{ReceiveTimeout, SndBufForce};
use nix::sys::time::TimeVal;

use super::attributes::{find, text_of};
use super::message::{HEADER, Message};

/// How long the kernel may take for one answer. It answers within the request except when it has to wait for a lock.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest batch that is sent at once.
const MAX_SENT: usize = 64 << 20;

/// The group that is told of links.
const LINK_CHANGES: u32 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The text attribute of an extended acknowledgement.
const MESSAGE_TEXT: u16 = 1;

/// Which part of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bus {
    /// Links, addresses, routes.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// The kernel refused a message, or did not answer.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What the message was about.
    pub(crate) subject: String,
    pub(crate) source: io::Error,
}

impl Refused {
    /// The error number, if the kernel gave one.
    pub(crate) fn is(&self, errno: Errno) -> bool {
        self.source.raw_os_error() == Some(errno as i32)
    }
}

/// A connection to one part of the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: RawSocket,
    sequence: u32,
}

impl Socket {
    pub(crate) fn open(bus: Bus) -> io::Result<Self> {
        let protocol = match bus {
            Bus::Route => netlink_sys::protocols::NETLINK_ROUTE,
            Bus::Netfilter => netlink_sys::protocols::NETLINK_NETFILTER,
        };
        let mut raw = RawSocket::new(protocol)?;
        raw.bind_auto()?;
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_cap_ack(true)?;
        raw.set_ext_ack(true)?;
        let timeout = TimeVal::new(ANSWER.as_secs().cast_signed(), 0);
        setsockopt(&raw, ReceiveTimeout, &timeout)?;
        Ok(Self { raw, sequence: 0 })
    }

    /// Wants to be told whenever a link changes.
    pub(crate) fn watch_links(&mut self) -> io::Result<()> {
        self.raw.add_membership(LINK_CHANGES)
    }

    /// Waits until a link changes. That there were more changes than could be kept is one too.
    pub(crate) fn link_change(&mut self) -> Result<(), Refused> {
        match self.receive("waiting for a link") {
            Err(refused) if !refused.is(Errno::ENOBUFS) => Err(refused),
            _ => Ok(()),
        }
    }

    /// Sends messages at once and waits until all are done; the first that was refused.
    pub(crate) fn request(&mut self, messages: Vec<Message>) -> Result<(), Refused> {
        let (first, subjects) = self.send(messages.into_iter().map(Message::acknowledge).collect())?;
        let mut outcome = Ok(());
        for _ in 0..subjects.len() {
            let Err(refused) = self.acknowledgement(first, &subjects) else { continue };
            let silent = refused.is(Errno::EAGAIN);
            outcome = outcome.and(Err(refused));
            if silent {
                break;
            }
        }
        outcome
    }

    /// Sends one transaction, of which the message before the last is acknowledged when all of it is done.
    pub(crate) fn transact(&mut self, mut messages: Vec<Message>) -> Result<(), Refused> {
        let Some(position) = messages.len().checked_sub(2) else { return Ok(()) };
        messages[position] = messages[position].clone().acknowledge();
        let (first, subjects) = self.send(messages)?;
        self.acknowledgement(first, &subjects)
    }

    /// Asks for all objects of a kind; `each` is given what follows the header of every one.
    pub(crate) fn dump(&mut self, message: Message, mut each: impl FnMut(&[u8])) -> Result<(), Refused> {
        let (first, subjects) = self.send(vec![message.dump()])?;
        loop {
            for (kind, sequence, content) in parts(&self.receive(&subjects[0])?) {
                match kind {
                    _ if sequence != first => {}
                    DONE => return Ok(()),
                    ERROR => return outcome_of(content, &subjects[0]),
                    _ => each(content),
                }
            }
        }
    }

    /// Asks for one object: what follows the header of the answer, or nothing if there is none.
    pub(crate) fn get(&mut self, message: Message) -> Result<Option<Vec<u8>>, Refused> {
        let (first, subjects) = self.send(vec![message])?;
        loop {
            for (kind, sequence, content) in parts(&self.receive(&subjects[0])?) {
                match kind {
                    _ if sequence != first => {}
                    ERROR => match outcome_of(content, &subjects[0]) {
                        Err(refused) if !refused.is(Errno::ENODEV) && !refused.is(Errno::ENOENT) => return Err(refused),
                        _ => return Ok(None),
                    },
                    _ => return Ok(Some(content.to_owned())),
                }
            }
        }
    }

    fn send(&mut self, messages: Vec<Message>) -> Result<(u32, Vec<String>), Refused> {
        let first = self.sequence.wrapping_add(1);
        let (mut bytes, mut subjects) = (Vec::new(), Vec::with_capacity(messages.len()));
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            subjects.push(message.subject().to_owned());
            bytes.extend_from_slice(&message.finish(self.sequence));
        }
        let refused = |source: io::Error| Refused { subject: subjects.first().cloned().unwrap_or_default(), source };
        if bytes.len() > MAX_SENT {
            return Err(refused(io::Error::new(io::ErrorKind::FileTooLarge, "the change is too large for one transaction")));
        }
        if bytes.len() > 64 << 10 {
            setsockopt(&self.raw, SndBufForce, &(bytes.len() * 2)).map_err(|errno| refused(errno.into()))?;
        }
        let sent = self.raw.send(&bytes, 0).map_err(refused)?;
        if sent != bytes.len() {
            return Err(refused(io::Error::new(io::ErrorKind::WriteZero, "the kernel took only a part of the request")));
        }
        Ok((first, subjects))
    }

    /// Waits for the next verdict on one of the messages that were sent.
    fn acknowledgement(&mut self, first: u32, subjects: &[String]) -> Result<(), Refused> {
        let nobody = subjects.first().map_or("", String::as_str);
        loop {
            for (kind, sequence, content) in parts(&self.receive(nobody)?) {
                // An earlier request that was given up may still be answered.
                let subject = usize::try_from(sequence.wrapping_sub(first)).ok().and_then(|position| subjects.get(position));
                if let (ERROR, Some(subject)) = (kind, subject) {
                    return outcome_of(content, subject);
                }
            }
        }
    }

    /// One datagram. Acknowledgements come one to a datagram, so that none is lost by reading only the first part.
    fn receive(&mut self, subject: &str) -> Result<Vec<u8>, Refused> {
        loop {
            match self.raw.recv_from_full() {
                Ok((bytes, _)) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Refused { subject: subject.to_owned(), source }),
            }
        }
    }
}

/// The messages in a datagram: kind, sequence number, and what follows the header.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = usize::try_from(word(0)).ok()?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let content = bytes.get(HEADER..length)?;
        let sequence = word(8);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, content))
    })
}

/// What an acknowledgement says: zero is success, else the error, with the kernel's words if it has any.
fn outcome_of(content: &[u8], subject: &str) -> Result<(), Refused> {
    let code = content.get(..4).and_then(|code| code.try_into().ok()).map_or(-libc::EIO, i32::from_ne_bytes);
    if code == 0 {
        return Ok(());
    }
    let words = content.get(4 + HEADER..).and_then(|rest| find(rest, MESSAGE_TEXT)).map(text_of);
    let subject = match words {
        Some(words) => format!("{subject} ({words})"),
        None => subject.to_owned(),
    };
    Err(Refused { subject, source: io::Error::from_raw_os_error(-code) })
}
