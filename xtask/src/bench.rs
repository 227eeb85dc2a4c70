//! `cargo xtask bench`: builds what is measured and measures it.

use crate::run::{Result, command, root, show};
use crate::{images, install};

/// Measures the named cases, or all.
pub fn run(cases: &[&str]) -> Result {
    install::packages(&[("busybox", "busybox-static"), ("crun", "crun"), ("etcd", "etcd-server")])?;
    show(command("cargo", &["build", "--release", "--quiet", "--package", "steadfast", "--package", "bench"]))?;
    let steadfast = root().join("target/release/steadfast");
    // crun refuses machines that have both versions of cgroups, so here both it and we see only the first.
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
    let mut measure = command("unshare", &["--mount", "sh", "-c", script]);
    measure.arg(root().join("target/release/bench")).args(cases);
    measure.env("STEADFAST_BUSYBOX_IMAGE", images::busybox(&steadfast)?).env("STEADFAST_BINARY", steadfast);
    show(measure)
}
