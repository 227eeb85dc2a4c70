//! `cargo xtask tidy`: the rules of the code base that a compiler does not know.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Result, root};

const LONGEST_FUNCTION: usize = 120;
const LONG_FUNCTION: usize = 70;
const LONGEST_FILE: usize = 800;

/// Which of our crates a crate may use: the direction of the architecture.
const MAY_USE: &[(&str, &[&str])] = &[
    ("kinds", &[]),
    ("plan", &["kinds"]),
    ("model", &["kinds", "plan"]),
    ("schemas", &["kinds"]),
    ("informer", &["kinds"]),
    ("protobuf", &[]),
    ("store", &["protobuf"]),
    ("events", &["kinds", "plan", "informer"]),
    ("apiserver", &["kinds", "plan", "protobuf", "schemas", "store"]),
    ("controllers", &["kinds", "plan", "informer", "events"]),
    ("image", &[]),
    ("runtime", &[]),
    ("network", &["kinds", "plan", "informer"]),
    ("volume", &["kinds"]),
    ("dns", &["kinds", "plan", "informer"]),
    ("node", &["kinds", "plan", "informer", "events", "runtime", "image", "network", "volume"]),
];

/// What the functional core may not even know of.
const NOT_IN_THE_CORE: &[&str] = &["tokio", "kube", "futures", "tracing", "nix", "hyper"];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// Prints the figures of the code base and fails when a hard rule is broken.
pub fn run() -> Result {
    let files = sources()?;
    let mut faults = Vec::new();
    let mut functions = Vec::new();
    for (path, text) in &files {
        check_file(path, text, &mut faults);
        functions.extend(function_lengths(text).into_iter().map(|(name, length)| (path.clone(), name, length)));
    }
    for (path, name, length) in functions.iter().filter(|(_, _, length)| *length > LONGEST_FUNCTION) {
        faults.push(format!("{}: fn {name} has {length} lines; {LONGEST_FUNCTION} at most", path.display()));
    }
    faults.extend(forbidden_dependencies()?);
    faults.extend(dead_files(&files));
    faults.extend(broken_links()?);
    print_figures(&files, &functions);
    if faults.is_empty() { Ok(()) } else { Err(format!("tidy:\n  {}", faults.join("\n  "))) }
}

fn print_figures(files: &[(PathBuf, String)], functions: &[(PathBuf, String, usize)]) {
    let mut lengths: Vec<_> = functions.iter().map(|(_, _, length)| *length).collect();
    let mut sizes: Vec<_> = files.iter().map(|(_, text)| text.lines().count()).collect();
    let long = lengths.iter().filter(|length| **length > LONG_FUNCTION).count();
    let share = 100.0 * long as f64 / lengths.len().max(1) as f64;
    println!("files: {}, lines: {}, median file {}", sizes.len(), sizes.iter().sum::<usize>(), median(&mut sizes));
    println!("functions: {}, median {}, over {LONG_FUNCTION} lines: {share:.1} %", lengths.len(), median(&mut lengths));
}

fn median(values: &mut [usize]) -> usize {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn sources() -> Result<Vec<(PathBuf, String)>> {
    let mut paths = Vec::new();
    for folder in ["crates", "fuzz", "xtask", "tests"] {
        collect(&root().join(folder), "rs", &mut paths)?;
    }
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), read(&path)?))).collect()
}

fn collect(folder: &Path, extension: &str, paths: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            collect(&path, extension, paths)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn check_file(path: &Path, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        faults.push(format!("{}: {lines} lines; {LONGEST_FILE} at most", path.display()));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        faults.push(format!("{}: the name says nothing", path.display()));
    }
}

/// The functions of a file and their lengths: from the line with `fn` to the brace that closes it at the same indentation.
fn function_lengths(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let closing = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        if line.ends_with('}') {
            found.push((name, 1));
        } else if let Some(end) = lines[index..].iter().position(|line| *line == closing) {
            found.push((name, end + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words =
        line.split_whitespace().skip_while(|word| word.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(word));
    let name = words.next().filter(|word| *word == "fn").and_then(|_| words.next())?;
    Some(name.split(['(', '<']).next().unwrap_or(name).to_owned())
}

fn forbidden_dependencies() -> Result<Vec<String>> {
    let ours: Vec<_> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let mut faults = Vec::new();
    for (name, allowed) in MAY_USE {
        let manifest = root().join("crates").join(name).join("Cargo.toml");
        let used = dependencies(&read(&manifest)?);
        for other in used.iter().filter(|used| ours.contains(&used.as_str()) && !allowed.contains(&used.as_str())) {
            faults.push(format!("{name} may not use {other}: the direction is plan → kinds, shells → plan, nobody → adapters"));
        }
        for other in used.iter().filter(|used| ["kinds", "plan", "model"].contains(name) && NOT_IN_THE_CORE.contains(&used.as_str())) {
            faults.push(format!("{name} may not use {other}: the core has no I/O, clock or runtime"));
        }
    }
    Ok(faults)
}

/// The names in a manifest's `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[").find(|section| section.starts_with("dependencies]")).unwrap_or_default();
    section
        .lines()
        .skip(1)
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Files that no `mod` names.
fn dead_files(files: &[(PathBuf, String)]) -> Vec<String> {
    let mut declared: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for (path, text) in files {
        let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib" | "main") => path.parent().unwrap_or(path).to_path_buf(),
            _ => path.with_extension(""),
        };
        let modules = text.lines().filter_map(|line| {
            let line = line.trim().trim_end_matches(';');
            let words: Vec<_> = line.split_whitespace().collect();
            let position = words.iter().position(|word| *word == "mod")?;
            words.get(position + 1).map(|name| (*name).to_owned())
        });
        declared.entry(folder.clone()).or_default().extend(modules.collect::<Vec<_>>());
        // A root beside its modules, as in `tests/x.rs` with `mod y;` in `tests/y.rs`.
        let own: Vec<_> = declared[&folder].clone();
        declared.entry(path.parent().unwrap_or(path).to_path_buf()).or_default().extend(own);
    }
    let is_dead = |path: &&PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let parent = path.parent().unwrap_or(path);
        let is_root = ["lib", "main", "build"].contains(&stem)
            || ["tests", "examples", "benches", "bin"].iter().any(|folder| parent.ends_with(folder));
        let (module, folder) = if stem == "mod" { (parent.file_name(), parent.parent()) } else { (path.file_stem(), path.parent()) };
        let module = module.and_then(|module| module.to_str()).unwrap_or_default();
        !is_root && !folder.and_then(|folder| declared.get(folder)).is_some_and(|names| names.iter().any(|name| name == module))
    };
    let dead = files.iter().map(|(path, _)| path).filter(is_dead);
    dead.map(|path| format!("{}: no `mod` names this file", path.display())).collect()
}

/// Relative links in our documents that lead nowhere.
fn broken_links() -> Result<Vec<String>> {
    let mut documents = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    collect(&root().join("docs"), "md", &mut documents)?;
    let mut faults = Vec::new();
    for document in documents {
        let text = read(&document)?;
        let folder = document.parent().unwrap_or(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let outside = link.contains("://") || file.is_empty();
            if !outside && !folder.join(file).exists() {
                faults.push(format!("{}: the link to {link} leads nowhere", document.display()));
            }
        }
    }
    Ok(faults)
}
