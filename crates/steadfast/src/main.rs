//! The binary: parses arguments and joins the parts. Decisions are elsewhere.

use std::process::ExitCode;

use clap::Parser;

mod arguments;
mod attach;
mod backing;
mod bootstrap;
mod colour;
mod connect;
mod control;
mod controllers_verb;
mod down;
mod failure;
mod foresee;
mod images;
mod instance;
mod kubeconfig;
mod memory;
mod migrate;
mod output;
mod roles;
mod rollout;
mod status;
mod stop;
mod up;
mod whereabouts;
mod worker;

use arguments::{Arguments, Verb};
use failure::Failure;

/// A fifth of the time that the server spends on a write went into the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A shim must not have started any thread, so it branches off before everything else.
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == runtime::shim::ARGUMENT) {
        return runtime::shim::main(&words[2..]);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    log_to_standard_error();
    informer::when_memory_comes_free(memory::give_back);
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("steadfast: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Help is no error; and an error never ends with 2, which some verbs end with to say something else.
fn refuse(error: &clap::Error) -> ExitCode {
    // Where standard output is closed, nobody reads it.
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    // Both TLS stacks in the tree must mean the same provider; a second installation is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A client needs no more than one thread, and what it has begun ends quietly with it.
    let mut builder = match arguments.verb {
        Verb::Up(_) | Verb::Down(_) | Verb::Migrate(_) | Verb::Image(_) | Verb::Controllers(_) => {
            tokio::runtime::Builder::new_multi_thread()
        }
        Verb::Plan(_) | Verb::Status(_) | Verb::Rollout(_) => tokio::runtime::Builder::new_current_thread(),
    };
    let tokio = builder.enable_all().build().map_err(Failure::Runtime)?;
    tokio.block_on(async {
        match arguments.verb {
            Verb::Up(up) => up::run(up).await?,
            Verb::Down(down) => down::run(down).await?,
            Verb::Migrate(migrate) => migrate::run(migrate).await?,
            Verb::Image(image) => images::run(image.verb).await?,
            Verb::Controllers(verb) => controllers_verb::run(verb).await?,
            Verb::Plan(plan) => return foresee::run(plan).await,
            Verb::Status(status) => return status::run(status).await,
            Verb::Rollout(rollout) => return rollout::run(rollout.verb).await,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn log_to_standard_error() {
    use std::io::IsTerminal;
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour).with_target(false).init();
}
