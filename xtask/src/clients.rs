//! The clients written by others that the tests drive the server with, in the versions that the tests pin.

use std::fs;
use std::path::Path;

use crate::install;
use crate::run::{Result, command, output, root, show, succeeds};

/// Where the tests look for what is installed here.
const TOOLS: &str = "target/tools";

/// Installs all clients, each once per pinned version.
pub fn install() -> Result {
    install::oldest_kubectl()?;
    install::newest_kubectl()?;
    pinned("python", "requirements.txt", python)?;
    pinned("javascript", "package.json", javascript)
}

/// Installs a language's client into a folder of its own, unless it was installed from the same list of versions.
fn pinned(language: &str, list: &str, install: fn(&Path) -> Result) -> Result {
    let wanted = fs::read(root().join("tests/clients").join(language).join(list)).map_err(|error| format!("{list}: {error}"))?;
    let folder = root().join(TOOLS).join(language);
    let installed = folder.join("installed");
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing the {language} client");
    let written = |result: std::io::Result<()>| result.map_err(|error| format!("{}: {error}", folder.display()));
    written(fs::create_dir_all(&folder))?;
    written(fs::write(folder.join(list), &wanted))?;
    install(&folder).map_err(|error| format!("{error}\nIs the package registry reachable? The tests of this client need it once."))?;
    written(fs::write(installed, wanted))
}

fn python(folder: &Path) -> Result {
    install::packages(&[("python3", "python3")])?;
    if !succeeds(command("python3", &["-c", "import ensurepip, venv"])) {
        install::package("python3-venv")?;
    }
    let mut environment = command("python3", &["-m", "venv"]);
    environment.arg(folder);
    output(environment)?;
    let mut fetch = command(folder.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    fetch.arg(folder.join("requirements.txt"));
    show(fetch)
}

fn javascript(folder: &Path) -> Result {
    install::packages(&[("node", "nodejs"), ("npm", "npm")])?;
    let mut fetch = command("npm", &["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]);
    fetch.current_dir(folder);
    show(fetch)
}
