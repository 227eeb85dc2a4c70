//! Pods and containers from their start to their removal, also when the server or the shim dies in between.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runtime::{ContainerState, RuntimeError, RuntimeEvent};

use crate::node::{logged, node, reopen, sandbox};

#[tokio::test]
async fn a_command_runs_and_its_output_and_exit_code_are_kept() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let (exit, log) = node.run("p", node.script("c", "echo out; echo err >&2; printf unfinished; exit 7")).await;
    assert_eq!((exit.code, exit.signal, exit.out_of_memory), (7, None, false));
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout F unfinished"]);
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_refused_with_its_cause() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    fs::write(node.root("c").join("bin/plain"), "text").expect("writes");
    for (command, cause) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        ("/bin", "exec: \"/bin\": is a directory"),
        ("/bin/plain", "exec: \"/bin/plain\": permission denied"),
    ] {
        match node.runtime.start_container("p", node.command("c", &[command])).await {
            Err(RuntimeError::CannotRun(message)) => assert_eq!(message, cause),
            other => panic!("{command}: {other:?}"),
        }
    }
    node.start("p", node.command("c", &["true"])).await;
}

#[tokio::test]
async fn a_signal_reaches_the_container_and_kill_ends_all_of_it() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    node.start("p", node.script("c", "trap 'echo got; exit 3' TERM; echo ready; while true; do sleep 0.01; done")).await;
    let log = node.place.join("logs/c.log");
    while !logged(&log).contains("ready") {
        tokio::task::yield_now().await;
    }
    node.runtime.signal("p", "c", 15).await.expect("signals");
    assert_eq!(node.exit_of("c").await.code, 3);
    assert_eq!(logged(&log), "stdout F ready\nstdout F got\n");

    let first = node.start("p", node.script("d", "sleep 1000 & sleep 1000")).await;
    node.runtime.signal("p", "d", 9).await.expect("signals");
    let exit = node.exit_of("d").await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert!(!Path::new(&format!("/proc/{first}")).exists());
    assert!(matches!(node.runtime.signal("p", "d", 9).await, Err(RuntimeError::NotRunning(_))));
}

#[tokio::test]
async fn memory_beyond_the_limit_ends_the_container_and_is_told_apart() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let mut spec = node.command("c", &["tail", "/dev/zero"]);
    spec.resources.memory_limit = Some(16 << 20);
    let (exit, _) = node.run("p", spec).await;
    assert_eq!((exit.code, exit.out_of_memory), (137, true));
}

#[tokio::test]
async fn a_rotated_log_goes_on_in_a_new_file() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    let spec = node.script("c", "while read line; do echo $line; done < /fifo; sleep 1000");
    let (log, fifo) = (spec.log_path.clone(), spec.root.join("fifo"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    node.start("p", spec).await;
    let mut writer = tokio::task::spawn_blocking(|| fs::OpenOptions::new().write(true).open(fifo).expect("opens")).await.expect("opens");
    for (line, file) in [("before", log.with_extension("1")), ("after", log.clone())] {
        writer.write_all(format!("{line}\n").as_bytes()).expect("writes");
        while !logged(&log).contains(line) {
            tokio::task::yield_now().await;
        }
        if line == "before" {
            fs::rename(&log, &file).expect("renames");
            node.runtime.reopen_log("p", "c").await.expect("reopens");
        }
        assert_eq!(logged(&file), format!("stdout F {line}\n"));
    }
}

#[tokio::test]
async fn removing_leaves_nothing_behind() {
    let Some(mut node) = node().await else { return };
    let sandbox = node.pod("p").await;
    node.run("p", node.command("ended", &["true"])).await;
    node.start("p", node.command("running", &["sleep", "1000"])).await;
    assert!(matches!(node.runtime.remove_container("p", "running").await, Err(RuntimeError::Shim { .. })));
    node.runtime.remove_container("p", "ended").await.expect("removes");
    assert!(matches!(node.runtime.remove_container("p", "ended").await, Err(RuntimeError::NoContainer { .. })));
    node.runtime.remove_sandbox("p").await.expect("removes");
    node.runtime.remove_sandbox("p").await.expect("nothing to do is fine");
    node.runtime.remove_groups().await.expect("removes");
    assert!(!Path::new(&format!("/proc/{}", sandbox.shim_pid)).exists());
    assert!(!node.place.join("run/pods/p").exists());
    let place = node.place.display().to_string();
    assert!(!fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(&place));
    assert_eq!(groups(&node.place), Vec::<PathBuf>::new());
}

/// Control groups of the node.
fn groups(place: &Path) -> Vec<PathBuf> {
    let parent = crate::node::config(place).cgroup_parent.replace("/one", "");
    let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    trees.map(|tree| tree.path().join(&parent)).filter(|group| group.exists()).collect()
}

#[tokio::test]
async fn twenty_pods_start_at_once() {
    let Some(node) = node().await else { return };
    let pods = (0..20).map(|number| {
        let (runtime, spec) = (node.runtime.clone(), node.command(&format!("c{number}"), &["sleep", "1000"]));
        tokio::spawn(async move {
            let pod = format!("p{number}");
            runtime.create_sandbox(sandbox(&pod)).await?;
            runtime.start_container(&pod, spec).await?;
            runtime.usage(&pod).await
        })
    });
    for pod in pods.collect::<Vec<_>>() {
        let (cpu, _memory) = pod.await.expect("ends").expect("starts");
        assert!(cpu > 0);
    }
}

#[tokio::test]
async fn a_failed_sandbox_leaves_nothing_and_says_why() {
    let Some(node) = node().await else { return };
    let mut spec = sandbox("p");
    spec.sysctls.insert("kernel.core_pattern".to_owned(), "|/evil".to_owned());
    let error = node.runtime.create_sandbox(spec).await.expect_err("refused").to_string();
    assert!(error.contains("sysctl kernel.core_pattern is not a namespaced one"), "{error}");
    assert!(!node.place.join("run/pods/p").exists());
    assert!(matches!(node.runtime.exec("p", "c", no_command()).await, Err(RuntimeError::NoSandbox(_))));
    assert!(node.runtime.create_sandbox(sandbox("../p")).await.is_err());
}

fn no_command() -> runtime::ExecSpec {
    runtime::ExecSpec { args: Vec::new(), env: Vec::new(), terminal: false, stdin: false }
}

#[tokio::test]
async fn a_killed_shim_takes_its_containers_along_and_is_reported() {
    let Some(mut node) = node().await else { return };
    let sandbox = node.pod("p").await;
    let pid = node.start("p", node.command("c", &["sleep", "1000"])).await;
    kill(sandbox.shim_pid);
    assert_eq!(node.event().await, RuntimeEvent::SandboxLost { pod: "p".to_owned() });
    assert!(!is_running(pid));
    let next = reopen(&node.place).await;
    match &next.found[0].containers[0].state {
        ContainerState::Exited { exit, .. } => assert_eq!((exit.code, exit.signal), (137, Some(9))),
        running => panic!("{running:?}"),
    }
}

#[tokio::test]
async fn state_from_before_a_reboot_is_void() {
    let Some(node) = node().await else { return };
    let sandbox = node.pod("p").await;
    let file = node.place.join("run/pods/p/state.json");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot");
    let state = fs::read_to_string(&file).expect("a state").replace(boot.trim(), "another");
    kill(sandbox.shim_pid);
    fs::write(&file, state).expect("writes");
    let next = reopen(&node.place).await;
    assert!(next.found.is_empty());
    assert!(!node.place.join("run/pods/p").exists());
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("kills");
}

/// A process that nobody has waited for is not running.
fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_request_of_a_newer_server_is_refused_and_disturbs_nothing() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    node.start("p", node.command("c", &["sleep", "1000"])).await;
    let mut newer = UnixStream::connect(node.place.join("run/pods/p/shim.sock")).expect("connects");
    let call = br#"{"id":5,"request":{"Dance":{"steps":3}}}"#;
    newer.write_all(&[&(call.len() as u32).to_be_bytes(), call.as_slice()].concat()).expect("writes");
    let mut length = [0; 4];
    newer.read_exact(&mut length).expect("reads");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    newer.read_exact(&mut answer).expect("reads");
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.contains(r#""id":5"#) && answer.contains("Dance"), "{answer}");
    newer.write_all(b"nonsense that is no frame").expect("writes");
    assert_eq!(node.ask("p", "c", "echo alive").await, "alive\n");
}

/// The variable that makes a test the server to be killed.
const SERVER: &str = "STEADFAST_TEST_SERVER";

#[tokio::test]
async fn killing_the_server_disturbs_nobody_and_loses_no_exit() {
    let Some(node) = node().await else { return };
    let test = std::env::current_exe().expect("a path");
    let mut server = Command::new(test)
        .args(["--exact", "lifecycle::the_server_to_be_killed", "--nocapture"])
        .env(SERVER, &node.place)
        .stdout(Stdio::null())
        .spawn()
        .expect("a server");
    let wait_for = |name: &'static str| {
        let path = node.place.join(name);
        async move {
            while !path.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
    };
    wait_for("started").await;
    kill(i32::try_from(server.id()).expect("a pid"));
    server.wait().expect("ends");

    fs::write(node.place.join("roots/short/go"), "").expect("writes");
    while !logged(&node.place.join("logs/short.log")).contains("end") {
        tokio::task::yield_now().await;
    }
    let mut next = reopen(&node.place).await;
    let found = &next.found[0];
    assert_eq!(found.spec, sandbox("p"));
    let states: Vec<_> = found.containers.iter().map(|container| (container.id.as_str(), &container.state)).collect();
    let [("long", ContainerState::Running { pid, .. }), ("short", short)] = states.as_slice() else { panic!("{states:?}") };
    assert!(is_running(*pid));
    match short {
        ContainerState::Exited { exit, .. } => assert_eq!(exit.code, 5),
        // The log is written a moment before the end.
        ContainerState::Running { .. } => assert_eq!(next.exit_of("short").await.code, 5),
    }
    assert_eq!(next.ask("p", "long", "echo here").await, "here\n");
    while !next.ask("p", "long", "cat /proc/[0-9]*/cmdline | grep 424[2]").await.is_empty() {}
    next.runtime.remove_sandbox("p").await.expect("removes");
}

/// Not a test of its own: `killing_the_server_disturbs_nobody_and_loses_no_exit` runs it in another process.
#[tokio::test]
async fn the_server_to_be_killed() {
    let Some(place) = std::env::var_os(SERVER) else { return };
    let node = reopen(Path::new(&place)).await;
    node.pod("p").await;
    node.start("p", node.command("long", &["sleep", "1000"])).await;
    node.start("p", node.script("short", "while ! [ -e /go ]; do sleep 0.01; done; echo end; exit 5")).await;
    let _lost = node.exec("p", "long", &["sleep", "4242"]).await;
    fs::write(node.place.join("started"), "").expect("writes");
    std::future::pending::<()>().await;
}
