//! What the server and a shim say to each other: frames of JSON over a Unix stream socket, a 4-byte big-endian length before each.
//!
//! The server sends [`Call`]s, the shim answers each by a [`Message::Reply`] in any order and tells of exits unasked.
//! File descriptors travel with the first byte of the frame that they belong to.
//!
//! A server talks to shims of its predecessors, which may be older: a request that a shim does not know is refused, a message that a
//! server does not know is passed over, and fields that are added here or in the interface have defaults.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

use crate::cgroup::Cgroups;
use crate::{ContainerSpec, ExecSpec, Exit, Sandbox, SandboxSpec};

/// The largest frame: larger than the kernel's limit for arguments and environment.
const MAX_FRAME: usize = 8 << 20;

/// The id of the call that is answered to [`Setup`].
pub(crate) const SETUP_CALL: u64 = 0;

/// The first frame that a new shim reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) sandbox: SandboxSpec,
    /// The pod's directory: exists, is locked for the shim.
    pub(crate) directory: PathBuf,
    pub(crate) cgroups: Cgroups,
    /// Identifies the boot of this machine.
    pub(crate) boot: String,
}

/// `R` is [`Request`], or before it is understood any JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call<R> {
    pub(crate) id: u64,
    pub(crate) request: R,
}

/// A call that has arrived.
pub(crate) type Incoming = Call<serde_json::Value>;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Describe,
    Start(Box<ContainerSpec>),
    Exec { container: String, spec: ExecSpec },
    KillExec { exec: u64 },
    Attach { container: String, input: bool },
    CloseStdin { container: String },
    Signal { container: String, signal: i32 },
    ReopenLog { container: String },
    Remove { container: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Reply { id: u64, result: Result<Answer, Refusal> },
    Exited { container: String, exit: Exit },
    ExecExited { exec: u64, exit: Exit },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Sandbox(Box<Sandbox>),
    Started {
        pid: i32,
        started_at: i64,
    },
    /// Comes with descriptors: standard output, then standard input if `stdin`, then standard error if `stderr`.
    Exec {
        exec: u64,
        stdin: bool,
        stderr: bool,
    },
    /// Comes with descriptors, as a command does.
    Attached {
        stdin: bool,
        stderr: bool,
    },
}

/// Why a shim did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    NoContainer(String),
    NotRunning(String),
    /// The command can't be run as specified.
    CannotRun(String),
    /// Something failed that should have worked.
    Failed(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A frame with its length before it.
pub(crate) fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a message of {length} bytes is too large")));
    }
    let header = u32::try_from(length).map_err(io::Error::other)?.to_be_bytes();
    frame[..4].copy_from_slice(&header);
    Ok(frame)
}

/// Takes the first whole frame out of what has been read, if it is all there.
pub(crate) fn decode<T: DeserializeOwned>(received: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(header) = received.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes is too large")));
    }
    let Some(body) = received.get(4..4 + length) else { return Ok(None) };
    let value = serde_json::from_slice(body)?;
    received.drain(..4 + length);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_one_by_one_as_their_bytes_arrive() {
        let mut stream = encode(&"first").expect("encodes");
        stream.extend(encode(&"second").expect("encodes"));
        let mut received = Vec::new();
        let mut decoded = Vec::new();
        for byte in stream {
            received.push(byte);
            decoded.extend(decode::<String>(&mut received).expect("decodes"));
        }
        assert_eq!(decoded, ["first", "second"]);
        assert!(received.is_empty());
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_arrive() {
        let mut received = vec![0xff, 0xff, 0xff, 0xff];
        assert!(decode::<String>(&mut received).is_err());
    }
}
