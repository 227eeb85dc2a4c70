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

/// A WebSocket by hand, as libraries in other languages use it for ports.
struct Socket {
    _proxy: Running,
    connection: TcpStream,
}

impl Socket {
    fn open(cluster: &Cluster, path: &str) -> Self {
        let mut proxy = Running(cluster.kubectl_command(&["proxy", "--port=0"]).stdout(Stdio::piped()).spawn().expect("kubectl runs"));
        let mut line = String::new();
        BufReader::new(proxy.0.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
        let mut connection = TcpStream::connect(&address).expect("connects");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).expect("asks");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-protocol: v4.channel.k8s.io"), "{head}");
        Self { _proxy: proxy, connection }
    }

    /// Sends a short message.
    fn say(&mut self, message: &[u8]) {
        // A mask of zeros changes nothing.
        let head = [0x82, 0x80 | message.len() as u8, 0, 0, 0, 0];
        self.connection.write_all(&[&head, message].concat()).expect("sends");
    }

    /// The next message.
    fn hear(&mut self) -> Vec<u8> {
        let mut read = |length: usize| {
            let mut bytes = vec![0; length];
            self.connection.read_exact(&mut bytes).expect("a message");
            bytes
        };
        let head = read(2);
        assert!(head[0] == 0x82 && head[1] < 127, "{head:?}");
        // Longer ones have their length behind the head.
        let long = if head[1] == 126 { read(2).into_iter().fold(0, |length, byte| length << 8 | usize::from(byte)) } else { 0 };
        read(long.max(usize::from(head[1]) % 126))
    }
}

#[test]
fn ports_are_forwarded_through_channels_too() {
    if !is_root() {
        return;
    }
    let cluster = with_tools();
    let mut socket = Socket::open(&cluster, "/api/v1/namespaces/default/pods/tools/portforward?ports=7000,9");
    // Each channel begins with its port; the second port's has an error to tell, too.
    let mut heard: Vec<Vec<u8>> = (0..5).map(|_| socket.hear()).collect();
    heard.sort_unstable();
    let error = heard.pop().expect("five");
    let port = |channel: u8, port: u16| [&[channel][..], &port.to_le_bytes()].concat();
    assert_eq!(heard, [port(0, 7000), port(1, 7000), port(2, 9), port(3, 9)]);
    assert!(error[0] == 3 && String::from_utf8_lossy(&error).contains("error forwarding port 9"), "{error:?}");
    socket.say(b"\0echo this");
    assert_eq!(socket.hear(), b"\0echo this");
    // The port ends the connection; so ends all, and a client that does not answer is not waited for.
    let mut socket = Socket::open(&cluster, "/api/v1/namespaces/default/pods/tools/portforward?ports=8080");
    socket.say(b"\0GET /absent HTTP/1.0\r\n\r\n");
    let mut heard = Vec::new();
    socket.connection.read_to_end(&mut heard).expect("the server closes");
    assert!(heard.windows(3).any(|window| window == b"404") && heard.ends_with(&[0x88, 2, 3, 232]), "{heard:?}");
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

/// kubectl in a terminal of 33 rows and 77 columns; what is on the screen in the end.
fn in_terminal(cluster: &Cluster, way: Way, arguments: &[&str], input: &str) -> String {
    let command = kubectl(cluster, way, arguments);
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|word| quoted(&word.to_string_lossy())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-e", "-c", &format!("stty rows 33 cols 77; {}; echo status $?", words.join(" ")), "/dev/null"]);
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("writes");
    String::from_utf8_lossy(&child.wait_with_output().expect("ends").stdout).into_owned()
}

fn quoted(word: &str) -> String {
    format!("'{word}'")
}

#[test]
fn a_pod_is_run_and_talked_to_and_gone() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::start();
    cluster.load_busybox();
    for way in WAYS {
        let run_once = ["run", "once", "--rm", "--restart=Never", "--image=busybox:1", "--quiet"];
        // The end of input is the end of the container's.
        let piped = run(&cluster, way, &[&run_once[..], &["-i", "--", "sh", "-c", "cat; echo that was all"]].concat(), b"to be echoed\n");
        assert_eq!(String::from_utf8_lossy(&piped.stdout), "to be echoed\nthat was all\n", "{way:?}: {}", said(&piped));
        // kubectl tells a size that is one larger first, so that there is a change to be seen.
        let resized = "for i in $(seq 100); do [ \"$(stty size)\" = '33 77' ] && break; sleep 0.1; done; stty size";
        let talk = format!("echo $((6*7)); {resized}; exit 5\n");
        let screen = in_terminal(&cluster, way, &[&run_once[..], &["-it", "--", "sh"]].concat(), &talk);
        for wanted in ["42\r\n", "33 77\r\n", "status 5"] {
            assert!(screen.contains(wanted), "{way:?}: {wanted:?} is not in {screen:?}");
        }
        let screen = in_terminal(&cluster, way, &[&run_once[..], &["-it", "--", "true"]].concat(), "");
        assert!(screen.contains("status 0"), "{way:?}: {screen:?}");
        assert!(cluster.kubectl_fails(&["get", "pod", "once"]).contains("NotFound"));
    }
}

/// Joins a container's first process.
fn attach(cluster: &Cluster, way: Way, pod: &str) -> Running {
    let mut command = kubectl(cluster, way, &["attach", "-i", pod]);
    Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("kubectl runs"))
}

impl Running {
    fn say(&mut self, line: &str) {
        let stdin = self.0.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("says");
    }

    /// Reads until a line.
    fn hears(&mut self, wanted: &str) {
        let mut lines = BufReader::new(self.0.stdout.as_mut().expect("piped")).lines();
        assert!(lines.any(|line| line.expect("text") == wanted), "{wanted:?} was not heard");
    }
}

#[test]
fn all_who_are_attached_hear_and_a_killed_server_ends_no_input() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.load_busybox();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: main, image: "busybox:1", stdin: true, command: [sh, -c, "while read line; do echo got $line; done; echo over"]}
"#,
    );
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/echo", "--timeout=90s"]);
    for way in WAYS {
        let (mut first, mut second) = (attach(&cluster, way, "echo"), attach(&cluster, Way::WebSocket, "echo"));
        // Both are there when what one says is answered to both.
        first.say("one");
        first.hears("got one");
        second.say("two");
        second.hears("got two");
        first.hears("got two");
    }
    let mut before = attach(&cluster, Way::WebSocket, "echo");
    before.say("three");
    before.hears("got three");
    cluster.kill();
    cluster.up();
    let mut after = attach(&cluster, Way::WebSocket, "echo");
    after.say("four");
    after.hears("got four");
    let logs = cluster.kubectl(&["logs", "echo"]);
    assert_eq!(logs.lines().filter(|line| line.starts_with("got")).count(), 6, "{logs}");
    assert!(!logs.contains("over"), "{logs}");
    assert_eq!(cluster.get(&["pod", "echo"])["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn a_container_is_added_to_look_into_a_pod() {
    if !is_root() {
        return;
    }
    let cluster = with_tools();
    let screen = in_terminal(
        &cluster,
        Way::WebSocket,
        &["debug", "-it", "tools", "--image=busybox:1", "--target=main", "--container=look", "--", "sh"],
        "ps; ls /proc/1/root/www; wget -q -O - 127.0.0.1:8080/noise | wc -c; exit 3\n",
    );
    // The target's processes, its files, and the pod's network.
    for wanted in ["nc -ll -p 7000", "noise\r\n", "3000000\r\n"] {
        assert!(screen.contains(wanted), "{wanted:?} is not in {screen:?}");
    }
    cluster.until("its end is recorded", || {
        let pod = cluster.get(&["pod", "tools"]);
        let status = &pod["status"]["ephemeralContainerStatuses"][0];
        status["name"] == "look" && status["state"]["terminated"]["exitCode"] == 3 && status["restartCount"] == 0
    });
    let pod = cluster.get(&["pod", "tools"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(
        pod["status"]["conditions"].as_array().expect("conditions").iter().filter(|each| each["status"] == "False").count(),
        0,
        "{pod:#}"
    );
    assert!(cluster.kubectl(&["logs", "tools", "-c", "look"]).contains("3000000"));
    // It stays; usual changes of the pod go on.
    cluster.kubectl(&["label", "pod", "tools", "looked=at"]);
    let path = "/api/v1/namespaces/default/pods/tools/ephemeralcontainers";
    let refused = cluster.try_call("PATCH", path, &serde_json::json!({ "spec": { "ephemeralContainers": [] } }));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("existing ephemeral containers \\\"look\\\" may not be removed"), "{}", refused.text());
    cluster.kubectl(&["debug", "tools", "--image=busybox:1", "--copy-to=copy", "--container=beside", "--", "sleep", "100000"]);
    cluster.until("the copy runs both", || {
        let statuses = cluster.get(&["pod", "copy"])["status"]["containerStatuses"].clone();
        statuses.as_array().is_some_and(|all| all.len() == 2 && all.iter().all(|each| each["ready"] == true))
    });
}

#[test]
fn files_are_copied_both_ways_and_the_server_holds_none_of_them() {
    if !is_root() {
        return;
    }
    let cluster = with_tools();
    let (there, back) = (cluster.folder().join("there"), cluster.folder().join("back"));
    std::fs::create_dir(&there).expect("a folder");
    std::fs::write(there.join("small"), "content").expect("a file");
    let noise = Command::new("head")
        .args(["-c", "100000000", "/dev/urandom"])
        .stdout(std::fs::File::create(there.join("noise")).expect("a file"))
        .status();
    assert!(noise.expect("head runs").success());
    for way in WAYS {
        let copy = |from: &str, to: &str| {
            let output = run(&cluster, way, &["cp", from, to], b"");
            assert!(output.status.success(), "{way:?}: {}", said(&output));
        };
        begin_peak(cluster.pid());
        let before = memory(cluster.pid(), "VmRSS");
        copy(&there.to_string_lossy(), "tools:/tmp/there");
        copy("tools:/tmp/there", &back.to_string_lossy());
        let peak = memory(cluster.pid(), "VmHWM");
        assert!(peak < before + (32 << 10), "{way:?}: {before} KiB became {peak} KiB");
        let same = Command::new("diff").arg("-r").args([&there, &back]).status().expect("diff runs");
        assert!(same.success(), "{way:?}: not what was copied came back");
        std::fs::remove_dir_all(&back).expect("removes");
        cluster.shell("tools", "rm -r /tmp/there");
    }
}

/// From now on the peak of a process's memory is counted anew.
fn begin_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("writes");
}

/// A line of a process's status, in KiB.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("reads");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn what_does_not_run_can_not_be_entered_and_says_so() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::start();
    cluster.load_busybox();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  containers:
    - {name: main, image: "busybox:1", command: [sleep, "100000"], volumeMounts: [{name: absent, mountPath: /absent}]}
  volumes: [{name: absent, configMap: {name: absent}}]
---
apiVersion: v1
kind: Pod
metadata: {name: nowhere}
spec:
  nodeSelector: {no: where}
  containers: [{name: main, image: "busybox:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: leaves}
spec:
  terminationGracePeriodSeconds: 600
  containers:
    - {name: ends, image: "busybox:1", command: [sh, -c, "trap exit TERM; echo up; while :; do sleep 0.1; done"]}
    - {name: stays, image: "busybox:1", command: [sh, -c, "trap '' TERM; echo up; while :; do sleep 0.1; done"]}
"#,
    );
    cluster.until("it is assigned", || cluster.get(&["pod", "waits"])["spec"]["nodeName"] == "node-a");
    let log = |container| cluster.kubectl_command(&["logs", "leaves", "-c", container]).output().expect("kubectl runs").stdout;
    cluster.until("both have set their traps", || log("ends") == b"up\n" && log("stays") == b"up\n");
    cluster.kubectl(&["delete", "pod", "leaves", "--wait=false"]);
    let is_over = |status: &serde_json::Value| status["name"] == "ends" && !status["state"]["terminated"].is_null();
    let statuses = || cluster.get(&["pod", "leaves"])["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    cluster.until("one of its containers has ended", || statuses().iter().any(is_over));
    for way in WAYS {
        let fails = |arguments: &[&str]| {
            let output = run(&cluster, way, arguments, b"");
            assert!(!output.status.success(), "{way:?}: {}", said(&output));
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        assert!(fails(&["exec", "waits", "--", "true"]).contains("unable to upgrade connection: container not found (\"main\")"));
        assert!(fails(&["exec", "nowhere", "--", "true"]).contains("pod nowhere does not have a host assigned"));
        assert!(fails(&["exec", "waits", "-c", "other", "--", "true"]).contains("container other is not valid for pod waits"));
        let ended = fails(&["exec", "leaves", "-c", "ends", "--", "true"]);
        assert!(ended.contains("unable to upgrade connection: container not found (\"ends\")"), "{ended}");
        let there = run(&cluster, way, &["exec", "leaves", "-c", "stays", "--", "echo", "there"], b"");
        assert_eq!(there.stdout, b"there\n", "{way:?}: {}", said(&there));
    }
}
