//! The engine: libFuzzer over the target that `FUZZ_TARGET` names. Started by `cargo xtask fuzz`, which builds it instrumented.
//!
//! With `--list` it names the targets, and how many inputs a test tries; with `--make-seeds FOLDER` it writes the seeds that no one can
//! write by hand.
#![no_main]

use std::cell::OnceCell;

use fuzz::{TARGETS, Target};

thread_local! {
    static CHOSEN: OnceCell<Target> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(init: choose(), |input: &[u8]| CHOSEN.with(|chosen| {
    if let Some(target) = chosen.get() {
        (target.run)(input);
    }
}));

/// Before libFuzzer reads the arguments.
fn choose() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--list") {
        TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.tries));
        std::process::exit(0);
    }
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = Target::named(&name) else {
        eprintln!("FUZZ_TARGET names no target: {name:?}; `--list` names them all");
        std::process::exit(2);
    };
    if let [option, folder] = arguments.as_slice()
        && option == "--make-seeds"
    {
        for (number, seed) in target.made_seeds().iter().enumerate() {
            std::fs::write(std::path::Path::new(folder).join(format!("made-{number}")), seed).expect("the folder can be written to");
        }
        std::process::exit(0);
    }
    CHOSEN.with(|chosen| chosen.set(target).expect("it is chosen once"));
}
