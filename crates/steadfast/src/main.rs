//! The binary: parses arguments and joins the parts. Decisions are elsewhere.

use std::process::ExitCode;

use clap::Parser;

mod arguments;
mod attach;
mod bootstrap;
mod control;
mod controllers_verb;
mod down;
mod failure;
mod images;
mod instance;
mod kubeconfig;
mod roles;
mod stop;
mod up;
mod worker;

use arguments::{Arguments, Verb};
use failure::Failure;

fn main() -> ExitCode {
    // A shim must not have started any thread, so it branches off before everything else.
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == runtime::shim::ARGUMENT) {
        return runtime::shim::main(&words[2..]);
    }
    let arguments = Arguments::parse();
    log_to_standard_error();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("steadfast: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    // Both TLS stacks in the tree must mean the same provider; a second installation is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    tokio.block_on(async {
        match arguments.verb {
            Verb::Up(up) => up::run(up).await,
            Verb::Down(down) => down::run(down).await,
            Verb::Image(image) => images::run(image.verb).await,
            Verb::Controllers(verb) => controllers_verb::run(verb).await,
        }
    })
}

fn log_to_standard_error() {
    use std::io::IsTerminal;
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour).with_target(false).init();
}
