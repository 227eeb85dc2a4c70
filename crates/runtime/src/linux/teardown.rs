//! Ending what is left of a pod, whatever state it is in. All of it blocks.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cgroup::Group;
use crate::state::{Saved, shared_memory};
use crate::syscall;

/// A process that has not ended so long after it was killed is stuck in the kernel.
const DEADLINE: Duration = Duration::from_secs(12);

/// The kernel does not tell when a group can be removed or a lock is free: it is tried again.
const RETRY: Duration = Duration::from_millis(2);

/// Ends all processes of a pod and removes its groups and its directory.
pub(super) fn remove(directory: &Path, group: &Group, shim: Option<i32>) -> io::Result<()> {
    silence(directory, group, shim)?;
    until(Instant::now() + DEADLINE, || match group.remove() {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        done => done.map(Some),
    })?;
    // Not mounted if the shim did not come to that.
    let _absent = umount2(&shared_memory(directory), MntFlags::MNT_DETACH);
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Ends the containers, then the shim, which clears their ends away, and whatever appeared in between.
pub(super) fn silence(directory: &Path, group: &Group, shim: Option<i32>) -> io::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    kill_group(group, deadline)?;
    end_shim(directory, shim, deadline)?;
    kill_group(group, deadline)
}

/// Kills until nobody is left.
fn kill_group(group: &Group, deadline: Instant) -> io::Result<()> {
    until(deadline, || {
        let processes: Vec<OwnedFd> = group.processes().into_iter().filter_map(|pid| syscall::open_process(pid).ok()).collect();
        for process in &processes {
            // Gone meanwhile is fine.
            let _gone = syscall::signal_process(process.as_fd(), libc::SIGKILL);
        }
        processes.iter().try_for_each(|process| wait(process, deadline))?;
        Ok(processes.is_empty().then_some(()))
    })
}

fn end_shim(directory: &Path, shim: Option<i32>, deadline: Instant) -> io::Result<()> {
    until(deadline, || {
        if !is_alive(directory)? {
            return Ok(Some(()));
        }
        let saved = Saved::read(directory).ok().flatten().map(|saved| saved.sandbox.shim_pid);
        // While it holds the lock, its number can't belong to another process. One without a number is being born and ends by itself.
        if let Some(process) = shim.or(saved).and_then(|pid| syscall::open_process(pid).ok()) {
            syscall::signal_process(process.as_fd(), libc::SIGKILL)?;
            wait(&process, deadline)?;
        }
        Ok(None)
    })
}

/// Whether the pod's shim lives: it holds the lock of the directory as long as it does.
pub(super) fn is_alive(directory: &Path) -> io::Result<bool> {
    let opened = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match opened.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn wait(process: &OwnedFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
    let timeout = PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
    let ended = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout)?;
    if ended == 0 { Err(io::Error::new(io::ErrorKind::TimedOut, "a killed process does not end")) } else { Ok(()) }
}

/// Tries until there is a result.
fn until<T>(deadline: Instant, mut attempt: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    loop {
        match attempt()? {
            Some(result) => return Ok(result),
            None if Instant::now() >= deadline => return Err(io::Error::new(io::ErrorKind::TimedOut, "the pod does not end")),
            None => sleep(RETRY),
        }
    }
}
