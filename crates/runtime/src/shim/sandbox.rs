//! What a pod's containers share: namespaces, kernel parameters, memory, limits.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;

use crate::cgroup::{Group, PAUSE};
use crate::process::pause;
use crate::process::privileges::{Capabilities, OPEN_FILES, raise_open_files};
use crate::protocol::Setup;
use crate::syscall::{self, attribute};
use crate::{Resources, SandboxSpec, state};

/// A pod without containers yet.
pub(super) struct Prepared {
    pub(super) listener: UnixListener,
    pub(super) group: Group,
    pub(super) capabilities: Capabilities,
    /// The first process of the shared process namespace.
    pub(super) pause: Option<OwnedFd>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn prepare(setup: &Setup) -> io::Result<Prepared> {
    let spec = &setup.sandbox;
    syscall::leave_session_keyring();
    setup.cgroups.join_shims()?;
    enter_namespaces(spec)?;
    for (name, value) in &spec.sysctls {
        set_parameter(name, value, spec.host_network)?;
    }
    let group = setup.cgroups.pod(&spec.uid);
    let mut warnings = group.create(&spec.resources)?;
    mount_shared_memory(&setup.directory)?;
    let capabilities = Capabilities::own()?;
    warnings.extend(privilege_warnings(&spec.resources, capabilities)?);
    let pause = if spec.share_process_namespace { Some(start_pause(&group)?) } else { None };
    let listener = listen(&setup.directory)?;
    Ok(Prepared { listener, group, capabilities, pause, warnings })
}

fn enter_namespaces(spec: &SandboxSpec) -> io::Result<()> {
    let network = if spec.host_network { CloneFlags::empty() } else { CloneFlags::CLONE_NEWNET };
    unshare(network | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
    if !spec.host_network {
        syscall::raise_loopback()?;
    }
    sethostname(&spec.hostname)?;
    Ok(())
}

/// Sets a kernel parameter, if it is one that belongs to the pod's namespaces.
fn set_parameter(name: &str, value: &str, host_network: bool) -> io::Result<()> {
    let path = parameter_path(name, host_network).ok_or_else(|| io::Error::other(format!("sysctl {name} is not a namespaced one")))?;
    fs::write(&path, value).map_err(|error| io::Error::new(error.kind(), format!("sysctl {name}={value}: {error}")))
}

fn parameter_path(name: &str, host_network: bool) -> Option<PathBuf> {
    const OF_THE_POD: [&str; 8] = [
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
    ];
    // Either separator may be used; the other one then belongs to a name, for example of an interface.
    let slashed = name.find('/').is_some_and(|slash| name.find('.').is_none_or(|dot| slash < dot));
    let swap = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if slashed { name.to_owned() } else { name.chars().map(swap).collect() };
    let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    let of_the_pod = OF_THE_POD.contains(&path.as_str()) || path.starts_with("fs/mqueue/") || path.starts_with("net/") && !host_network;
    (plain && of_the_pod).then(|| Path::new("/proc/sys").join(path))
}

fn mount_shared_memory(directory: &Path) -> io::Result<()> {
    let path = state::shared_memory(directory);
    fs::create_dir(&path)?;
    let attributes = attribute::NO_SUID | attribute::NO_DEVICES | attribute::NO_EXECUTION;
    let memory = syscall::new_file_system(c"tmpfs", &[(c"size", c"64m"), (c"mode", c"1777")], attributes)?;
    syscall::attach_mount(memory.as_fd(), fs::File::open(path)?.as_fd())
}

/// What this machine will not let us do for any container of the pod.
fn privilege_warnings(resources: &Resources, capabilities: Capabilities) -> io::Result<Vec<String>> {
    let mut warnings = Vec::new();
    let open_files = raise_open_files()?;
    if open_files < OPEN_FILES {
        warnings.push(format!("containers can open {open_files} files at most: raising the limit needs CAP_SYS_RESOURCE"));
    }
    if resources.oom_score_adjust.is_some_and(|score| score < 0) && !capabilities.has("SYS_RESOURCE") {
        warnings.push("the out-of-memory score can't be lowered: that needs CAP_SYS_RESOURCE".to_owned());
    }
    Ok(warnings)
}

fn start_pause(group: &Group) -> io::Result<OwnedFd> {
    let group = group.container(PAUSE);
    group.create(&Resources::default())?;
    let namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let pid = syscall::fork(namespaces.bits(), || {
        if let Err(error) = pause::run(&group) {
            eprintln!("pause: {error}");
        }
    })?;
    syscall::open_process(pid)
}

fn listen(directory: &Path) -> io::Result<UnixListener> {
    // Through the descriptor: the real path may be too long for a socket's name.
    let opened = fs::File::open(directory)?;
    let path = super::socket_path(Path::new(&format!("/proc/self/fd/{}", opened.as_raw_fd())));
    let listener = UnixListener::bind(&path).map_err(|error| io::Error::new(error.kind(), format!("listening: {error}")))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_pod_have_a_path_and_others_have_none() {
        let path = |name| parameter_path(name, false).map(|path| path.display().to_string());
        assert_eq!(path("net.core.somaxconn").as_deref(), Some("/proc/sys/net/core/somaxconn"));
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding").as_deref(), Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding"));
        assert_eq!(path("kernel.shm_rmid_forced").as_deref(), Some("/proc/sys/kernel/shm_rmid_forced"));
        assert_eq!(path("vm.overcommit_memory"), None);
        assert_eq!(path("kernel.core_pattern"), None);
        assert_eq!(path("net.../kernel.core_pattern"), None);
        assert_eq!(path("net/../kernel/core_pattern"), None);
    }

    #[test]
    fn the_nodes_network_is_not_changed_by_a_pod_that_uses_it() {
        assert_eq!(parameter_path("net.core.somaxconn", true), None);
    }
}
