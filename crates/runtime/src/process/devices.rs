//! A container's `/dev`: a few harmless devices, terminals, message queues, memory shared by the pod. Privileged containers see all devices.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::symlinkat;

use super::container::Plan;
use super::resolve::{Root, create_file};
use super::root::attach;
use crate::syscall::{self, attribute};

const HARMLESS: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// How deep directories of devices are copied for privileged containers.
const MAX_DEPTH: usize = 3;

/// Directories of `/dev` that are file systems of their own.
const OWN: [&str; 3] = ["pts", "shm", "mqueue"];

pub(super) fn mount(root: &Root, plan: &Plan<'_>) -> io::Result<()> {
    let privileged = plan.spec.security.privileged;
    let no_devices = if privileged { 0 } else { attribute::NO_DEVICES };
    let options: [(_, _); 2] = [(c"mode", c"755"), (c"size", c"64k")];
    let devices = syscall::new_file_system(c"tmpfs", &options, attribute::NO_SUID | no_devices)?;
    attach(root, &devices, Path::new("/dev"))?;
    if privileged {
        copy_nodes(Path::new("/dev"), &devices, 0)?;
    } else {
        HARMLESS.iter().try_for_each(|name| bind_device(root, &devices, name))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &devices, name)?;
    }
    mount_own(root, plan)
}

/// Bound from the node: a node made here would not be usable, on purpose.
fn bind_device(root: &Root, devices: &OwnedFd, name: &str) -> io::Result<()> {
    let device = syscall::copy_mount(&CString::new(format!("/dev/{name}"))?, false)?;
    syscall::change_mount(device.as_fd(), attribute::NO_SUID | attribute::NO_EXECUTION, MsFlags::MS_PRIVATE.bits(), false)?;
    create_file(devices, OsStr::new(name))?;
    attach(root, &device, &Path::new("/dev").join(name))
}

fn mount_own(root: &Root, plan: &Plan<'_>) -> io::Result<()> {
    let quiet = attribute::NO_SUID | attribute::NO_EXECUTION;
    // Every mount of devpts is a new one, with terminals of its own.
    let terminals = [(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
    attach(root, &syscall::new_file_system(c"devpts", &terminals, quiet)?, Path::new("/dev/pts"))?;
    attach(root, &syscall::new_file_system(c"mqueue", &[], quiet | attribute::NO_DEVICES)?, Path::new("/dev/mqueue"))?;
    let shared = syscall::copy_mount(&CString::new(plan.shared_memory.as_os_str().as_bytes())?, false)?;
    syscall::change_mount(shared.as_fd(), 0, MsFlags::MS_PRIVATE.bits(), false)?;
    attach(root, &shared, Path::new("/dev/shm"))
}

fn copy_nodes(from: &Path, to: &OwnedFd, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, metadata) = (entry.file_name(), entry.metadata()?);
        let kind = metadata.file_type();
        let mode = Mode::from_bits_truncate(metadata.mode());
        if kind.is_char_device() && name != "ptmx" || kind.is_block_device() {
            let kind = if kind.is_block_device() { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
            mknodat(to, name.as_os_str(), kind, mode, metadata.rdev())?;
        } else if kind.is_dir() && depth < MAX_DEPTH && !OWN.iter().any(|own| name == *own) {
            mkdirat(to, name.as_os_str(), mode)?;
            let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
            copy_nodes(&entry.path(), &nix::fcntl::openat(to, name.as_os_str(), flags, Mode::empty())?, depth + 1)?;
        }
    }
    Ok(())
}
