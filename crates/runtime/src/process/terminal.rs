//! A terminal inside a container.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;

use super::{Child, Report};
use crate::syscall;

/// The file system type of devpts.
const DEVPTS: i64 = 0x1cd1;

/// Opens a terminal of the container's own, gives its master to the shim and returns the process's end.
pub(super) fn open_terminal(child: &Child) -> io::Result<OwnedFd> {
    let master = open("/dev/pts/ptmx", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())?;
    // A container that has mounted something else there must not give the server that.
    if fstatfs(&master)?.filesystem_type().0 != DEVPTS {
        return Err(io::Error::other("/dev/pts is not the container's devpts"));
    }
    let terminal = syscall::open_terminal_peer(master.as_fd())?;
    syscall::set_controlling_terminal(terminal.as_fd())?;
    child.tell(&Report::Terminal, Some(&master));
    Ok(terminal)
}
