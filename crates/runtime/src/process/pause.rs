//! The first process of a process namespace that containers share: it takes over orphans, and nothing else.

use std::io;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, fchdir, pivot_root};

use super::privileges;
use crate::cgroup::Group;
use crate::syscall;

/// Waits for ever, without rights, in an empty file system: containers can see this process.
pub(crate) fn run(group: &Group) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    syscall::reset_signals()?;
    // Ignoring it makes the kernel clear ended children away by itself.
    syscall::ignore_signal(libc::SIGCHLD);
    group.join()?;
    leave_file_system()?;
    syscall::close_inherited()?;
    nix::sys::prctl::set_name(c"pause")?;
    privileges::renounce()?;
    loop {
        nix::unistd::pause();
    }
}

fn leave_file_system() -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let empty = syscall::new_file_system(c"tmpfs", &[(c"size", c"4k"), (c"mode", c"555")], syscall::attribute::READ_ONLY)?;
    let place = std::fs::File::open("/proc")?;
    syscall::attach_mount(std::os::fd::AsFd::as_fd(&empty), std::os::fd::AsFd::as_fd(&place))?;
    fchdir(&empty)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(())
}
