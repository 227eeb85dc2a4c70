//! Clients of containers' streams, and containers that see others' processes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use runtime::{ContainerSpec, RuntimeError, RuntimeEvent};

use crate::node::{Node, node, read_all};

/// What a client reads next, as much as is expected.
async fn hear(stream: &OwnedFd, expected: &str) {
    let (mut file, length) = (File::from(stream.try_clone().expect("a copy")), expected.len());
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; length];
        file.read_exact(&mut buffer).map(|()| buffer)
    });
    assert_eq!(String::from_utf8_lossy(&read.await.expect("reads").expect("enough")), expected);
}

fn say(stream: &OwnedFd, text: &str) {
    File::from(stream.try_clone().expect("a copy")).write_all(text.as_bytes()).expect("writes");
}

/// A container that echoes each line until its input ends.
fn echo(node: &Node, once: bool) -> ContainerSpec {
    let script = "while read line; do echo got $line; done; echo over >&2";
    ContainerSpec { stdin: true, stdin_once: once, ..node.script("c", script) }
}

#[tokio::test]
async fn all_who_are_attached_hear_the_same_until_the_container_ends() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    node.start("p", echo(&node, false)).await;
    let first = node.runtime.attach("p", "c", true).await.expect("attaches");
    let second = node.runtime.attach("p", "c", true).await.expect("attaches");
    say(first.stdin.as_ref().expect("an input"), "one\n");
    hear(&first.stdout, "got one\n").await;
    hear(&second.stdout, "got one\n").await;
    // Who leaves takes nothing with them.
    drop(first);
    say(second.stdin.as_ref().expect("an input"), "two\n");
    hear(&second.stdout, "got two\n").await;
    node.runtime.close_stdin("p", "c").await.expect("closes");
    drop(second.stdin);
    assert_eq!(read_all(second.stdout).await, "");
    assert_eq!(read_all(second.stderr.expect("a stream")).await, "over\n");
    assert_eq!(node.exit_of("c").await.code, 0);
    let log = std::fs::read_to_string(node.place.join("logs/c.log")).expect("a log");
    assert_eq!(log.matches("got ").count(), 2, "{log}");
    assert!(matches!(node.runtime.attach("p", "c", true).await, Err(RuntimeError::NotRunning(_))));
}

#[tokio::test]
async fn input_that_is_given_once_ends_with_who_gave_it() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    node.start("p", echo(&node, true)).await;
    let listener = node.runtime.attach("p", "c", false).await.expect("attaches");
    assert!(listener.stdin.is_none());
    let giver = node.runtime.attach("p", "c", true).await.expect("attaches");
    say(giver.stdin.as_ref().expect("an input"), "one\n");
    hear(&listener.stdout, "got one\n").await;
    drop(listener);
    say(giver.stdin.as_ref().expect("an input"), "two\n");
    hear(&giver.stdout, "got one\ngot two\n").await;
    drop(giver);
    assert_eq!(node.exit_of("c").await.code, 0);
}

#[tokio::test]
async fn who_reads_late_loses_nothing_and_gets_the_rest_after_the_end() {
    const MUCH: usize = 1_000_000;
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    let script = format!("read line; head -c {MUCH} /dev/zero");
    node.start("p", ContainerSpec { stdin: true, ..node.script("c", &script) }).await;
    let late = node.runtime.attach("p", "c", true).await.expect("attaches");
    let other = node.runtime.attach("p", "c", false).await.expect("attaches");
    say(late.stdin.as_ref().expect("an input"), "\n");
    // More than fits anywhere: the container is held until both read.
    let reading = tokio::spawn(read_all(other.stdout));
    hear(&late.stdout, "\0").await;
    assert_eq!(read_all(late.stdout).await.len(), MUCH - 1);
    assert_eq!(reading.await.expect("reads").len(), MUCH);
    assert_eq!(node.exit_of("c").await.code, 0);
}

#[tokio::test]
async fn a_terminal_is_shared_and_stays_when_its_user_leaves() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    node.start("p", ContainerSpec { terminal: true, ..echo(&node, true) }).await;
    let first = node.runtime.attach("p", "c", true).await.expect("attaches");
    assert!(first.stderr.is_none());
    say(first.stdin.as_ref().expect("a terminal"), "one\n");
    hear(&first.stdout, "one\r\ngot one\r\n").await;
    drop(first);
    let second = node.runtime.attach("p", "c", true).await.expect("attaches");
    say(second.stdin.as_ref().expect("a terminal"), "two\n");
    hear(&second.stdout, "two\r\ngot two\r\n").await;
    // The end of input, as it is typed.
    say(second.stdin.as_ref().expect("a terminal"), "\u{4}");
    assert_eq!(node.exit_of("c").await.code, 0);
}

#[tokio::test]
async fn a_container_may_be_among_the_processes_of_another_and_ends_with_them() {
    let Some(mut node) = node().await else { return };
    node.pod("p").await;
    node.start("p", node.command("c", &["sleep", "4321"])).await;
    node.start("p", ContainerSpec { process_namespace_of: Some("c".to_owned()), ..node.command("d", &["sleep", "1000"]) }).await;
    assert_eq!(node.ask("p", "d", "cat /proc/1/cmdline").await.replace('\0', " "), "sleep 4321 ");
    node.runtime.signal("p", "c", 9).await.expect("signals");
    // Each is told; which first is not said.
    let mut ended = Vec::new();
    while ended.len() < 2 {
        match node.event().await {
            RuntimeEvent::Exited { container, .. } => ended.push(container),
            lost => panic!("{lost:?}"),
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, ["c", "d"]);
    let gone = ContainerSpec { process_namespace_of: Some("c".to_owned()), ..node.command("e", &["sleep", "1000"]) };
    assert!(matches!(node.runtime.start_container("p", gone).await, Err(RuntimeError::NotRunning(_))));
}
