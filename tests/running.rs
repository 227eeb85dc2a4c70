//! Programs that run while a test goes on, and for how long a test waits for them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use crate::{PATIENCE, comes_true};

/// A program that ends with its test.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{:?} does not start: {error}", command.get_program())))
    }

    /// What it prints, which must be piped.
    pub fn lines(&mut self) -> Lines {
        Lines::of(self.0.stdout.take().expect("standard output is piped"))
    }

    /// What it says goes wrong, which must be piped.
    pub fn errors(&mut self) -> Lines {
        Lines::of(self.0.stderr.take().expect("standard error is piped"))
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = comes_true(|| {
            status = self.0.try_wait().expect("it is waited for");
            status.is_some()
        });
        assert!(ended, "process {} runs after {PATIENCE:?}", self.0.id());
        status.expect("it has ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that a program writes. They are taken as they come, so that it never waits for a reader.
#[derive(Debug)]
pub struct Lines(Receiver<String>);

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        std::thread::spawn(move || lines.all(|line| sender.send(line).is_ok()));
        Self(receiver)
    }
}

impl Iterator for Lines {
    type Item = String;

    /// The next line; none after the end.
    fn next(&mut self) -> Option<String> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {PATIENCE:?}"),
        }
    }
}

/// The same command, but ended when it has not ended by itself after so many seconds. Keeps the terminal, if there is one.
pub fn limited(command: &Command, seconds: u64) -> Command {
    let mut limited = Command::new("timeout");
    limited.args(["--foreground", "--kill-after=5", &seconds.to_string()]).arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}
