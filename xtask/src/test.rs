//! `cargo xtask test`: everything that must hold before a change lands.

use crate::run::{Result, command, is_root, output, root, show};
use crate::{clients, fuzz, images, install, tidy};

/// How many tests of one program run at the same time.
const THREADS: &str = "4";

/// Installs what the tests need, then checks format, lints and tidiness, and runs all tests.
pub fn run() -> Result {
    if !is_root() {
        return Err("Most tests start containers, and would be left out: run them as root (sudo cargo xtask test).".to_owned());
    }
    install::packages(&[("busybox", "busybox-static"), ("crun", "crun"), ("nft", "nftables"), ("docker-registry", "docker-registry")])?;
    install::packages(&[("etcd", "etcd-server"), ("script", "bsdutils")])?;
    let kubectl = install::kubectl()?;
    step("clients", clients::install)?;
    step("format", || show(command("cargo", &["fmt", "--all", "--check"])))?;
    step("tidy", tidy::run)?;
    step("lints", || show(command("cargo", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"])))?;
    step("build", || show(command("cargo", &["build", "--workspace", "--quiet"])))?;
    let steadfast = root().join("target/debug/steadfast");
    let (redis, busybox) = (images::redis(&steadfast)?, images::busybox(&steadfast)?);
    step("tests", || {
        let mut tests = command("cargo", &["test", "--workspace", "--no-fail-fast"]);
        tests.env("STEADFAST_BINARY", steadfast).env("STEADFAST_KUBECTL", kubectl);
        tests.env("STEADFAST_REDIS_IMAGE", redis).env("STEADFAST_BUSYBOX_IMAGE", busybox);
        // The longest tests wait most of the time.
        tests.env("RUST_TEST_THREADS", THREADS);
        show(tests)
    })?;
    step("fuzz", fuzz::bounded)?;
    println!("everything passed on {}", output(command("uname", &["-srm"]))?.trim());
    Ok(())
}

fn step(name: &str, run: impl FnOnce() -> Result) -> Result {
    let begin = std::time::Instant::now();
    println!("── {name}");
    run()?;
    println!("── {name}: {:.0} s", begin.elapsed().as_secs_f32());
    Ok(())
}
