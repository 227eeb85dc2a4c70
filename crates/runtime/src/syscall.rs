//! The kernel interfaces that have no safe wrapper elsewhere: all `unsafe` of this crate is here.
//!
//! Every function gives `std::io::Error` with the kernel's error number.

#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use std::ffi::{CStr, c_long};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

/// Attributes of a mount, as `mount_setattr(2)` names them.
pub(crate) mod attribute {
    pub(crate) const READ_ONLY: u64 = 0x1;
    pub(crate) const NO_SUID: u64 = 0x2;
    pub(crate) const NO_DEVICES: u64 = 0x4;
    pub(crate) const NO_EXECUTION: u64 = 0x8;
}

/// The largest number of file descriptors in one message.
pub(crate) const MAX_PASSED: usize = 3;

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: c_long) -> io::Result<OwnedFd> {
    let raw = i32::try_from(check(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Starts a child process, a copy of this one, that runs `body` and ends. Returns the child's process id.
///
/// `namespaces` are `CLONE_NEW...` flags. `body` must end by executing something else: if it returns or panics the child exits with 127.
/// Only for processes with a single thread: the child could otherwise find locks held for ever.
pub(crate) fn fork(namespaces: i32, body: impl FnOnce()) -> io::Result<i32> {
    // SAFETY: an all-zero `clone_args` is valid: no flags, no pointers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces.unsigned_abs().into();
    arguments.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    // SAFETY: like fork(2): without CLONE_VM the child has its own copy of memory and stack. The process has one thread.
    let child = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) })?;
    if child == 0 {
        // The caller's frames belong to the parent: a panic must not reach them.
        let _ended = std::panic::catch_unwind(AssertUnwindSafe(body));
        // SAFETY: ends the process at once, without the exit handlers that belong to the parent.
        unsafe { libc::_exit(127) }
    }
    i32::try_from(child).map_err(io::Error::other)
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A detached copy of the mount at `path`, with the mounts below it if `recursive`.
pub(crate) fn copy_mount(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    copy_mount_at(libc::AT_FDCWD, path, if recursive { libc::AT_RECURSIVE } else { 0 })
}

/// A detached copy of the mount that `at` refers to.
pub(crate) fn copy_mount_of(at: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    copy_mount_at(at.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

fn copy_mount_at(directory: i32, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let flags = flags.unsigned_abs() | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is a string that lives through the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, directory, path.as_ptr(), flags) })
}

/// Sets [`attribute`]s and the propagation (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, or 0 to keep it) of a mount.
pub(crate) fn change_mount(mount: BorrowedFd<'_>, set: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    let attributes = MountAttributes { set, clear: 0, propagation, user_namespace: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the pointer and the size describe one structure of the kernel's layout.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, &raw const attributes, size_of::<MountAttributes>())
    })?;
    Ok(())
}

/// Puts a detached mount onto the file or directory that `target` refers to.
pub(crate) fn attach_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    const FROM_EMPTY_PATH: u32 = 0x04;
    const TO_EMPTY_PATH: u32 = 0x40;
    let empty = c"".as_ptr();
    let flags = FROM_EMPTY_PATH | TO_EMPTY_PATH;
    // SAFETY: both paths are empty strings; the descriptors are open.
    check(unsafe { libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), empty, target.as_raw_fd(), empty, flags) })?;
    Ok(())
}

/// A new, detached file system of the kernel, for example `tmpfs`, with options and [`attribute`]s.
pub(crate) fn new_file_system(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> io::Result<OwnedFd> {
    const CLOSE_ON_EXEC: u32 = 1;
    const SET_STRING: u32 = 1;
    const CREATE: u32 = 6;
    // SAFETY: `kind` is a string that lives through the call.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOSE_ON_EXEC) })?;
    for (key, value) in options {
        // SAFETY: both strings live through the call.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), SET_STRING, key.as_ptr(), value.as_ptr(), 0) })?;
    }
    let none = std::ptr::null::<u8>();
    // SAFETY: this command takes no key and no value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, none, none, 0) })?;
    let attributes = u32::try_from(attributes).map_err(io::Error::other)?;
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOSE_ON_EXEC, attributes) })
}

/// A handle of a process that stays valid when its number is used again.
pub(crate) fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Sends a signal to the process of a handle.
pub(crate) fn signal_process(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_details = std::ptr::null::<u8>();
    // SAFETY: a null pointer for the details is allowed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_details, 0) })?;
    Ok(())
}

/// Closes every descriptor from 3 on. Only where no owner of such a descriptor lives: at the start of a program, or in a child that never returns.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: by the rule above nobody uses these descriptors any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) })?;
    Ok(())
}

/// Closes every descriptor from 3 on but one. Only in a child that never returns.
pub(crate) fn close_all_but(kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = kept.as_raw_fd().unsigned_abs();
    for (first, last) in [(3, kept.saturating_sub(1)), ((kept + 1).max(3), u32::MAX)] {
        if first <= last {
            // SAFETY: by the rule above nobody uses these descriptors any more.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// Leaves the keys of the session that started this process. Kernels without keys have none to leave.
pub(crate) fn leave_session_keyring() {
    const JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a null name asks for a new, anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
}

/// Makes every descriptor from 3 on disappear in the program that is executed next.
pub(crate) fn close_on_exec() -> io::Result<()> {
    // SAFETY: changes a flag of descriptors; closes nothing now.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Handles every signal by its default action, and blocks none.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of ours. Numbers that can't be changed are refused, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask().map_err(Into::into)
}

/// Ignores a signal.
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Takes a capability out of the bounding set.
pub(crate) fn drop_bounding_capability(number: u32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }.into())?;
    Ok(())
}

/// Empties the ambient set.
pub(crate) fn clear_ambient_capabilities() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into())?;
    Ok(())
}

/// Makes `mask` the effective and the permitted set, and empties the inheritable set.
pub(crate) fn set_capabilities(mask: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Word {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let word = |bits: u64| {
        let bits = (bits & u64::from(u32::MAX)) as u32;
        Word { effective: bits, permitted: bits, inheritable: 0 }
    };
    let header = Header { version: VERSION_3, pid: 0 };
    let words = [word(mask), word(mask >> 32)];
    // SAFETY: version 3 of the interface takes this header and two words.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) })?;
    Ok(())
}

/// Refuses system calls by a program, from now on and for all children.
pub(crate) fn install_seccomp(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const seccompiler::sock_filter,
    }
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: the kernel copies `length` instructions, which live through the call, and checks them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })?;
    Ok(())
}

/// Unlocks a new terminal's other end and opens it.
pub(crate) fn open_terminal_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlocked = 0_i32;
    // SAFETY: the kernel reads one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }.into())?;
    // SAFETY: takes flags by value and returns a new descriptor.
    owned(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) }.into())
}

/// Makes a terminal the controlling one of this session.
pub(crate) fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a number only.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into())?;
    Ok(())
}

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn raise_loopback() -> io::Result<()> {
    // SAFETY: takes numbers only.
    let socket = owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: an all-zero request is valid: an empty name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the kernel reads the request, which lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())?;
    Ok(())
}

/// Reads what has arrived at a Unix socket, and the descriptors that came with it. Zero bytes: the other side has closed.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; MAX_PASSED]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = item {
            // SAFETY: the kernel has just put these descriptors into our table; nobody else knows them.
            descriptors.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    Ok((message.bytes, descriptors))
}

/// Takes the exit status of a child that has ended, if there is one: its process id and the raw status.
pub(crate) fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: the kernel writes one int. (The safe wrappers lose the process when a real-time signal ended it.)
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}
