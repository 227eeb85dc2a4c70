//! The process that holds one pod.

/// The first argument that makes the binary a shim.
pub const ARGUMENT: &str = "__shim";

/// Runs as a shim until the pod is removed. Never returns to the caller's `main`.
/// Must be called before any thread is started.
pub fn main(_arguments: &[String]) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
