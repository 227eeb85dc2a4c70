//! The process that holds one pod.
//!
//! It has one thread, waits for events, and never waits for one container alone. Only [`Runtime::remove_sandbox`] ends it.
//!
//! [`Runtime::remove_sandbox`]: crate::Runtime::remove_sandbox

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{alarm, chdir, dup2_stdin, dup2_stdout, setsid};

use crate::protocol::{self, Answer, Message, Refusal, SETUP_CALL, Setup};
use crate::syscall;

mod attach;
mod entry;
mod events;
mod exec;
mod exits;
mod log;
mod output;
mod peer;
mod poller;
mod requests;
mod sandbox;
mod start;

/// The first argument that makes the binary a shim.
pub const ARGUMENT: &str = "__shim";

/// A shim that is not ready after so many seconds ends itself: nobody waits for it any longer.
const SETUP_SECONDS: u32 = 10;

/// Signals that are not meant for pods: they come from terminals and service supervisors that stop the server.
const IGNORED: [i32; 5] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE];

/// Runs as a shim until the pod is removed. Never returns to the caller's `main`.
/// Must be called before any thread is started.
///
/// Standard input is the connection to the server, standard output the locked directory of the pod.
pub fn main(_arguments: &[String]) -> ExitCode {
    let Err(error) = run();
    eprintln!("shim: {error}");
    ExitCode::FAILURE
}

fn run() -> io::Result<std::convert::Infallible> {
    let (server, lock) = detach()?;
    let mut setup = receive_setup(&server)?;
    match sandbox::prepare(&setup) {
        Ok(sandbox) => {
            alarm::cancel();
            events::Shim::new(&mut setup, sandbox, server, lock)?.run()
        }
        Err(error) => {
            answer_setup(&server, Err(Refusal::Failed(error.to_string())))?;
            Err(error)
        }
    }
}

/// Cuts all ties to the server but the connection and the lock.
fn detach() -> io::Result<(UnixStream, OwnedFd)> {
    if std::fs::read_dir("/proc/self/task")?.count() > 1 {
        return Err(io::Error::other("a thread was started before the shim"));
    }
    syscall::close_inherited()?;
    for signal in IGNORED {
        syscall::ignore_signal(signal);
    }
    alarm::set(SETUP_SECONDS);
    let server = io::stdin().as_fd().try_clone_to_owned()?;
    let lock = io::stdout().as_fd().try_clone_to_owned()?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    // Fails only if this is a session's leader already.
    let _leader = setsid();
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o022));
    prctl::set_name(c"pod-shim")?;
    prctl::set_child_subreaper(true)?;
    // Containers must not look into this process or its copies.
    prctl::set_dumpable(false)?;
    Ok((server.into(), lock))
}

fn receive_setup(server: &UnixStream) -> io::Result<Setup> {
    let mut received = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let (count, _) = syscall::receive(server.as_fd(), &mut buffer)?;
        received.extend_from_slice(&buffer[..count]);
        match protocol::decode(&mut received)? {
            Some(setup) => return Ok(setup),
            None if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None => {}
        }
    }
}

fn answer_setup(server: &UnixStream, result: Result<Answer, Refusal>) -> io::Result<()> {
    let frame = protocol::encode(&Message::Reply { id: SETUP_CALL, result })?;
    let mut server = server;
    io::Write::write_all(&mut server, &frame)
}

/// Where connections are taken.
fn socket_path(directory: &std::path::Path) -> PathBuf {
    directory.join("shim.sock")
}
