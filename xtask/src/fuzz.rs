//! `cargo xtask fuzz`: the fuzz targets under libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use crate::install;
use crate::run::{Result, command, output, root, show};

/// How long each target runs when nobody says, in seconds.
const BY_HAND: u64 = 60;
/// Targets that run at the same time.
const AT_ONCE: usize = 2;

const USAGE: &str = "usage: cargo xtask fuzz [TARGET] [--seconds N] [--input FILE]

  Without a target, all run, one after the other. --input tries one input only, such as one that was found before.";

/// What to fuzz, and how.
#[derive(Debug, Default)]
struct Options {
    target: Option<String>,
    seconds: Option<u64>,
    input: Option<PathBuf>,
}

/// Runs one target or all, going on from what earlier runs found out.
pub fn run(arguments: &[&str]) -> Result {
    let options = parse(arguments)?;
    let engine = Engine::build()?;
    let targets = engine.targets()?;
    let names = || targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen: Vec<_> = match &options.target {
        None => targets,
        Some(name) => match targets.iter().find(|target| target.name == *name) {
            Some(target) => vec![target.clone()],
            None => return Err(format!("there is no target {name}; there are {}", names())),
        },
    };
    match (&options.input, chosen.as_slice()) {
        (Some(input), [target]) => show(engine.command(&target.name, &[&input.to_string_lossy()])),
        (Some(_), _) => Err("an input is of one target: name it".to_owned()),
        (None, chosen) => {
            let time = format!("-max_total_time={}", options.seconds.unwrap_or(BY_HAND));
            engine.run_all(chosen, |_| vec![time.clone()])
        }
    }
}

/// Tries a number of inputs on each target, from its seeds alone and with the same random numbers, however fast the machine is.
pub fn bounded() -> Result {
    let engine = Engine::build()?;
    let corpus = engine.folder("corpus");
    let _ = fs::remove_dir_all(corpus);
    let always = ["-seed=1", "-reload=0"].map(str::to_owned);
    engine.run_all(&engine.targets()?, |target| always.iter().cloned().chain([format!("-runs={}", target.tries)]).collect())
}

fn parse(arguments: &[&str]) -> Result<Options> {
    let mut options = Options::default();
    let mut rest = arguments;
    loop {
        rest = match rest {
            [] => return Ok(options),
            ["--seconds", number, rest @ ..] => {
                options.seconds = Some(number.parse().map_err(|_| format!("{number} is no number of seconds"))?);
                rest
            }
            ["--input", file, rest @ ..] => {
                options.input = Some(std::path::absolute(file).map_err(|error| format!("{file}: {error}"))?);
                rest
            }
            [name, rest @ ..] if !name.starts_with('-') && options.target.is_none() => {
                options.target = Some((*name).to_owned());
                rest
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
}

/// A target, and how many inputs a test tries on it.
#[derive(Clone, Debug)]
struct Target {
    name: String,
    tries: String,
}

/// The program with all targets in it.
struct Engine {
    program: PathBuf,
}

impl Engine {
    /// Builds it: our crates instrumented, all others as the ordinary build has them.
    fn build() -> Result<Self> {
        install::packages(&[("c++", "g++")])?;
        let mut build = command("cargo", &["build", "--workspace", "--quiet", "--bin", "fuzz", "--features", "fuzz/engine"]);
        build.env("RUSTC_WORKSPACE_WRAPPER", root().join("fuzz/instrument.sh"));
        show(build)?;
        Ok(Self { program: root().join("target/debug/fuzz") })
    }

    fn targets(&self) -> Result<Vec<Target>> {
        let listed = output(command(&self.program, &["--list"]))?;
        let rows = listed.lines().filter_map(|line| line.split_once(' '));
        Ok(rows.map(|(name, tries)| Target { name: name.to_owned(), tries: tries.to_owned() }).collect())
    }

    /// Where things of this kind are kept.
    fn folder(&self, name: &str) -> PathBuf {
        root().join("target/fuzz").join(name)
    }

    fn command(&self, target: &str, arguments: &[&str]) -> Command {
        let mut command = command(&self.program, arguments);
        command.env("FUZZ_TARGET", target);
        command
    }

    /// Runs targets, some at a time; the failures of all are told.
    fn run_all(&self, targets: &[Target], bound: impl Fn(&Target) -> Vec<String> + Sync) -> Result {
        let (next, failures) = (Mutex::new(targets.iter()), Mutex::new(Vec::new()));
        let worker = || {
            while let Some(target) = next.lock().ok().and_then(|mut next| next.next()) {
                match self.fuzz(&target.name, &bound(target)) {
                    Ok(line) => println!("{line}"),
                    Err(failure) => failures.lock().expect("nobody panics with it").push(failure),
                }
            }
        };
        std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(worker))));
        let failures = failures.into_inner().unwrap_or_default();
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n\n")) }
    }

    fn fuzz(&self, target: &str, bound: &[String]) -> Result<String> {
        let (corpus, found) = (self.folder("corpus").join(target), self.folder("found"));
        for folder in [&corpus, &found] {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        output(self.command(target, &["--make-seeds", &corpus.to_string_lossy()]))?;
        let mut fuzz = self.command(target, &[]);
        fuzz.args(bound).arg(format!("-artifact_prefix={}/{target}-", found.display()));
        // An input that takes so long, or so much memory, is a failure.
        fuzz.args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=16384", "-print_final_stats=1"]).arg(&corpus);
        let kept = ["seeds", "regressions"].map(|kept| root().join("fuzz").join(kept).join(target));
        fuzz.args(kept.iter().filter(|folder| folder.is_dir()));
        let output = fuzz.output().map_err(|error| format!("{}: {error}", self.program.display()))?;
        if output.status.success() { Ok(summary(target, &output)) } else { Err(failure(target, &output)) }
    }
}

/// How many inputs were tried, and how many of them reach something of their own.
fn summary(target: &str, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let statistic = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let (tried, kept) = (statistic("stat::number_of_executed_units:"), statistic("stat::new_units_added:"));
    format!("{target}: {tried} inputs tried, {kept} new ones reach something new")
}

fn failure(target: &str, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let panicked = said.lines().skip_while(|line| !line.contains("panicked at")).take(3).collect::<Vec<_>>().join("\n");
    let verdict = said.lines().find(|line| line.starts_with("SUMMARY:")).unwrap_or_default();
    let input = said.lines().find_map(|line| line.split("Test unit written to ").nth(1)).unwrap_or_default();
    let name = Path::new(input).file_name().unwrap_or_default().to_string_lossy();
    format!(
        "{target} does not hold: {verdict}\n{panicked}\nagain: cargo xtask fuzz {target} --input {input}\n\
         to keep it: mkdir -p fuzz/regressions/{target} && cp {input} fuzz/regressions/{target}/{name}"
    )
}
