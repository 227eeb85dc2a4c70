//! `cargo xtask demo | test | clients | bench | fuzz | tidy`: everything a developer or a new user runs.

use std::process::ExitCode;

mod bench;
mod clients;
mod demo;
mod fuzz;
mod images;
mod install;
mod run;
mod test;
mod tidy;

const USAGE: &str = "usage: cargo xtask <demo | test | clients | bench | fuzz | tidy>

  demo     builds Steadfast, starts it and runs the Redis Cluster example until it serves
  test     installs what the tests need, then format, lints, tidy and all tests
  clients  installs the clients of others that the tests drive the server with, for running single tests
  bench    measures speed and size, each against a floor or a rival in the same run
  fuzz     tries inputs on everything that reads bytes of strangers: [TARGET] [--seconds N] [--input FILE]
  tidy     checks the rules of the code base and prints its figures";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["demo"] => demo::run(),
        ["test"] => test::run(),
        ["clients"] => clients::install(),
        ["bench", filter @ ..] => bench::run(filter),
        ["fuzz", arguments @ ..] => fuzz::run(arguments),
        ["tidy"] => tidy::run(),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
