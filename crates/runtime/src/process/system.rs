//! What the kernel shows in a container: `/proc`, `/sys`, its control groups, and what of them is hidden.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::container::Plan;
use super::resolve::{Root, device, is_directory};
use super::root::attach;
use crate::Security;
use crate::syscall::{self, attribute};

const QUIET: u64 = attribute::NO_SUID | attribute::NO_DEVICES | attribute::NO_EXECUTION;

/// Shows the node's secrets or its hardware.
const HIDDEN: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/security",
];

/// Changes the node.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The number of `/dev/null`: character device 1, 3.
const NULL_DEVICE: u64 = 0x103;

pub(super) fn mount(root: &Root, plan: &Plan<'_>) -> io::Result<()> {
    attach(root, &syscall::new_file_system(c"proc", &[], QUIET)?, Path::new("/proc"))?;
    let read_only = if plan.spec.security.privileged { 0 } else { attribute::READ_ONLY };
    attach(root, &syscall::new_file_system(c"sysfs", &[], QUIET | read_only)?, Path::new("/sys"))?;
    mount_groups(root, plan, read_only)
}

/// Programs size their heaps by the limits that they read here.
fn mount_groups(root: &Root, plan: &Plan<'_>, read_only: u64) -> io::Result<()> {
    let place = Path::new("/sys/fs/cgroup");
    let views: Vec<_> = plan.group.views().collect();
    if let [(directory, names)] = views.as_slice()
        && names.is_empty()
    {
        return attach(root, &view(directory, read_only)?, place);
    }
    let parent = syscall::new_file_system(c"tmpfs", &[(c"mode", c"755"), (c"size", c"64k")], QUIET)?;
    attach(root, &parent, place)?;
    for (directory, names) in &views {
        let name = if names.is_empty() { "unified".to_owned() } else { names.join(",") };
        mkdirat(&parent, name.as_str(), Mode::from_bits_truncate(0o755))?;
        attach(root, &view(directory, read_only)?, &place.join(&name))?;
        for link in names.iter().filter(|_| names.len() > 1) {
            symlinkat(name.as_str(), &parent, link.as_str())?;
        }
    }
    syscall::change_mount(parent.as_fd(), attribute::READ_ONLY, 0, false)
}

/// The container's own part of a hierarchy.
fn view(directory: &Path, read_only: u64) -> io::Result<OwnedFd> {
    let mount = syscall::copy_mount(&CString::new(directory.as_os_str().as_bytes())?, false)?;
    syscall::change_mount(mount.as_fd(), QUIET | read_only, nix::mount::MsFlags::MS_PRIVATE.bits(), false)?;
    Ok(mount)
}

/// Hides and protects parts of `/proc` and `/sys`.
pub(super) fn protect(root: &Root, security: &Security) -> io::Result<()> {
    if security.privileged || security.unmasked_proc {
        return Ok(());
    }
    let mut cover = Cover::new()?;
    for path in HIDDEN {
        if let Some(target) = existing(root, path)? {
            cover.hide(&target)?;
        }
    }
    for path in READ_ONLY {
        if let Some(target) = existing(root, path)? {
            let mount = syscall::copy_mount_of(target.as_fd())?;
            syscall::change_mount(mount.as_fd(), attribute::READ_ONLY, 0, true)?;
            syscall::attach_mount(mount.as_fd(), target.as_fd())?;
        }
    }
    Ok(())
}

fn existing(root: &Root, path: &str) -> io::Result<Option<OwnedFd>> {
    match root.find(Path::new(path)) {
        Ok(found) => Ok(Some(found)),
        // Kernels differ in what they have, and some hide it themselves.
        Err(error) if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What lies over hidden files and directories.
struct Cover {
    empty: OwnedFd,
    /// The first use takes the mount itself, others take copies.
    empty_used: bool,
}

impl Cover {
    fn new() -> io::Result<Self> {
        let empty = syscall::new_file_system(c"tmpfs", &[(c"size", c"4k"), (c"mode", c"555")], QUIET | attribute::READ_ONLY)?;
        Ok(Self { empty, empty_used: false })
    }

    fn hide(&mut self, target: &OwnedFd) -> io::Result<()> {
        if !is_directory(target)? {
            let null = syscall::copy_mount(c"/dev/null", false)?;
            if device(&null)? != NULL_DEVICE {
                return Err(io::Error::other("/dev/null of the node is not the null device"));
            }
            return syscall::attach_mount(null.as_fd(), target.as_fd());
        }
        if !self.empty_used {
            self.empty_used = true;
            return syscall::attach_mount(self.empty.as_fd(), target.as_fd());
        }
        syscall::attach_mount(syscall::copy_mount_of(self.empty.as_fd())?.as_fd(), target.as_fd())
    }
}
