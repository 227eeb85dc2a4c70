//! A shim and nothing else, for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some(runtime::shim::ARGUMENT) {
        return runtime::shim::main(&arguments);
    }
    eprintln!("pod-shim is started by the runtime, with {} as its first argument", runtime::shim::ARGUMENT);
    ExitCode::FAILURE
}
