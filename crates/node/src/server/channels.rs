//! The channel protocol over WebSocket: each message's first byte says what the rest is.

use serde_json::{Value, json};

/// The protocols, the better first.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
const STDIN: u8 = 0;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Input(Vec<u8>),
    /// No more input.
    InputEnds,
    Resize {
        width: u16,
        height: u16,
    },
    Nothing,
    /// The client is gone.
    Farewell,
}

/// Reads a client's message; what is not understood says nothing.
pub(super) fn parse(message: &[u8]) -> Said {
    match message.split_first() {
        Some((&STDIN, input)) => Said::Input(input.to_vec()),
        Some((&RESIZE, size)) => parse_size(size).unwrap_or(Said::Nothing),
        Some((&CLOSE, [STDIN])) => Said::InputEnds,
        _ => Said::Nothing,
    }
}

/// Reads a terminal's size.
pub(super) fn parse_size(json: &[u8]) -> Option<Said> {
    let size: Value = serde_json::from_slice(json).ok()?;
    let side = |name: &str| u16::try_from(size.get(name)?.as_u64()?).ok();
    Some(Said::Resize { width: side("Width")?, height: side("Height")? })
}

/// A message on a channel.
pub(super) fn message(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    message
}

/// How the command ended, as a Status.
pub(super) fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

/// Why the command could not be run, as a Status.
pub(super) fn failure_status(message: &str) -> Value {
    json!({ "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_by_their_first_byte() {
        assert_eq!(parse(b"\x00ls"), Said::Input(b"ls".to_vec()));
        assert_eq!(parse(b"\xff\x00"), Said::InputEnds);
        assert_eq!(parse(b"\x04{\"Width\":80,\"Height\":24}"), Said::Resize { width: 80, height: 24 });
        for nothing in [&b""[..], b"\x04{}", b"\x04", b"\xff\x01", b"\x09x", b"\x04{\"Width\":-1,\"Height\":99999999}"] {
            assert_eq!(parse(nothing), Said::Nothing, "{nothing:?}");
        }
    }

    #[test]
    fn the_exit_code_is_a_cause() {
        assert_eq!(exit_status(3)["details"]["causes"][0]["message"], "3");
        assert_eq!(exit_status(0)["status"], "Success");
    }
}
