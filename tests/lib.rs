//! Real instances of Steadfast for end-to-end tests: the built binary, real kubectl, real containers.
//!
//! `cargo xtask test` builds what is needed and names it in the environment:
//! `STEADFAST_BINARY`, `STEADFAST_KUBECTL`, `STEADFAST_BUSYBOX_IMAGE`, `STEADFAST_REDIS_IMAGE`.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

mod balanced;
mod request;
mod running;
mod second_image;

pub use balanced::Balanced;
use request::Proxy;
pub use request::{Answer, Watch};
pub use running::{Lines, Running, limited};

/// How long anything may take before a test gives up: a hang, not a speed.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How many seconds one call of kubectl may take: longer than any of those that are told to wait for something.
const LONGEST_CALL: u64 = 400;

pub mod resp;
pub mod workload;

/// One running instance with its own data directory, ports and addresses. Everything it made is removed on drop.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    server: Option<Running>,
    number: Number,
    arguments: Vec<String>,
    /// Whose kubeconfig it is put into; its own if nobody's.
    home: Option<PathBuf>,
    proxy: OnceLock<Proxy>,
}

/// What sets an instance's ports and addresses apart from those of others on this machine.
#[derive(Debug)]
struct Number {
    number: u16,
    /// Locked for as long as the instance lives.
    _lock: File,
}

impl Number {
    /// One that no other test uses, of this process or another.
    fn take() -> Self {
        let folder = std::env::temp_dir().join("steadfast-test-numbers");
        std::fs::create_dir_all(&folder).expect("a folder for locks");
        let begin = std::process::id() as u16 % 200;
        for number in (begin..200).chain(0..begin) {
            let lock = File::options().write(true).create(true).truncate(false).open(folder.join(number.to_string())).expect("a lock");
            match lock.try_lock() {
                Ok(()) if std::net::TcpListener::bind(("127.0.0.1", 20_000 + number)).is_ok() => return Self { number, _lock: lock },
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => panic!("locking in {}: {error}", folder.display()),
            }
        }
        panic!("200 instances run already");
    }
}

impl Cluster {
    /// An instance with a real node. Needs root.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// An instance whose nodes only pretend to run pods. Needs no root.
    pub fn simulated(nodes: usize) -> Self {
        Self::start_with(&["--simulated-nodes", &nodes.to_string()])
    }

    /// An instance with further arguments of `steadfast up`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self::new(arguments, None)
    }

    /// An instance without real nodes that is put into the kubeconfig of the user with this home.
    pub fn of_user(home: &Path) -> Self {
        Self::new(vec!["--simulated-nodes".to_owned(), "1".to_owned()], Some(home.to_owned()))
    }

    /// An instance with a real node that has the image `busybox:1`; none where there is no root.
    pub fn with_busybox() -> Option<Self> {
        is_root().then(|| {
            let cluster = Self::start();
            cluster.load_busybox();
            cluster
        })
    }

    /// Applies a manifest with the set `web`, and waits until so many replicas of it are ready.
    pub fn running(self, manifest: &str, replicas: u64) -> Self {
        self.apply(manifest);
        self.ready("web", replicas);
        self
    }

    /// An instance that refuses to start with these arguments, and what it says.
    pub fn refused(arguments: &[&str]) -> (Self, String) {
        let cluster = Self::stopped(arguments.iter().map(|argument| (*argument).to_owned()).collect(), None);
        let output = limited(&cluster.up_command(), PATIENCE.as_secs()).stdin(Stdio::null()).output().expect("steadfast starts");
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        (cluster, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn new(arguments: Vec<String>, home: Option<PathBuf>) -> Self {
        let mut cluster = Self::stopped(arguments, home);
        cluster.up();
        cluster
    }

    fn stopped(arguments: Vec<String>, home: Option<PathBuf>) -> Self {
        let folder = tempfile::Builder::new().prefix("steadfast-test-").tempdir().expect("a temporary folder");
        Self { folder, server: None, number: Number::take(), arguments, home, proxy: OnceLock::new() }
    }

    fn up_command(&self) -> Command {
        let mut up = Command::new(binary());
        let (n, kubeconfig) = (self.number.number, self.kubeconfig());
        up.args(["up", "--listen", &format!("127.0.0.1:{}", 20000 + n), "--node-name", "node-a"]);
        up.args(["--pod-cidr", &format!("10.111.{n}.0/24")]);
        if !self.arguments.iter().any(|argument| argument == "--service-cidr") {
            up.args(["--service-cidr", &format!("10.112.{n}.0/24")]);
        }
        up.arg("--data-dir").arg(self.data_dir()).args(&self.arguments);
        match &self.home {
            None => up.arg("--kubeconfig").arg(kubeconfig),
            Some(home) => up.env("HOME", home).env_remove("KUBECONFIG"),
        };
        up
    }

    /// Starts the server, again after [`Cluster::kill`], and waits for its line. Returns the line.
    pub fn up(&mut self) -> String {
        let mut up = self.up_command();
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log file");
        up.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let line = self.server.insert(Running::start(up)).lines().next().unwrap_or_default();
        assert!(line.starts_with("ready in "), "steadfast up did not become ready: {line:?}\n{}", self.log());
        line
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        drop(self.server.take().expect("the server runs"));
    }

    /// Ends the server as its user would; returns whether it said that all was well.
    pub fn terminate(&mut self) -> bool {
        let mut server = self.server.take().expect("the server runs");
        let signalled = Command::new("kill").arg(server.0.id().to_string()).status().expect("kill runs");
        assert!(signalled.success());
        server.ends().success()
    }

    /// Where the API is served.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 20000 + self.number.number))
    }

    /// Further arguments of `steadfast up`, from its next start on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").0.id()
    }

    /// Where the instance keeps everything.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where names are asked for.
    pub fn name_server(&self) -> SocketAddr {
        SocketAddr::from(([10, 111, self.number.number as u8, 1], 53))
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A verb of the binary for this instance.
    pub fn steadfast(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--data-dir").arg(self.data_dir()).stdin(Stdio::null());
        command.output().expect("steadfast runs")
    }

    /// Loads the image with a shell, named `busybox:1`.
    pub fn load_busybox(&self) {
        self.load_image("STEADFAST_BUSYBOX_IMAGE", "busybox.tar");
    }

    /// Loads the image with Redis, named `redis:7`.
    pub fn load_redis(&self) {
        self.load_image("STEADFAST_REDIS_IMAGE", "redis.tar");
    }

    fn load_image(&self, variable: &str, name: &str) {
        self.load_archive(&archive(variable, name));
    }

    /// Loads `busybox:2`, which is `busybox:1` and a file `/second`.
    pub fn load_second_busybox(&self) {
        self.load_archive(&second_image::make(&self.folder.path().join("busybox-2")));
    }

    fn load_archive(&self, archive: &Path) {
        let output = self.steadfast(&["image", "load", &archive.to_string_lossy()]);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// kubectl as a command, to be given more.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.with_kubectl(&kubectl_program(), arguments)
    }

    /// Another kubectl as a command, to be given more.
    pub fn with_kubectl(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments).stdin(Stdio::null());
        command.env("HOME", self.folder.path());
        command
    }

    /// kubectl that ends in time.
    fn limited(&self, arguments: &[&str]) -> Command {
        let mut command = limited(&self.kubectl_command(arguments), LONGEST_CALL);
        command.stdin(Stdio::null());
        command
    }

    /// Runs kubectl, which must succeed; returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.limited(arguments).output().expect("kubectl runs");
        assert!(output.status.success(), "kubectl {arguments:?}\n{}\n{}", said(&output), self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs kubectl, which must fail; returns its error.
    pub fn kubectl_fails(&self, arguments: &[&str]) -> String {
        let output = self.limited(arguments).output().expect("kubectl runs");
        assert!(!output.status.success(), "kubectl {arguments:?} succeeded\n{}", said(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs kubectl with a text on standard input.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.limited(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("kubectl reads");
        child.wait_with_output().expect("kubectl ends")
    }

    /// Applies a manifest, which must succeed.
    pub fn apply(&self, manifest: &str) -> String {
        let output = self.kubectl_with_input(&["apply", "--filename", "-"], manifest);
        assert!(output.status.success(), "{}\n{}", said(&output), self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// One object, or a list, as JSON.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "--output", "json"], arguments].concat());
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// A request to the API server as it is, with the administrator's credentials.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.proxy().ask(method, path, headers, body)
    }

    /// A request with a JSON body, or none if it is null, which must succeed; returns the answer. A patch is a merge patch.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_call(method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {}\n{}", answer.status, answer.text());
        answer.json()
    }

    /// As [`Cluster::call`], but it may fail.
    pub fn try_call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, path, &[("content-type", content_type)], body.as_bytes())
    }

    /// Watches; the path names what, and from where on.
    pub fn watch(&self, path: &str) -> Watch {
        self.proxy().watch(path)
    }

    /// A connection to the API server, with the administrator's credentials, for requests written by hand.
    pub fn connect(&self) -> TcpStream {
        self.proxy().connect()
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.get_or_init(|| Proxy::start(self.kubectl_command(&["proxy"])))
    }

    /// Runs a shell command in a pod, which must succeed; returns what it prints, trimmed.
    pub fn shell(&self, pod: &str, script: &str) -> String {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script]).trim().to_owned()
    }

    /// Waits until all replicas of a set are updated and ready.
    pub fn rolled_out(&self, set: &str) {
        self.kubectl(&["rollout", "status", &format!("statefulset/{set}"), "--timeout=90s"]);
    }

    /// Waits until so many replicas of a set are ready and no other pods of it are left.
    pub fn ready(&self, set: &str, replicas: u64) {
        self.until(&format!("{set} has {replicas} ready replicas"), || {
            let status = self.get(&["statefulset", set])["status"].clone();
            status["readyReplicas"].as_u64().unwrap_or(0) == replicas && status["replicas"].as_u64().unwrap_or(0) == replicas
        });
    }

    /// Waits until a condition holds; fails with the cluster's state when it never does.
    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        if !comes_true(holds) {
            let state = self.limited(&["get", "all,pvc,events", "--all-namespaces", "--output", "wide"]).output();
            panic!("not within {PATIENCE:?}: {what}\n{}\n{}", state.map(|output| said(&output)).unwrap_or_default(), self.log());
        }
    }
}

/// Waits until a condition holds.
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(comes_true(holds), "not within {PATIENCE:?}: {what}");
}

/// Whether a condition holds before the tests' patience ends.
pub fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.proxy.take();
        self.server.take();
        let output = self.steadfast(&["down", "--purge"]);
        if !output.status.success() && !std::thread::panicking() {
            panic!("steadfast down --purge: {}", said(&output));
        }
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("STEADFAST_BINARY").map_or_else(|| target().join("debug/steadfast"), PathBuf::from)
}

/// The kubectl that all tests use.
pub fn kubectl_program() -> PathBuf {
    std::env::var_os("STEADFAST_KUBECTL").map_or_else(|| "kubectl".into(), PathBuf::from)
}

/// A client that `cargo xtask test` installs below `target/tools`.
pub fn tool(name: &str) -> PathBuf {
    let tool = target().join("tools").join(name);
    assert!(tool.exists(), "{} is missing: run `cargo xtask test`, which installs it", tool.display());
    tool
}

/// An archive that `cargo xtask test` makes.
fn archive(variable: &str, name: &str) -> PathBuf {
    let archive = std::env::var_os(variable).map_or_else(|| target().join("images").join(name), PathBuf::from);
    assert!(archive.is_file(), "{} is missing: run `cargo xtask test`, which makes it", archive.display());
    archive
}

/// The folder that Cargo builds into: the test itself is `target/debug/deps/<test>`.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own file");
    test.ancestors().nth(3).expect("a target folder").to_path_buf()
}

/// Whether containers can be started; says so where not.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !root {
        eprintln!("skipped: starting containers needs root");
    }
    root
}

/// What a program printed, for a failure's message.
pub fn said(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
