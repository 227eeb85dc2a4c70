//! Real etcd clusters for tests: the distribution's program, on ports of this machine's own network, ended with the test.

use std::fs::{File, TryLockError};
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
/// The first port for members. They are below those that the kernel gives to whoever asks for any.
const FIRST_PORT: u16 = 24_000;
/// What one cluster may need: two for each member.
const PORTS: u16 = 10;
/// So many clusters can be there at one time.
const CLUSTERS: u16 = 500;

/// A cluster. Its members end, and its data goes, when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    members: Vec<Member>,
    /// Further arguments of all members.
    arguments: Vec<String>,
    encrypted: bool,
    _ports: Ports,
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
        // What is tested is not the disk.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("etcd-").tempdir_in(place).expect("a temporary folder");
        let ports = Ports::take();
        let mut free = ports.first..ports.first + PORTS;
        let mut port = || free.next().expect("a cluster has five members at most");
        let members = (0..members).map(|_| Member { client: port(), peer: port(), process: None }).collect();
        let mut cluster = Self { folder, members, arguments, encrypted, _ports: ports };
        (0..cluster.members.len()).for_each(|number| cluster.spawn(number));
        (0..cluster.members.len()).for_each(|number| cluster.wait_for(number));
        cluster
    }

    fn spawn(&mut self, number: usize) {
        let scheme = if self.encrypted { "https" } else { "http" };
        let peer = |member: &Member| format!("http://127.0.0.1:{}", member.peer);
        let all: Vec<_> = self.members.iter().enumerate().map(|(number, member)| format!("member-{number}={}", peer(member))).collect();
        let member = &self.members[number];
        let (client, peer) = (format!("{scheme}://127.0.0.1:{}", member.client), peer(member));
        let log = File::options().create(true).append(true).open(self.log(number)).expect("a log file");
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
        self.members[number].process = Some(etcd.spawn().expect("etcd starts: is the package etcd-server installed?"));
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("log-{number}"))
    }

    /// Waits until a member serves.
    fn wait_for(&mut self, number: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let member = &mut self.members[number];
            let ended = member.process.as_mut().map(Child::try_wait);
            if is_healthy(member.client, self.encrypted) {
                return;
            }
            let goes_on = matches!(ended, Some(Ok(None))) && Instant::now() < deadline;
            assert!(goes_on, "member {number} {ended:?}: {}", std::fs::read_to_string(self.log(number)).unwrap_or_default());
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

    /// Starts a member that was killed, with the data it has.
    pub fn restart(&mut self, number: usize) {
        self.spawn(number);
        self.wait_for(number);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.members.iter_mut().filter_map(|member| member.process.as_mut()) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Ports that no other cluster has, of this process or another, for as long as it lives: those of a member that is down included.
#[derive(Debug)]
struct Ports {
    first: u16,
    _lock: File,
}

impl Ports {
    fn take() -> Self {
        let folder = std::env::temp_dir().join("etcd-fixture-ports");
        std::fs::create_dir_all(&folder).expect("a folder for locks");
        let begin = (std::process::id() % u32::from(CLUSTERS)) as u16;
        for number in (begin..CLUSTERS).chain(0..begin) {
            let lock = File::options().write(true).create(true).truncate(false).open(folder.join(number.to_string())).expect("a lock");
            let first = FIRST_PORT + number * PORTS;
            match lock.try_lock() {
                Ok(()) if (first..first + PORTS).all(is_free) => return Self { first, _lock: lock },
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => panic!("locking in {}: {error}", folder.display()),
            }
        }
        panic!("{CLUSTERS} clusters run already");
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
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
