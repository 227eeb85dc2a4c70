//! An instance of Steadfast to measure.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Failure;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// The binary that is measured.
pub fn binary() -> PathBuf {
    std::env::var_os("STEADFAST_BINARY").map_or_else(|| "target/release/steadfast".into(), PathBuf::from)
}

/// A running instance; [`Instance::stop`] removes all it made.
pub struct Instance {
    folder: TempDir,
    server: Child,
    stopped: bool,
    /// From the start of the process to its line.
    pub ready_after: Duration,
    pub port: u16,
}

impl Instance {
    /// Starts an instance with a cold data directory.
    pub async fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % 200;
        let port = 23000 + number;
        let folder = tempfile::Builder::new().prefix("steadfast-bench-").tempdir()?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let begin = Instant::now();
        let mut up = Command::new(binary());
        up.arg("up").arg("--data-dir").arg(folder.path().join("data")).arg("--kubeconfig").arg(folder.path().join("kubeconfig"));
        up.args(["--listen", &format!("127.0.0.1:{port}"), "--node-name", "node-a"]).args(arguments);
        up.args(["--service-cidr", &format!("10.122.{number}.0/24")]);
        if !arguments.contains(&"--pod-cidr") {
            up.args(["--pod-cidr", &format!("10.121.{number}.0/24")]);
        }
        let mut server = up.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn()?;
        let mut line = String::new();
        let stdout = server.stdout.take().ok_or("the output is piped")?;
        BufReader::new(stdout).read_line(&mut line).await?;
        let ready_after = begin.elapsed();
        if !line.starts_with("ready in ") {
            let log = std::fs::read_to_string(folder.path().join("log"))?;
            return Err(format!("steadfast up did not become ready: {line}\n{log}").into());
        }
        Ok(Self { folder, server, stopped: false, ready_after, port })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.server.id().unwrap_or_default()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> Result<Kubeconfig, Failure> {
        Ok(Kubeconfig::read_from(self.folder.path().join("kubeconfig"))?)
    }

    /// A client over HTTPS.
    pub async fn client(&self) -> Result<kube::Client, Failure> {
        let config = kube::Config::from_custom_kubeconfig(self.kubeconfig()?, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Loads an image archive.
    pub async fn load(&self, variable: &str) -> Result<(), Failure> {
        let archive = std::env::var(variable).map_err(|_| format!("{variable} is not set: run `cargo xtask bench`"))?;
        self.run(&["image", "load", &archive]).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<(), Failure> {
        let output = Command::new(binary()).args(arguments).arg("--data-dir").arg(self.folder.path().join("data")).output().await?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
    }

    /// Ends the server and removes everything it made.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.server.kill().await?;
        self.stopped = true;
        self.run(&["down", "--purge"]).await
    }

    /// Resident memory, in MiB.
    pub fn resident(&self) -> Result<f64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// CPU time used so far, in seconds.
    pub fn cpu(&self) -> Result<f64, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = fields.get(11).ok_or("no utime")?.parse::<f64>()? + fields.get(12).ok_or("no stime")?.parse::<f64>()?;
        Ok(ticks / 100.0)
    }
}

/// A case that failed leaves nothing behind either.
impl Drop for Instance {
    fn drop(&mut self) {
        if !self.stopped {
            let mut down = std::process::Command::new(binary());
            down.args(["down", "--purge", "--data-dir"]).arg(self.folder.path().join("data"));
            if !down.status().is_ok_and(|status| status.success()) {
                eprintln!("{} could not be taken down", self.folder.path().display());
            }
        }
    }
}
