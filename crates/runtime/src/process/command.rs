//! The last steps: streams, privileges, working directory, and the command itself.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, eaccess, execve, fchown, getcwd};
use seccompiler::sock_filter;

use super::privileges::{self, Capabilities};
use super::terminal::open_terminal;
use super::{Child, Report, failed};
use crate::protocol::Refusal;
use crate::{Security, User, syscall};

/// Where commands are looked for if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command and everything it runs with.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: String,
    pub(crate) user: User,
    pub(crate) security: Security,
    pub(crate) capabilities: Capabilities,
    /// Empty: no filter.
    pub(crate) filter: Vec<sock_filter>,
    pub(crate) terminal: bool,
}

impl Program {
    /// Becomes the command. The process is in the container's namespaces already.
    pub(super) fn become_it(&self, child: &mut Child) -> Result<Infallible, Refusal> {
        self.connect(child).map_err(failed("connecting the standard streams"))?;
        // A working directory that leads through /proc/self/fd must not find a directory of the node.
        syscall::close_all_but(child.report.as_fd()).map_err(failed("closing descriptors"))?;
        // The program is told its directory even if only root may enter it.
        let entered = chdir(self.directory());
        privileges::assume(&self.user, &self.security, self.capabilities, &self.filter).map_err(failed("giving up privileges"))?;
        // Changing the user has cleared it.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(|error| failed("tying to the shim")(error.into()))?;
        if entered.is_err() {
            chdir(self.directory()).map_err(|error| Refusal::CannotRun(format!("chdir to {}: {}", self.working_dir, words(error))))?;
        }
        // Fails for a directory that is not below the root.
        getcwd().map_err(|error| Refusal::CannotRun(format!("the working directory {}: {}", self.working_dir, words(error))))?;
        syscall::close_on_exec().map_err(failed("closing descriptors"))?;
        self.execute(child)
    }

    fn directory(&self) -> &Path {
        Path::new(if self.working_dir.is_empty() { "/" } else { &self.working_dir })
    }

    fn connect(&self, child: &mut Child) -> io::Result<()> {
        if self.terminal {
            let terminal = open_terminal(child)?;
            self.own(&terminal)?;
            return connect_to(terminal.as_fd(), terminal.as_fd(), terminal.as_fd());
        }
        let stdin = match child.streams.stdin.take() {
            Some(stdin) => stdin,
            None => open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?,
        };
        let (stdout, stderr) = child.streams.outputs.take().ok_or_else(|| io::Error::other("no streams"))?;
        self.own(&stdout)?;
        self.own(&stderr)?;
        connect_to(stdin.as_fd(), stdout.as_fd(), stderr.as_fd())
    }

    /// So that programs may open `/dev/stdout` by its name.
    fn own(&self, stream: &OwnedFd) -> io::Result<()> {
        if self.user.uid == 0 {
            return Ok(());
        }
        let group = if self.terminal { None } else { Some(Gid::from_raw(self.user.gid)) };
        fchown(stream, Some(Uid::from_raw(self.user.uid)), group).map_err(Into::into)
    }

    fn execute(&self, child: &Child) -> Result<Infallible, Refusal> {
        let Some(name) = self.args.first() else { return Err(Refusal::CannotRun("no command specified".to_owned())) };
        let path = self.find(name)?;
        let arguments =
            self.args.iter().map(|argument| CString::new(argument.as_str())).collect::<Result<Vec<_>, _>>().map_err(contains_nul)?;
        let environment = self.environment();
        let environment = environment.map(|(key, value)| CString::new(format!("{key}={value}"))).collect::<Result<Vec<_>, _>>();
        let environment = environment.map_err(contains_nul)?;
        let file = CString::new(path.as_os_str().as_bytes()).map_err(contains_nul)?;
        child.tell(&Report::Ready, None);
        execve(&file, &arguments, &environment).map_err(|error| Refusal::CannotRun(format!("exec {}: {}", path.display(), words(error))))
    }

    /// What was specified, and what every program may rely on.
    fn environment(&self) -> impl Iterator<Item = (&str, String)> {
        let has = |name: &str| self.env.iter().any(|(key, _)| key == name);
        let home = (!has("HOME")).then(|| ("HOME", home(self.user.uid)));
        let terminal = (self.terminal && !has("TERM")).then(|| ("TERM", "xterm".to_owned()));
        let path = (!has("PATH")).then(|| ("PATH", DEFAULT_PATH.to_owned()));
        self.env.iter().map(|(key, value)| (key.as_str(), value.clone())).chain(home).chain(terminal).chain(path)
    }

    /// Finds the command's file, seen by the user who will run it.
    fn find(&self, name: &str) -> Result<PathBuf, Refusal> {
        let refuse = |cause: String| Refusal::CannotRun(format!("exec: {name:?}: {cause}"));
        if name.contains('/') {
            return match executable(Path::new(name)) {
                Ok(()) => Ok(PathBuf::from(name)),
                Err(Errno::ENOENT) => Err(refuse(format!("stat {name}: {}", words(Errno::ENOENT)))),
                Err(error) => Err(refuse(words(error))),
            };
        }
        let path = self.env.iter().rev().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, path)| path);
        let directories = path.split(':').map(|directory| Path::new(if directory.is_empty() { "." } else { directory }));
        let mut candidates = directories.map(|directory| directory.join(name));
        let found = if name.is_empty() { None } else { candidates.find(|candidate| executable(candidate).is_ok()) };
        found.ok_or_else(|| refuse("executable file not found in $PATH".to_owned()))
    }
}

/// The user's directory as the container's own files have it; `/` if they don't.
fn home(uid: u32) -> String {
    const MAX_USERS: u64 = 1 << 20;
    let mut users = String::new();
    let file = open("/etc/passwd", OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty());
    let read = file.map_err(io::Error::from).and_then(|file| fs::File::from(file).take(MAX_USERS).read_to_string(&mut users));
    // Many images have no such file.
    let users = if read.is_ok() { users } else { String::new() };
    let number = uid.to_string();
    let user = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&number.as_str()));
    user.and_then(|fields| fields.get(5).copied()).filter(|home| !home.is_empty()).unwrap_or("/").to_owned()
}

fn connect_to(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> io::Result<()> {
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    Ok(())
}

fn executable(path: &Path) -> Result<(), Errno> {
    let kind = fs::metadata(path).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    if kind.is_dir() {
        return Err(Errno::EISDIR);
    }
    eaccess(path, AccessFlags::X_OK)
}

fn contains_nul(error: NulError) -> Refusal {
    Refusal::CannotRun(format!("an argument or variable contains a zero byte at {}", error.nul_position()))
}

/// The kernel's words for an error, in lower case as they appear inside sentences.
fn words(error: Errno) -> String {
    error.desc().to_lowercase()
}
