//! The system calls that a container may not make, as a program for the kernel.
//!
//! Calls are refused with "operation not permitted" unless the container has the capability that they are made for.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use super::privileges::Capabilities;

/// What a call is refused without; `None`: always.
type Needs = Option<&'static str>;

/// Calls that reach beyond the container, or into rarely used and often broken parts of the kernel.
const REFUSED: [(i64, Needs); 56] = [
    (libc::SYS_acct, Some("SYS_PACCT")),
    (libc::SYS_add_key, None),
    (libc::SYS_bpf, Some("BPF")),
    (libc::SYS_chroot, Some("SYS_CHROOT")),
    (libc::SYS_clock_adjtime, Some("SYS_TIME")),
    (libc::SYS_clock_settime, Some("SYS_TIME")),
    (libc::SYS_delete_module, Some("SYS_MODULE")),
    (libc::SYS_fanotify_init, Some("SYS_ADMIN")),
    (libc::SYS_finit_module, Some("SYS_MODULE")),
    (libc::SYS_fsconfig, Some("SYS_ADMIN")),
    (libc::SYS_fsmount, Some("SYS_ADMIN")),
    (libc::SYS_fsopen, Some("SYS_ADMIN")),
    (libc::SYS_fspick, Some("SYS_ADMIN")),
    (libc::SYS_get_mempolicy, Some("SYS_NICE")),
    (libc::SYS_init_module, Some("SYS_MODULE")),
    (libc::SYS_io_uring_enter, None),
    (libc::SYS_io_uring_register, None),
    (libc::SYS_io_uring_setup, None),
    (libc::SYS_ioperm, Some("SYS_RAWIO")),
    (libc::SYS_iopl, Some("SYS_RAWIO")),
    (libc::SYS_kcmp, Some("SYS_PTRACE")),
    (libc::SYS_kexec_file_load, Some("SYS_BOOT")),
    (libc::SYS_kexec_load, Some("SYS_BOOT")),
    (libc::SYS_keyctl, None),
    (libc::SYS_lookup_dcookie, Some("SYS_ADMIN")),
    (libc::SYS_mbind, Some("SYS_NICE")),
    (libc::SYS_migrate_pages, Some("SYS_NICE")),
    (libc::SYS_mount, Some("SYS_ADMIN")),
    (libc::SYS_mount_setattr, Some("SYS_ADMIN")),
    (libc::SYS_move_mount, Some("SYS_ADMIN")),
    (libc::SYS_move_pages, Some("SYS_NICE")),
    (libc::SYS_nfsservctl, None),
    (libc::SYS_open_by_handle_at, Some("DAC_READ_SEARCH")),
    (libc::SYS_open_tree, Some("SYS_ADMIN")),
    (libc::SYS_perf_event_open, Some("PERFMON")),
    (libc::SYS_pidfd_getfd, Some("SYS_PTRACE")),
    (libc::SYS_pivot_root, Some("SYS_ADMIN")),
    (libc::SYS_quotactl, Some("SYS_ADMIN")),
    (libc::SYS_quotactl_fd, Some("SYS_ADMIN")),
    (libc::SYS_reboot, Some("SYS_BOOT")),
    (libc::SYS_request_key, None),
    (libc::SYS_set_mempolicy, Some("SYS_NICE")),
    (libc::SYS_setdomainname, Some("SYS_ADMIN")),
    (libc::SYS_sethostname, Some("SYS_ADMIN")),
    (libc::SYS_setns, Some("SYS_ADMIN")),
    (libc::SYS_settimeofday, Some("SYS_TIME")),
    (libc::SYS_swapoff, Some("SYS_ADMIN")),
    (libc::SYS_swapon, Some("SYS_ADMIN")),
    (libc::SYS__sysctl, None),
    (libc::SYS_sysfs, None),
    (libc::SYS_syslog, Some("SYSLOG")),
    (libc::SYS_umount2, Some("SYS_ADMIN")),
    (libc::SYS_unshare, Some("SYS_ADMIN")),
    (libc::SYS_uselib, None),
    (libc::SYS_userfaultfd, None),
    (libc::SYS_vhangup, Some("SYS_TTY_CONFIG")),
];

/// Flags of `clone` that make namespaces.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Personalities that do not weaken the address space: Linux, with old user names, on 32 bits, both, and the question which it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Socket families that reach the hypervisor, or the kernel's cryptography.
const FAMILIES: [i32; 2] = [libc::AF_ALG, libc::AF_VSOCK];

/// The list for a container with these capabilities.
pub(crate) fn program(capabilities: Capabilities) -> Result<Vec<sock_filter>, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED
        .iter()
        .filter(|(_, needs)| needs.is_none_or(|capability| !capabilities.has(capability)))
        .map(|(call, _)| (*call, Vec::new()))
        .collect();
    if !capabilities.has("SYS_ADMIN") {
        rules.insert(libc::SYS_clone, refuse_any_bit(&NAMESPACES)?);
    }
    rules.insert(libc::SYS_personality, vec![refuse_other_than(&PERSONALITIES)?]);
    rules.insert(libc::SYS_socket, FAMILIES.iter().map(|family| refuse_value(*family)).collect::<Result<_, _>>()?);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM.unsigned_abs()), architecture())?;
    let list: BpfProgram = filter.try_into()?;
    Ok(preamble(capabilities).into_iter().chain(list).collect())
}

const fn architecture() -> TargetArch {
    #[cfg(target_arch = "x86_64")]
    return TargetArch::x86_64;
    #[cfg(target_arch = "aarch64")]
    return TargetArch::aarch64;
}

fn condition(length: SeccompCmpArgLen, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(0, length, operator, value)?)
}

fn refuse_any_bit(flags: &[i32]) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let rule = |flag: &i32| {
        let flag = u64::from(flag.unsigned_abs());
        Ok(SeccompRule::new(vec![condition(SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?])?)
    };
    flags.iter().map(rule).collect()
}

fn refuse_other_than(values: &[u64]) -> Result<SeccompRule, seccompiler::Error> {
    let conditions = values.iter().map(|value| condition(SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value));
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}

fn refuse_value(value: i32) -> Result<SeccompRule, seccompiler::Error> {
    Ok(SeccompRule::new(vec![condition(SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value.unsigned_abs().into())?])?)
}

/// Instructions before the list: "no such call" for what the list can't look into.
///
/// `clone3` has its flags in memory, where a filter sees nothing: programs then fall back to `clone`. Numbers of the x32 interface
/// mean the same calls under other numbers.
fn preamble(capabilities: Capabilities) -> Vec<sock_filter> {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_NOT_BELOW: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32: u32 = 0x4000_0000;
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(X32);
    let first = if capabilities.has("SYS_ADMIN") { X32 } else { clone3 };
    let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_EQUAL, jt: 1, jf: 0, k: first },
        sock_filter { code: JUMP_IF_NOT_BELOW, jt: 0, jf: 1, k: X32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: no_such_call },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_opens_the_calls_that_it_is_for() {
        let none = program(Capabilities::parse(&[]).expect("parses")).expect("builds");
        let admin = program(Capabilities::parse(&["CAP_SYS_ADMIN".to_owned()]).expect("parses")).expect("builds");
        assert!(admin.len() < none.len(), "{} {}", admin.len(), none.len());
    }

    #[test]
    fn no_call_is_listed_twice() {
        let calls: std::collections::BTreeSet<i64> = REFUSED.iter().map(|(call, _)| *call).collect();
        assert_eq!(calls.len(), REFUSED.len());
    }
}
