//! Pipes and terminals as asynchronous streams.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::net::unix::pipe::{Receiver, Sender};

/// Reads from anything the kernel can wait for. The end of a terminal is an error, as the kernel says it.
pub(crate) fn reader(owned: OwnedFd) -> io::Result<Receiver> {
    set_nonblocking(&owned)?;
    Receiver::from_owned_fd_unchecked(owned)
}

/// Writes to anything the kernel can wait for.
pub(crate) fn writer(owned: OwnedFd) -> io::Result<Sender> {
    set_nonblocking(&owned)?;
    Sender::from_owned_fd_unchecked(owned)
}

fn set_nonblocking(owned: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(owned, FcntlArg::F_GETFL)?);
    fcntl(owned, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Tells a terminal its size; other descriptors have none.
pub(crate) fn resize(terminal: &Sender, width: u16, height: u16) {
    let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    if let Err(error) = rustix::termios::tcsetwinsize(terminal, size) {
        tracing::debug!(%error, "a terminal was not resized");
    }
}
