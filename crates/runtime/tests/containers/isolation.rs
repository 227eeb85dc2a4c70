//! What a container can see and do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use nix::mount::MsFlags;
use runtime::{Mount, MountSource, User};

use crate::node::{self, node, sandbox};

fn volume(source: &std::path::Path, destination: &str, read_only: bool) -> Mount {
    Mount {
        source: MountSource::Path(source.to_owned()),
        destination: destination.to_owned(),
        read_only,
        propagate_from_host: false,
        propagate_to_host: false,
    }
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.split(name).nth(1)).unwrap_or_default().trim()
}

#[tokio::test]
async fn a_process_has_its_streams_and_no_other_descriptor() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    // Another container and a command have descriptors in the shim while this one starts.
    node.start("p", node.command("other", &["sleep", "1000"])).await;
    let _running = node.exec("p", "other", &["sleep", "1000"]).await;
    node.start("p", node.command("c", &["sleep", "1000"])).await;
    assert_eq!(node.ask("p", "c", "ls /proc/1/fd").await, "0\n1\n2\n");
    assert_eq!(node.ask("p", "c", "exec ls /proc/self/fd").await, "0\n1\n2\n3\n", "3 is the directory that ls reads");
}

#[tokio::test]
async fn capabilities_are_exactly_those_asked_for() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let (_, status) = node.run("p", node.command("c", &["cat", "/proc/self/status"])).await;
    let asked = format!("{:016x}", 1 | 1 << 5 | 1_u64 << 27);
    for (set, expected) in [("CapBnd:", &*asked), ("CapEff:", &asked), ("CapPrm:", &asked), ("CapInh:", NONE), ("CapAmb:", NONE)] {
        assert_eq!(field(&status, set), expected, "{set}");
    }
    assert_eq!((field(&status, "NoNewPrivs:"), field(&status, "Seccomp:")), ("0", "2"));
}

const NONE: &str = "0000000000000000";

#[tokio::test]
async fn an_ordinary_user_has_no_capability_and_writes_to_its_streams_by_name() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let mut spec = node.script("c", "id -u; id -g; id -G; cat /proc/self/status; echo by name > /dev/stderr");
    spec.user = User { uid: 1000, gid: 1001, groups: vec![7, 8] };
    spec.security.no_new_privileges = true;
    let (exit, log) = node.run("p", spec).await;
    assert_eq!(exit.code, 0);
    assert!(log.starts_with("stdout F 1000\nstdout F 1001\nstdout F 1001 7 8\n"), "{log}");
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(field(&log, set), NONE, "{set}");
    }
    assert_eq!((field(&log, "NoNewPrivs:"), field(&log, "Seccomp:")), ("1", "2"));
    assert!(log.contains("stderr F by name"));
}

#[tokio::test]
async fn a_command_has_the_rights_of_its_container() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    let mut spec = node.command("c", &["sleep", "1000"]);
    spec.user = User { uid: 1000, gid: 1000, groups: vec![] };
    spec.security.no_new_privileges = true;
    spec.env.push(("COLOR".to_owned(), "red".to_owned()));
    node.start("p", spec).await;
    let status = node.ask("p", "c", "cat /proc/self/status").await;
    assert_eq!((field(&status, "NoNewPrivs:"), field(&status, "Seccomp:"), field(&status, "CapBnd:")), ("1", "2", "0000000008000021"));
    assert_eq!(node.ask("p", "c", "id -u; echo $COLOR; cat /proc/self/cgroup > /tmp/x 2>/dev/null || echo no").await, "1000\nred\nno\n");
    let groups = node.ask("p", "c", "cat /proc/1/cgroup").await;
    assert_eq!(node.ask("p", "c", "cat /proc/self/cgroup").await, groups);
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let script = format!("stat -L -c %i /proc/1/ns/{name} /proc/self/ns/{name}");
        let inodes = node.ask("p", "c", &script).await;
        let inodes: Vec<&str> = inodes.lines().collect();
        assert!(inodes.len() == 2 && inodes[0] == inodes[1], "{name}: {inodes:?}");
    }
}

#[tokio::test]
async fn the_nodes_secrets_are_hidden_and_its_settings_protected() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let script = "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null | head -c 1 | wc -c; ls /sys/firmware | wc -l
        for file in /proc/sys/kernel/domainname /proc/sysrq-trigger /sys/kernel/uevent_seqnum /sys/fs/cgroup/memory/memory.limit_in_bytes; do
          [ -e $file ] && (echo 1 > $file) 2>/dev/null && echo \"wrote $file\"
        done
        mount -t tmpfs none /bin 2>&1; cat /proc/mounts | grep -c ' / '";
    let spec = node.script("c", script);
    symlink("busybox", spec.root.join("bin/wc")).expect("a link");
    let (_, log) = node.run("p", spec).await;
    let text = log.replace("stdout F ", "").replace("stderr F ", "");
    assert_eq!(text, "0\n0\nmount: permission denied (are you root?)\n1\n");
}

#[tokio::test]
async fn devices_made_by_a_container_are_of_no_use() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let script = "mknod /null c 1 3 && mknod /dev/null2 c 1 3 && mknod /dev/shm/null c 1 3 && echo made
        for file in /null /dev/null2 /dev/shm/null; do (cat $file) 2>/dev/null && echo used $file; done
        cat /dev/null; head -c 3 /dev/zero | wc -c";
    let spec = node.script("c", script);
    symlink("busybox", spec.root.join("bin/wc")).expect("a link");
    let (_, log) = node.run("p", spec).await;
    assert_eq!(log, "stdout F made\nstdout F 3\n");
}

#[tokio::test]
async fn a_read_only_root_has_writable_volumes_if_they_are() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let (open, closed) = (node.place.join("open"), node.place.join("closed"));
    for directory in [&open, &closed] {
        fs::create_dir(directory).expect("a directory");
        fs::write(directory.join("file"), "content").expect("writes");
    }
    let mut spec =
        node.script("c", "for d in / /open /closed /dev/shm /memory; do touch $d/x 2>/dev/null && echo $d; done; cat /etc/hosts; pwd");
    spec.security.read_only_root = true;
    spec.working_dir = "/work/made".to_owned();
    let memory = Mount { source: MountSource::Memory { limit: Some(1 << 20) }, ..volume(&open, "/memory", false) };
    spec.mounts =
        vec![volume(&open, "/open", false), volume(&closed, "/closed", true), volume(&open.join("file"), "/etc/hosts", true), memory];
    let (_, log) = node.run("p", spec).await;
    assert_eq!(log.replace("stdout F ", ""), "/open\n/dev/shm\n/memory\ncontent/work/made\n");
    assert!(open.join("x").exists() && !closed.join("x").exists());
}

#[tokio::test]
async fn links_in_an_image_can_not_lead_a_mount_out_of_it() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let (outside, data) = (node.place.join("outside"), node.place.join("data"));
    fs::create_dir(&outside).expect("a directory");
    fs::create_dir(&data).expect("a directory");
    fs::write(data.join("file"), "mounted\n").expect("writes");
    let mut spec = node.script("c", "cat /a/file /b/sub/file /c");
    symlink(&outside, spec.root.join("a")).expect("a link");
    symlink("../../../../../../../..", spec.root.join("b")).expect("a link");
    symlink(outside.join("new"), spec.root.join("c")).expect("a link");
    spec.mounts = vec![volume(&data, "/a", false), volume(&data, "/b/sub", false), volume(&data.join("file"), "/c", false)];
    let root = spec.root.clone();
    let (exit, log) = node.run("p", spec).await;
    assert_eq!((exit.code, log.as_str()), (0, "stdout F mounted\nstdout F mounted\nstdout F mounted\n"));
    assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 0);
    assert!(root.join("sub").is_dir(), "made inside");
}

#[tokio::test]
async fn containers_of_a_pod_share_network_name_and_memory_but_not_processes() {
    let Some(mut node) = node().await else { return };
    let mut spec = sandbox("p");
    spec.sysctls = BTreeMap::from([("net.core.somaxconn".to_owned(), "777".to_owned())]);
    let sandbox = node.runtime.create_sandbox(spec).await.expect("a sandbox");
    let first = node.start("p", node.script("a", "echo shared > /dev/shm/x; sleep 1000")).await;
    while node.ask("p", "a", "cat /dev/shm/x 2>/dev/null").await.is_empty() {}
    let second = node.script("b", "cat /dev/shm/x /proc/sys/net/core/somaxconn; hostname; echo $$; cat /sys/class/net/lo/flags");
    let (_, log) = node.run("p", second).await;
    assert_eq!(log.replace("stdout F ", ""), "shared\n777\np\n1\n0x9\n");
    let network = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
    assert_eq!(network(sandbox.shim_pid), network(first));
    assert_ne!(network(first), fs::read_link("/proc/self/ns/net").expect("a namespace"));
}

#[tokio::test]
async fn containers_share_processes_if_the_pod_says_so() {
    let Some(mut node) = node().await else { return };
    let mut spec = sandbox("p");
    spec.share_process_namespace = true;
    node.runtime.create_sandbox(spec).await.expect("a sandbox");
    node.start("p", node.command("a", &["sleep", "1234"])).await;
    let (_, log) =
        node.run("p", node.script("b", "cat /proc/1/comm; cat /proc/[0-9]*/cmdline | grep -c 1234; ls /proc/1/root 2>&1 | wc -l")).await;
    assert!(log.starts_with("stdout F pause\nstdout F 1\n"), "{log}");
    let background = node.start("p", node.script("c", "sleep 1000 & exit 0")).await;
    node.exit_of("c").await;
    node.runtime.remove_container("p", "c").await.expect("removes, though a process was left");
    assert!(!std::path::Path::new(&format!("/proc/{background}")).exists());
    assert_eq!(node.ask("p", "a", "echo alive").await, "alive\n");
}

#[tokio::test]
async fn a_privileged_container_sees_the_nodes_devices() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let mut spec = node.script(
        "c",
        "[ -c /dev/kmsg ] && echo kmsg; touch /sys/fs/cgroup/x 2>/dev/null; cat /dev/null && mount -t tmpfs none /mnt && echo mounted",
    );
    fs::create_dir(spec.root.join("mnt")).expect("a directory");
    spec.security.privileged = true;
    spec.security.seccomp = runtime::Seccomp::Unconfined;
    spec.security.capabilities = vec!["CAP_SYS_ADMIN".to_owned(), "CAP_SYS_RESOURCE".to_owned()];
    let (_, log) = node.run("p", spec).await;
    assert_eq!(log, "stdout F kmsg\nstdout F mounted\n");
}

#[tokio::test]
async fn the_program_of_the_shim_can_not_be_overwritten_through_it() {
    let Some(node) = node().await else { return };
    let sandbox = node.pod("p").await;
    let exe = format!("/proc/{}/exe", sandbox.shim_pid);
    let error = fs::OpenOptions::new().write(true).truncate(true).open(exe).expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[tokio::test]
async fn a_working_directory_can_not_lead_out_through_a_descriptor() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    let mut spec = node.command("c", &["sleep", "1000"]);
    spec.working_dir = "/w".to_owned();
    let place = spec.root.join("w");
    node.start("p", spec).await;
    fs::remove_dir(&place).expect("was made");
    for descriptor in 0..24 {
        symlink(format!("/proc/self/fd/{descriptor}"), &place).expect("a link");
        let spec = runtime::ExecSpec { args: vec!["true".to_owned()], env: Vec::new(), terminal: false, stdin: false };
        let error = node.runtime.exec("p", "c", spec).await.expect_err("refused").to_string();
        assert!(error.contains("chdir to /w: n"), "{descriptor}: {error}");
        fs::remove_file(&place).expect("was made");
    }
}

#[tokio::test]
async fn mounts_spread_between_node_and_container_only_if_asked() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    let shared = node.place.join("shared");
    fs::create_dir(&shared).expect("a directory");
    mount("tmpfs", &shared, MsFlags::empty());
    mount("", &shared, MsFlags::MS_SHARED);
    for name in ["private", "slave", "both", "node"] {
        fs::create_dir(shared.join(name)).expect("a directory");
    }
    let mut spec = node.script(
        "c",
        "mount -t tmpfs none /private/private; mount -t tmpfs none /slave/slave; mount -t tmpfs none /both/both; echo done; sleep 1000",
    );
    spec.security.privileged = true;
    spec.security.capabilities = vec!["CAP_SYS_ADMIN".to_owned()];
    spec.mounts = vec![
        volume(&shared, "/private", false),
        Mount { propagate_from_host: true, ..volume(&shared, "/slave", false) },
        Mount { propagate_to_host: true, propagate_from_host: true, ..volume(&shared, "/both", false) },
    ];
    let log = spec.log_path.clone();
    node.start("p", spec).await;
    while !node::logged(&log).contains("done") {
        tokio::task::yield_now().await;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let on_node: Vec<bool> = ["private", "slave", "both"].map(|name| mounts.contains(&shared.join(name).display().to_string())).to_vec();
    assert_eq!(on_node, [false, false, true]);
    mount("tmpfs", &shared.join("node"), MsFlags::empty());
    fs::write(shared.join("node/file"), "").expect("writes");
    assert_eq!(
        node.ask("p", "c", "ls -d /private/node/file /slave/node/file /both/node/file 2>/dev/null").await,
        "/both/node/file\n/slave/node/file\n"
    );
    node.runtime.remove_sandbox("p").await.expect("removes");
    nix::mount::umount2(&shared, nix::mount::MntFlags::MNT_DETACH).expect("unmounts");
}

fn mount(kind: &str, place: &std::path::Path, flags: MsFlags) {
    let kind = Some(kind).filter(|kind| !kind.is_empty());
    nix::mount::mount(kind, place, kind, flags, None::<&str>).expect("mounts");
}

#[tokio::test]
async fn a_pod_may_use_the_nodes_network() {
    let Some(node) = node().await else { return };
    let spec = runtime::SandboxSpec { host_network: true, ..sandbox("p") };
    let sandbox = node.runtime.create_sandbox(spec).await.expect("a sandbox");
    let pid = node.start("p", node.command("c", &["sleep", "1000"])).await;
    let namespace = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
    assert_eq!(namespace(&pid.to_string(), "net"), namespace("self", "net"));
    assert_ne!(namespace(&sandbox.shim_pid.to_string(), "ipc"), namespace("self", "ipc"));
}

#[tokio::test]
async fn the_filter_refuses_what_the_kernel_would_allow() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    for (id, seccomp, code) in [("filtered", runtime::Seccomp::RuntimeDefault, 1), ("free", runtime::Seccomp::Unconfined, 0)] {
        // Anybody may make a user namespace.
        let mut spec = node.script(id, "busybox unshare -U true 2>/dev/null");
        spec.security.seccomp = seccomp;
        spec.security.capabilities.clear();
        assert_eq!(node.run("p", spec).await.0.code, code, "{id}");
    }
}

#[tokio::test]
async fn limits_hold_and_can_be_read_by_the_container() {
    let Some(mut node) = node().await else { return };
    let limits = runtime::Resources {
        memory_limit: Some(64 << 20),
        cpu_quota_us: Some(50_000),
        cpu_shares: Some(512),
        pids_limit: Some(9),
        ..runtime::Resources::default()
    };
    let spec = runtime::SandboxSpec { resources: limits.clone(), ..sandbox("p") };
    let warnings = node.runtime.create_sandbox(spec).await.expect("a sandbox").warnings;
    assert!(warnings.iter().all(|warning| warning.contains("CAP_SYS_RESOURCE")), "{warnings:?}");
    let script =
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us memory.max pids.max cpu.max 2>/dev/null
        for n in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; true";
    let mut spec = node.script("c", script);
    spec.resources = limits;
    let (_, log) = node.run("p", spec).await;
    for expected in ["stdout F 67108864\n", "stdout F 9\n", "stdout F 50000"] {
        assert!(log.contains(expected), "{log}");
    }
    assert!(log.contains("can't fork"), "{log}");
}
