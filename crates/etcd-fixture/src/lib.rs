//! Real etcd clusters for tests: the distribution's program, on ports of this machine's own network, ended with the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a member may take to serve: a hang, not a speed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Larger than the largest document, and what goes with it.
const MAX_REQUEST_BYTES: &str = "4194304";
/// Ports that were free a moment ago may be taken by another test.
const TRIES: usize = 5;

/// A cluster. Its members end, and its data goes, when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    members: Vec<Member>,
    /// Further arguments of all members.
    arguments: Vec<String>,
    encrypted: bool,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    process: Option<Child>,
}

impl Cluster {
    /// A cluster of so many members that serves.
    pub fn start(members: usize) -> Self {
        Self::start_with(members, &[], false)
    }

    /// A cluster whose members get further arguments; `encrypted` says that those make them serve TLS.
    pub fn start_with(members: usize, arguments: &[&str], encrypted: bool) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        (0..TRIES)
            .find_map(|_| Self::try_start(members, &arguments, encrypted))
            .expect("etcd starts: is the package etcd-server installed?")
    }

    fn try_start(members: usize, arguments: &[String], encrypted: bool) -> Option<Self> {
        // What is tested is not the disk.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("etcd-").tempdir_in(place).expect("a temporary folder");
        let mut ports = free_ports(2 * members).into_iter();
        let mut member = || Member { client: ports.next().unwrap_or_default(), peer: ports.next().unwrap_or_default(), process: None };
        let members = (0..members).map(|_| member()).collect::<Vec<_>>();
        let mut cluster = Self { folder, members, arguments: arguments.to_vec(), encrypted };
        (0..cluster.members.len()).for_each(|number| cluster.spawn(number));
        (0..cluster.members.len()).all(|number| cluster.serves(number)).then_some(cluster)
    }

    fn spawn(&mut self, number: usize) {
        let scheme = if self.encrypted { "https" } else { "http" };
        let peer = |member: &Member| format!("http://127.0.0.1:{}", member.peer);
        let all: Vec<_> = self.members.iter().enumerate().map(|(number, member)| format!("member-{number}={}", peer(member))).collect();
        let member = &self.members[number];
        let (client, peer) = (format!("{scheme}://127.0.0.1:{}", member.client), peer(member));
        let log = std::fs::File::options().create(true).append(true).open(self.log(number)).expect("a log file");
        let mut etcd = Command::new("etcd");
        etcd.args(["--name", &format!("member-{number}")]).arg("--data-dir").arg(self.folder.path().join(number.to_string()));
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
        etcd.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &all.join(",")]);
        etcd.args(["--max-request-bytes", MAX_REQUEST_BYTES, "--log-level", "warn"]);
        if self.members.len() == 1 {
            // Nobody has to be waited for.
            etcd.args(["--heartbeat-interval", "20", "--election-timeout", "100"]);
        }
        etcd.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.members[number].process = etcd.spawn().ok();
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("log-{number}"))
    }

    /// Waits until a member serves. False when it ended instead.
    fn serves(&mut self, number: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let member = &mut self.members[number];
            let runs = member.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)));
            if !runs || Instant::now() > deadline {
                return false;
            }
            if is_healthy(member.client, self.encrypted) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `HOST:PORT` of each member, separated by commas.
    pub fn endpoints(&self) -> String {
        let endpoints: Vec<_> = self.members.iter().map(|member| format!("127.0.0.1:{}", member.client)).collect();
        endpoints.join(",")
    }

    /// The store below a prefix, as Steadfast is told of it.
    pub fn address(&self, prefix: &str) -> String {
        format!("etcd://{}/{prefix}", self.endpoints())
    }

    /// Kills a member as a power cut would.
    pub fn kill(&mut self, number: usize) {
        let mut process = self.members[number].process.take().expect("the member runs");
        process.kill().expect("SIGKILL");
        process.wait().expect("the member ends");
    }

    /// Has a member stand still: its connections stay, and it says nothing. Killing ends it as well.
    pub fn freeze(&self, number: usize) {
        let process = self.members[number].process.as_ref().expect("the member runs").id();
        let stopped = Command::new("kill").args(["-STOP", &process.to_string()]).status().expect("kill runs");
        assert!(stopped.success());
    }

    /// Takes away all that a member that was killed had on disk.
    pub fn lose_data(&mut self, number: usize) {
        std::fs::remove_dir_all(self.folder.path().join(number.to_string())).expect("it has data");
    }

    /// Starts a member that was killed, with the data it has. While it was down, somebody may have been given one of its ports for a moment.
    pub fn restart(&mut self, number: usize) {
        let started = (0..TRIES).any(|tried| {
            std::thread::sleep(Duration::from_millis(500) * u32::from(tried > 0));
            self.spawn(number);
            let serves = self.serves(number);
            if !serves {
                self.end(number);
            }
            serves
        });
        assert!(started, "{}", std::fs::read_to_string(self.log(number)).unwrap_or_default());
    }

    /// Ends a member, if it runs.
    fn end(&mut self, number: usize) {
        if let Some(mut process) = self.members[number].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|number| self.end(number));
    }
}

/// Ports that nobody listens on.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

/// Whether a member says that it is well; of one that speaks TLS, whether it accepts connections.
fn is_healthy(port: u16, encrypted: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    if encrypted {
        return true;
    }
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut answer));
    asked.is_ok() && answer.contains("\"true\"")
}
