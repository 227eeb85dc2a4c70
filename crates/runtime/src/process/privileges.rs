//! Users, capabilities and system call filters.

use std::fs;
use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use seccompiler::sock_filter;

use crate::syscall;
use crate::{Security, User};

/// All capabilities of Linux, without `CAP_`, by their number (`linux/capability.h`).
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Open files that a container may have, if this machine allows it.
pub(crate) const OPEN_FILES: u64 = 1 << 20;

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// `names` as `CAP_CHOWN`. The error is the unknown name.
    pub(crate) fn parse(names: &[String]) -> Result<Self, &str> {
        let number = |name: &str| CAPABILITIES.iter().position(|known| name.strip_prefix("CAP_") == Some(known));
        names.iter().try_fold(Self(0), |set, name| match number(name) {
            Some(number) => Ok(Self(set.0 | 1 << number)),
            None => Err(name.as_str()),
        })
    }

    /// What this process has itself, so what it can give.
    pub(crate) fn own() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        bits.map(Self).ok_or_else(|| io::Error::other("/proc/self/status names no capabilities"))
    }

    pub(crate) fn has(self, name: &str) -> bool {
        CAPABILITIES.iter().position(|known| *known == name).is_some_and(|number| self.0 & 1 << number != 0)
    }

    /// Those in both sets, and the names of those that `available` lacks.
    pub(crate) fn limited_to(self, available: Self) -> (Self, Vec<&'static str>) {
        let missing = self.0 & !available.0;
        let names = CAPABILITIES.iter().enumerate().filter(|(number, _)| missing & 1 << number != 0).map(|(_, name)| *name);
        (Self(self.0 & available.0), names.collect())
    }
}

/// Gives up everything but `capabilities` and `user`, for ever.
pub(crate) fn assume(user: &User, security: &Security, capabilities: Capabilities, filter: &[sock_filter]) -> io::Result<()> {
    drop_bounding(capabilities)?;
    // Installing a filter needs either the privilege or the promise never to get new ones.
    if !security.no_new_privileges {
        install(filter)?;
    }
    prctl::set_keepcaps(true)?;
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    setgroups(&groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    syscall::clear_ambient_capabilities()?;
    syscall::set_capabilities(capabilities.0)?;
    prctl::set_keepcaps(false)?;
    if security.no_new_privileges {
        prctl::set_no_new_privs()?;
        install(filter)?;
    }
    Ok(())
}

/// Gives up everything, for a process that only waits.
pub(super) fn renounce() -> io::Result<()> {
    drop_bounding(Capabilities(0))?;
    syscall::clear_ambient_capabilities()?;
    prctl::set_no_new_privs()?;
    syscall::set_capabilities(0)
}

fn drop_bounding(keep: Capabilities) -> io::Result<()> {
    for number in (0..u64::BITS).filter(|number| keep.0 & 1 << number == 0) {
        match syscall::drop_bounding_capability(number) {
            // Past the last capability of this kernel.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            done => done?,
        }
    }
    Ok(())
}

fn install(filter: &[sock_filter]) -> io::Result<()> {
    if filter.is_empty() { Ok(()) } else { syscall::install_seccomp(filter) }
}

/// Allows as many open files as are customary, or as many as this machine lets us. Returns how many.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    if setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).is_ok() {
        return Ok(OPEN_FILES);
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits_and_unknown_names_are_refused_by_name() {
        let names = ["CAP_CHOWN".to_owned(), "CAP_CHECKPOINT_RESTORE".to_owned()];
        assert_eq!(Capabilities::parse(&names), Ok(Capabilities(1 | 1 << 40)));
        assert_eq!(Capabilities::parse(&["CHOWN".to_owned()]), Err("CHOWN"));
    }

    #[test]
    fn what_the_machine_lacks_is_named() {
        let (given, missing) = Capabilities(0b111).limited_to(Capabilities(0b101));
        assert_eq!(given, Capabilities(0b101));
        assert_eq!(missing, ["DAC_OVERRIDE"]);
    }
}
