//! Commands in running containers, and terminals.

use std::fs;
use std::io::Write;

use runtime::{ExecSpec, RuntimeError};

use crate::node::{node, read_all};

fn command(args: &[&str]) -> ExecSpec {
    ExecSpec { args: args.iter().map(|argument| (*argument).to_owned()).collect(), env: Vec::new(), terminal: false, stdin: false }
}

#[tokio::test]
async fn a_command_has_three_streams_and_an_exit_code() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    node.start("p", node.command("c", &["sleep", "1000"])).await;
    let spec = ExecSpec {
        stdin: true,
        env: vec![("WORD".to_owned(), "hello".to_owned())],
        ..command(&["sh", "-c", "cat; echo $WORD >&2; exit 4"])
    };
    let mut exec = node.runtime.exec("p", "c", spec).await.expect("executes");
    let mut stdin = fs::File::from(exec.stdin.take().expect("an input"));
    stdin.write_all(b"given").expect("writes");
    drop(stdin);
    assert_eq!(read_all(exec.stdout).await, "given");
    assert_eq!(read_all(exec.stderr.expect("a stream")).await, "hello\n");
    assert_eq!(exec.exit.await.expect("an exit").code, 4);
}

#[tokio::test]
async fn a_command_that_can_not_run_says_why() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    node.start("p", node.command("c", &["sleep", "1000"])).await;
    match node.runtime.exec("p", "c", command(&["nosuch"])).await {
        Err(RuntimeError::CannotRun(message)) => assert_eq!(message, "exec: \"nosuch\": executable file not found in $PATH"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(node.runtime.exec("p", "d", command(&["true"])).await, Err(RuntimeError::NoContainer { .. })));
    node.runtime.signal("p", "c", 9).await.expect("signals");
    node.exit_of("c").await;
    assert!(matches!(node.runtime.exec("p", "c", command(&["true"])).await, Err(RuntimeError::NotRunning(_))));
}

#[tokio::test]
async fn a_killed_command_ends_with_its_children() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    node.start("p", node.command("c", &["sleep", "1000"])).await;
    let exec = node.exec("p", "c", &["sh", "-c", "sleep 4321 & echo begun; wait"]).await;
    node.runtime.kill_exec("p", exec.id).await.expect("kills");
    let exit = exec.exit.await.expect("an exit");
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    // The pipe ends with its last writer.
    read_all(exec.stdout).await;
    assert_eq!(node.ask("p", "c", "cat /proc/[0-9]*/cmdline | grep 4321 | grep -v grep").await, "");
}

#[tokio::test]
async fn a_terminal_is_one_inside_the_container() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    node.start("p", node.command("c", &["sleep", "1000"])).await;
    let spec = ExecSpec { terminal: true, stdin: true, ..command(&["sh", "-c", "tty; read line; echo got $line; exit 6"]) };
    let mut exec = node.runtime.exec("p", "c", spec).await.expect("executes");
    assert!(exec.stderr.is_none());
    let mut stdin = fs::File::from(exec.stdin.take().expect("an input"));
    stdin.write_all(b"typed\n").expect("writes");
    let text = read_all(exec.stdout).await;
    drop(stdin);
    assert!(text.contains("/dev/pts/0\r\n") && text.ends_with("got typed\r\n"), "{text:?}");
    assert_eq!(exec.exit.await.expect("an exit").code, 6);
}

#[tokio::test]
async fn a_containers_terminal_goes_into_its_log() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let mut spec = node.script("c", "tty; [ -t 0 ] && [ -t 2 ] && echo both >&2");
    spec.terminal = true;
    let (exit, log) = node.run("p", spec).await;
    assert_eq!(exit.code, 0);
    assert_eq!(log, "stdout F /dev/pts/0\r\nstdout F both\r\n");
}

#[tokio::test]
async fn a_command_nobody_waits_for_does_not_hold_the_others_up() {
    let Some(node) = node().await else { return };
    node.pod("p").await;
    node.start("p", node.command("c", &["sleep", "1000"])).await;
    let blocked: Vec<_> = futures_of(&node, 10).await;
    assert_eq!(node.ask("p", "c", "echo quick").await, "quick\n");
    drop(blocked);
}

async fn futures_of(node: &crate::node::Node, count: usize) -> Vec<runtime::Exec> {
    let mut running = Vec::new();
    for _ in 0..count {
        running.push(node.exec("p", "c", &["cat", "/dev/zero"]).await);
    }
    running
}

#[tokio::test]
async fn a_program_finds_its_home_and_its_path() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    for (id, uid, expected) in [("known", 7, "/var/seven"), ("unknown", 8, "/")] {
        let mut spec = node.script(id, "echo $HOME $PATH");
        fs::create_dir_all(spec.root.join("etc")).expect("a directory");
        fs::write(spec.root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nseven:x:7:7::/var/seven:\n").expect("writes");
        spec.user.uid = uid;
        spec.env.clear();
        let (_, log) = node.run("p", spec).await;
        assert_eq!(log, format!("stdout F {expected} /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"));
    }
}
