//! A container's file system: its root, what the kernel adds, its volumes.
//!
//! Every mount is made as a descriptor first and attached to a descriptor: no path is looked up twice, none leads out of the root.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, fchdir, pivot_root};

use super::container::Plan;
use super::resolve::{Root, is_directory};
use super::{devices, failed, system};
use crate::protocol::Refusal;
use crate::syscall::{self, attribute};
use crate::{ContainerSpec, Mount, MountSource};

/// A volume, ready to be attached.
struct Volume<'a> {
    destination: &'a Path,
    mount: OwnedFd,
}

/// Leaves the node's file system for the container's.
pub(super) fn enter(plan: &Plan<'_>) -> Result<(), Refusal> {
    let spec = plan.spec;
    // Taken while the mounts still have the node's propagation; nothing that follows may reach the node.
    let volumes = spec.mounts.iter().map(|mount| prepare(mount, spec)).collect::<Result<Vec<_>, _>>()?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|error| failed("parting the mounts")(error.into()))?;

    let root = mount_root(spec).map_err(failed(format_args!("mounting the root {}", spec.root.display())))?;
    system::mount(&root, plan).map_err(failed("mounting the kernel's file systems"))?;
    devices::mount(&root, plan).map_err(failed("mounting /dev"))?;
    // Before the volumes: others may be changing those at this moment.
    system::protect(&root, &spec.security).map_err(failed("protecting /proc and /sys"))?;
    attach_volumes(&root, volumes)?;
    root.make_directory(working_directory(spec))
        .map_err(|error| Refusal::CannotRun(format!("the working directory {}: {error}", spec.working_dir)))?;
    if spec.security.read_only_root {
        syscall::change_mount(root.directory(), attribute::READ_ONLY, 0, false).map_err(failed("making the root read-only"))?;
    }
    switch(&root).map_err(failed("changing the root"))
}

fn working_directory(spec: &ContainerSpec) -> &Path {
    Path::new(if spec.working_dir.is_empty() { "/" } else { &spec.working_dir })
}

/// Volumes and roots of ordinary containers have no devices, whoever makes a node there.
fn device_attribute(spec: &ContainerSpec) -> u64 {
    if spec.security.privileged { 0 } else { attribute::NO_DEVICES }
}

fn mount_root(spec: &ContainerSpec) -> io::Result<Root> {
    let path = CString::new(spec.root.as_os_str().as_bytes())?;
    let root = syscall::copy_mount(&path, false)?;
    syscall::change_mount(root.as_fd(), device_attribute(spec), MsFlags::MS_PRIVATE.bits(), false)?;
    let place = std::fs::File::open(&spec.root)?;
    syscall::attach_mount(root.as_fd(), place.as_fd())?;
    Ok(Root::new(root))
}

fn prepare<'a>(volume: &'a Mount, spec: &ContainerSpec) -> Result<Volume<'a>, Refusal> {
    if !volume.destination.starts_with('/') || Path::new(&volume.destination).parent().is_none() {
        return Err(Refusal::CannotRun(format!("a volume can't be mounted at {:?}", volume.destination)));
    }
    let mount = match &volume.source {
        MountSource::Path(path) => bind(volume, path, device_attribute(spec))
            .map_err(|error| Refusal::CannotRun(format!("volume source {}: {error}", path.display()))),
        MountSource::Memory { limit } => memory(volume, *limit).map_err(failed("making a volume in memory")),
    }?;
    Ok(Volume { destination: Path::new(&volume.destination), mount })
}

fn bind(volume: &Mount, path: &Path, mut attributes: u64) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mount = syscall::copy_mount(&path, true)?;
    if volume.read_only {
        attributes |= attribute::READ_ONLY;
    }
    let propagation = match (volume.propagate_to_host, volume.propagate_from_host) {
        (true, _) => MsFlags::MS_SHARED,
        (false, true) => MsFlags::MS_SLAVE,
        (false, false) => MsFlags::MS_PRIVATE,
    };
    syscall::change_mount(mount.as_fd(), attributes, propagation.bits(), true)?;
    Ok(mount)
}

fn memory(volume: &Mount, limit: Option<u64>) -> io::Result<OwnedFd> {
    // 0 is the kernel's word for no limit: the container's memory limit counts these pages.
    let size = CString::new(limit.unwrap_or(0).to_string())?;
    let read_only = if volume.read_only { attribute::READ_ONLY } else { 0 };
    syscall::new_file_system(c"tmpfs", &[(c"size", &size), (c"mode", c"1777")], attribute::NO_SUID | attribute::NO_DEVICES | read_only)
}

/// Outer directories first, so that a volume inside another is not hidden by it.
fn attach_volumes(root: &Root, mut volumes: Vec<Volume<'_>>) -> Result<(), Refusal> {
    volumes.sort_by_key(|volume| volume.destination.components().count());
    for volume in volumes {
        let destination = volume.destination;
        attach(root, &volume.mount, destination)
            .map_err(|error| Refusal::CannotRun(format!("mounting a volume at {}: {error}", destination.display())))?;
    }
    Ok(())
}

/// Attaches a directory to a directory or a file to a file, which are made if they don't exist.
pub(super) fn attach(root: &Root, mount: &OwnedFd, destination: &Path) -> io::Result<()> {
    let target = if is_directory(mount)? { root.make_directory(destination)? } else { root.make_file(destination)? };
    syscall::attach_mount(mount.as_fd(), target.as_fd())
}

fn switch(root: &Root) -> io::Result<()> {
    fchdir(root.directory())?;
    // The old root comes to lie on the new one, and is taken off it.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(())
}
