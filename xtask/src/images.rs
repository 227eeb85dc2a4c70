//! Images made on the spot from the distribution's own packages, for machines that reach no registry of images.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::install;
use crate::run::{Result, command, output, root};

/// What the image is made of: its name, the packages, and the account it runs as.
struct Recipe {
    name: &'static str,
    reference: &'static str,
    packages: &'static [&'static str],
    entry: &'static [&'static str],
    accounts: &'static str,
    groups: &'static str,
}

const REDIS: Recipe = Recipe {
    name: "redis",
    reference: "docker.io/library/redis:7",
    packages: &["redis-tools", "redis-server", "busybox-static"],
    entry: &["redis-server"],
    accounts: "root:x:0:0:root:/root:/bin/sh\nredis:x:999:999:redis:/data:/bin/sh\n",
    groups: "root:x:0:\nredis:x:999:\n",
};

const BUSYBOX: Recipe = Recipe {
    name: "busybox",
    reference: "docker.io/library/busybox:1",
    packages: &["busybox"],
    entry: &["sh"],
    accounts: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    groups: "root:x:0:\nnogroup:x:65534:\n",
};

/// An OCI archive with Redis and a shell, made once.
pub fn redis(steadfast: &Path) -> Result<PathBuf> {
    archive(&REDIS, steadfast)
}

/// An OCI archive with a shell and little else, made once.
pub fn busybox(steadfast: &Path) -> Result<PathBuf> {
    archive(&BUSYBOX, steadfast)
}

fn archive(recipe: &Recipe, steadfast: &Path) -> Result<PathBuf> {
    let folder = root().join("target/images");
    let archive = folder.join(format!("{}.tar", recipe.name));
    if archive.is_file() {
        return Ok(archive);
    }
    let tree = folder.join(recipe.name);
    // A tree that an interrupted run left is of no use.
    let _ = fs::remove_dir_all(&tree);
    unpack_packages(recipe, &tree)?;
    complete(recipe, &tree).map_err(|error| format!("{}: {error}", tree.display()))?;
    let mut build = command(steadfast, &["image", "build"]);
    build.arg(&tree).args(["--reference", recipe.reference, "--output"]).arg(&archive);
    for word in recipe.entry {
        build.args(["--cmd", word]);
    }
    output(build)?;
    fs::remove_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
    Ok(archive)
}

/// Downloads the packages and the libraries they need, and unpacks them; none of their scripts runs.
fn unpack_packages(recipe: &Recipe, tree: &Path) -> Result {
    install::refresh_package_lists()?;
    let downloads = tree.with_extension("packages");
    let _ = fs::remove_dir_all(&downloads);
    fs::create_dir_all(&downloads).map_err(|error| format!("{}: {error}", downloads.display()))?;
    let mut download = command("apt-get", &["download", "-q"]);
    download.args(with_libraries(recipe.packages)?).current_dir(&downloads);
    output(download)?;
    let files = fs::read_dir(&downloads).map_err(|error| format!("{}: {error}", downloads.display()))?;
    for file in files.flatten() {
        let mut unpack = command("dpkg-deb", &["--extract"]);
        unpack.arg(file.path()).arg(tree);
        output(unpack)?;
    }
    fs::remove_dir_all(&downloads).map_err(|error| format!("{}: {error}", downloads.display()))
}

/// The packages and all libraries they depend on; nothing else they name is needed to run the programs.
fn with_libraries(packages: &[&str]) -> Result<BTreeSet<String>> {
    let mut wanted: BTreeSet<String> = packages.iter().map(|package| (*package).to_owned()).collect();
    let mut next: Vec<String> = wanted.iter().cloned().collect();
    while let Some(package) = next.pop() {
        let text = output(command("apt-cache", &["depends", "--no-recommends", "--no-suggests", &package]))?;
        let needed = text.lines().filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "));
        for library in needed.filter(|name| name.starts_with("lib") || name.starts_with("lua-")) {
            if wanted.insert(library.to_owned()) {
                next.push(library.to_owned());
            }
        }
    }
    Ok(wanted)
}

/// Adds what packages leave to their scripts: accounts, the shell's commands, empty folders; drops what nobody reads.
fn complete(recipe: &Recipe, tree: &Path) -> std::io::Result<()> {
    for folder in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "lib/systemd", "etc/init.d"] {
        let _ = fs::remove_dir_all(tree.join(folder));
    }
    for folder in ["data", "dev", "etc", "proc", "root", "sys", "tmp", "bin", "run"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    fs::write(tree.join("etc/passwd"), recipe.accounts)?;
    fs::write(tree.join("etc/group"), recipe.groups)?;
    let commands = output(command(tree.join("bin/busybox"), &["--list"])).map_err(std::io::Error::other)?;
    for name in commands.lines().filter(|name| *name != "busybox") {
        if !tree.join("bin").join(name).exists() && !tree.join("usr/bin").join(name).exists() {
            symlink("busybox", tree.join("bin").join(name))?;
        }
    }
    Ok(())
}
