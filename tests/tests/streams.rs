//! Connections into pods: commands, terminals, ports, copies; over WebSocket and over SPDY.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use end_to_end::{Cluster, is_root, said};

/// How kubectl reaches into pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    WebSocket,
    Spdy,
}

const WAYS: [Way; 2] = [Way::WebSocket, Way::Spdy];

/// kubectl that goes one way only.
fn kubectl(cluster: &Cluster, way: Way, arguments: &[&str]) -> Command {
    let mut command = cluster.kubectl_command(arguments);
    let websockets = if way == Way::WebSocket { "true" } else { "false" };
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets).env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
    command
}

fn run(cluster: &Cluster, way: Way, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = kubectl(cluster, way, arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs");
    // It may end before it has read all.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("kubectl ends")
}

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Forwards a port of a pod; returns the local one.
fn forward(cluster: &Cluster, way: Way, pod: &str, port: u16) -> (Running, u16) {
    let mut command = kubectl(cluster, way, &["port-forward", pod, &format!(":{port}")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs");
    let mut line = String::new();
    // What else it says is taken too: it ends when it can't say it.
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    output.read_line(&mut line).expect("a line");
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    let child = Running(child);
    let local = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    (child, local.unwrap_or_else(|| panic!("{way:?}: {line:?}")))
}

fn ask(port: u16, request: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    connection.write_all(request).expect("writes");
    connection.shutdown(Shutdown::Write).expect("says all");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).expect("reads");
    answer
}

/// A cluster with a pod `tools` that serves files on its loopback, and echoes what it is sent on port 7000.
fn with_tools() -> Cluster {
    let cluster = Cluster::start();
    cluster.load_busybox();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: tools}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: busybox:1
      command: [sh, -c, "mkdir /www; head -c 3000000 /dev/urandom > /www/noise; busybox httpd -p 127.0.0.1:8080 -h /www; exec nc -ll -p 7000 -e cat"]
      readinessProbe: {exec: {command: [wget, -q, -O, /dev/null, "http://127.0.0.1:8080/noise"]}, periodSeconds: 1}
"#,
    );
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/tools", "--timeout=90s"]);
    cluster
}

#[test]
fn ports_of_a_pod_are_reached_also_those_on_its_loopback() {
    if !is_root() {
        return;
    }
    let cluster = with_tools();
    let digest = cluster.shell("tools", "sha256sum /www/noise | cut -d' ' -f1");
    for way in WAYS {
        let (_kubectl, port) = forward(&cluster, way, "tools", 8080);
        // Several connections at once over one.
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(move || ask(port, b"GET /noise HTTP/1.0\r\n\r\n"))).collect();
        for thread in threads {
            let answer = thread.join().expect("answered");
            let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| &answer[at + 4..]).expect("a head");
            assert_eq!(sha256(body), digest, "{way:?}");
        }
        let (_kubectl, port) = forward(&cluster, way, "tools", 7000);
        let much = vec![b'x'; 1 << 20];
        assert!(ask(port, &much) == much, "{way:?}: not what was sent came back");
    }
}

#[test]
fn a_port_where_nobody_listens_is_told() {
    if !is_root() {
        return;
    }
    let cluster = with_tools();
    for way in WAYS {
        let (mut kubectl, port) = forward(&cluster, way, "tools", 9);
        assert_eq!(ask(port, b"anyone?"), b"");
        // The client gives up with the first failure.
        let mut told = String::new();
        kubectl.0.stderr.take().expect("piped").read_to_string(&mut told).expect("reads");
        assert!(
            told.contains("error forwarding port 9 to pod tools: connecting to 127.0.0.1:9 in the pod: Connection refused"),
            "{way:?}: {told}"
        );
    }
}

fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum runs");
    child.stdin.take().expect("piped").write_all(bytes).expect("writes");
    let output = child.wait_with_output().expect("ends");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn commands_run_the_same_over_both_protocols() {
    if !is_root() {
        return;
    }
    let cluster = with_tools();
    for way in WAYS {
        let exec = |arguments: &[&str], input: &[u8]| run(&cluster, way, &[&["exec", "-i", "tools", "--"], arguments].concat(), input);
        let both = exec(&["sh", "-c", "echo out; echo err >&2; exit 42"], b"");
        assert_eq!((both.status.code(), both.stdout.as_slice()), (Some(42), &b"out\n"[..]), "{way:?}: {}", said(&both));
        assert!(String::from_utf8_lossy(&both.stderr).starts_with("err\n"), "{way:?}: {}", said(&both));
        // The end of input reaches the command, and all of its output comes back.
        let much = vec![b'y'; 5_000_000];
        assert!(exec(&["cat"], &much).stdout == much, "{way:?}: not what was sent came back");
        assert_eq!(exec(&["wc", "-c"], &much).stdout, b"5000000\n", "{way:?}");
        let missing = exec(&["no-such-command"], b"");
        assert!(String::from_utf8_lossy(&missing.stderr).contains("executable file not found"), "{way:?}: {}", said(&missing));
    }
}
