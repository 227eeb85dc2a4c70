//! A node of its own for each test: directory, control groups, runtime.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::{
    ContainerSpec, Exec, ExecSpec, Exit, Opened, Resources, Runtime, RuntimeConfig, RuntimeEvent, Sandbox, SandboxSpec, Seccomp, Security,
    User,
};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

/// Far longer than anything takes: only a hanging test meets it.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Node {
    pub runtime: Runtime,
    pub found: Vec<Sandbox>,
    pub events: UnboundedReceiver<RuntimeEvent>,
    pub place: PathBuf,
    /// Kept for its removal; a node that is opened where another was has none.
    _place: Option<TempDir>,
}

/// Tests that need root, and don't have it, say so and pass.
pub async fn node() -> Option<Node> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return None;
    }
    let place = tempfile::tempdir().expect("a directory");
    fs::copy("/bin/busybox", place.path().join("busybox")).expect("busybox-static is installed");
    let mut node = reopen(place.path()).await;
    node._place = Some(place);
    Some(node)
}

pub fn config(place: &Path) -> RuntimeConfig {
    let name = place.file_name().expect("a name").to_string_lossy().replace('.', "");
    RuntimeConfig {
        run_dir: place.join("run"),
        executable: PathBuf::from(env!("CARGO_BIN_EXE_pod-shim")),
        cgroup_parent: format!("steadfast-test-{name}/one"),
    }
}

/// What a server does that starts anew.
pub async fn reopen(place: &Path) -> Node {
    let Opened { runtime, found, events } = Runtime::open(config(place)).await.expect("opens");
    Node { runtime, found, events, place: place.to_owned(), _place: None }
}

impl Node {
    pub async fn pod(&self, uid: &str) -> Sandbox {
        self.runtime.create_sandbox(sandbox(uid)).await.expect("a sandbox")
    }

    /// A container that runs a shell script.
    pub fn script(&self, id: &str, script: &str) -> ContainerSpec {
        self.command(id, &["sh", "-c", script])
    }

    pub fn command(&self, id: &str, args: &[&str]) -> ContainerSpec {
        ContainerSpec {
            id: id.to_owned(),
            name: id.to_owned(),
            root: self.root(id),
            args: args.iter().map(|argument| (*argument).to_owned()).collect(),
            env: vec![("PATH".to_owned(), "/bin".to_owned())],
            working_dir: String::new(),
            user: User::default(),
            mounts: Vec::new(),
            resources: Resources::default(),
            security: Security {
                privileged: false,
                read_only_root: false,
                no_new_privileges: false,
                capabilities: vec!["CAP_CHOWN".to_owned(), "CAP_KILL".to_owned(), "CAP_MKNOD".to_owned()],
                seccomp: Seccomp::RuntimeDefault,
                unmasked_proc: false,
            },
            log_path: self.place.join(format!("logs/{id}.log")),
            stdin: false,
            terminal: false,
            stdin_once: false,
            process_namespace_of: None,
        }
    }

    /// A root with busybox in it.
    pub fn root(&self, id: &str) -> PathBuf {
        let root = self.place.join("roots").join(id);
        if !root.exists() {
            fs::create_dir_all(root.join("bin")).expect("a directory");
            fs::hard_link(self.place.join("busybox"), root.join("bin/busybox")).expect("a link");
            for name in [
                "sh", "sleep", "true", "cat", "ls", "id", "mknod", "tail", "touch", "hostname", "stat", "head", "tty", "kill", "mount",
                "grep",
            ] {
                symlink("busybox", root.join("bin").join(name)).expect("a link");
            }
        }
        root
    }

    pub async fn start(&self, pod: &str, spec: ContainerSpec) -> i32 {
        self.runtime.start_container(pod, spec).await.expect("starts").0
    }

    /// Runs a container to its end; gives its exit and its log without times.
    pub async fn run(&mut self, pod: &str, spec: ContainerSpec) -> (Exit, String) {
        let (id, log) = (spec.id.clone(), spec.log_path.clone());
        self.start(pod, spec).await;
        let exit = self.exit_of(&id).await;
        (exit, logged(&log))
    }

    pub async fn exit_of(&mut self, id: &str) -> Exit {
        loop {
            match self.event().await {
                RuntimeEvent::Exited { container, exit, .. } if container == id => return exit,
                RuntimeEvent::Exited { .. } => {}
                lost => panic!("{lost:?}"),
            }
        }
    }

    pub async fn event(&mut self) -> RuntimeEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("in time").expect("an event")
    }

    pub async fn exec(&self, pod: &str, container: &str, args: &[&str]) -> Exec {
        let args = args.iter().map(|argument| (*argument).to_owned()).collect();
        let spec = ExecSpec { args, env: Vec::new(), terminal: false, stdin: false };
        self.runtime.exec(pod, container, spec).await.expect("executes")
    }

    /// What a command in a container prints.
    pub async fn ask(&self, pod: &str, container: &str, script: &str) -> String {
        let exec = self.exec(pod, container, &["sh", "-c", script]).await;
        read_all(exec.stdout).await
    }
}

pub async fn read_all(stream: std::os::fd::OwnedFd) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        // A terminal ends with an error.
        let _end = fs::File::from(stream).read_to_string(&mut text);
        text
    });
    tokio::time::timeout(PATIENCE, read).await.expect("in time").expect("reads")
}

/// The log without times.
pub fn logged(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest).collect()
}

pub fn sandbox(uid: &str) -> SandboxSpec {
    SandboxSpec {
        uid: uid.to_owned(),
        namespace: "test".to_owned(),
        name: uid.to_owned(),
        hostname: uid.to_owned(),
        host_network: false,
        share_process_namespace: false,
        sysctls: BTreeMap::new(),
        resources: Resources::default(),
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Only the node that owns the place takes it down.
        if self._place.is_none() {
            return;
        }
        let (runtime, pods) = (self.runtime.clone(), self.place.join("run/pods"));
        let removal = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio.block_on(async {
                for pod in fs::read_dir(pods).into_iter().flatten().flatten() {
                    runtime.remove_sandbox(&pod.file_name().to_string_lossy()).await.expect("removes");
                }
                runtime.remove_groups().await.expect("removes");
            });
        });
        removal.join().expect("removes all");
    }
}
