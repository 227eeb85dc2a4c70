//! Running other programs, with errors that say which one failed and how.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a step gives, or why it failed in words for a person.
pub type Result<T = ()> = std::result::Result<T, String>;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_path_buf()
}

/// Whether containers can be started.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A command that runs in the repository's root.
pub fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command with its output shown; anything but success is an error.
pub fn show(mut command: Command) -> Result {
    let status = command.status().map_err(|error| format!("{} can't be started: {error}", name(&command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", name(&command))) }
}

/// Runs a command and returns what it prints; anything but success is an error that shows what it said.
pub fn output(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{} can't be started: {error}", name(&command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} failed: {}\n{}", name(&command), output.status, said.trim_end()))
}

/// Whether a command succeeds; what it prints is dropped.
pub fn succeeds(mut command: Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The file of a program that is on the PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn name(command: &Command) -> String {
    let arguments = command.get_args().take(4).map(|argument| argument.to_string_lossy().into_owned());
    let words: Vec<_> = std::iter::once(command.get_program().to_string_lossy().into_owned()).chain(arguments).collect();
    format!("`{}`", words.join(" "))
}
