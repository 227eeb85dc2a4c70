//! Measures pods of this runtime against `crun run`, with the same root and the same command. Needs root, crun and a static busybox.
//!
//! `measure [rounds]` prints medians and minima in milliseconds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use runtime::{
    ContainerSpec, ExecSpec, Opened, Resources, Runtime, RuntimeConfig, RuntimeEvent, SandboxSpec, Seccomp, Security, User, shim,
};
use tokio::sync::mpsc::UnboundedReceiver;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some(shim::ARGUMENT) {
        return shim::main(&arguments);
    }
    let rounds = arguments.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(50);
    match measure(rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(rounds: usize) -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let root = place.path().join("rootfs");
    fs::create_dir_all(root.join("bin"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for name in ["true", "sleep", "sh"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    write_bundle(place.path())?;
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    tokio.block_on(compare(rounds, place.path(), &root))
}

async fn compare(rounds: usize, place: &Path, root: &Path) -> Result<(), Box<dyn Error>> {
    let config = RuntimeConfig {
        run_dir: place.join("run"),
        executable: std::env::current_exe()?,
        cgroup_parent: format!("steadfast-measure-{}", std::process::id()),
    };
    let Opened { runtime, mut events, .. } = Runtime::open(config).await?;
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 0..rounds {
        let begin = Instant::now();
        run_crun(place, round)?;
        times.entry("1 crun run (create, run, delete)").or_default().push(begin.elapsed());
        one_pod(&runtime, &mut events, root, place, round, &mut times).await?;
    }
    commands(&runtime, root, place, rounds, &mut times).await?;
    runtime.remove_groups().await?;
    println!("{:44} {:>8} {:>8} {:>8}", "ms", "median", "min", "p90");
    for (name, mut taken) in times {
        taken.sort();
        let at = |index: usize| taken[index.min(taken.len() - 1)].as_secs_f64() * 1000.0;
        println!("{name:44} {:8.2} {:8.2} {:8.2}", at(taken.len() / 2), at(0), at(taken.len() * 9 / 10));
    }
    Ok(())
}

async fn one_pod(
    runtime: &Runtime,
    events: &mut UnboundedReceiver<RuntimeEvent>,
    root: &Path,
    place: &Path,
    round: usize,
    times: &mut BTreeMap<&'static str, Vec<Duration>>,
) -> Result<(), Box<dyn Error>> {
    let pod = format!("pod-{round}");
    let begin = Instant::now();
    runtime.create_sandbox(sandbox(&pod)).await?;
    let created = begin.elapsed();
    runtime.start_container(&pod, container(root, place, &["/bin/true"])).await?;
    let started = begin.elapsed();
    while !matches!(events.recv().await, Some(RuntimeEvent::Exited { .. }) | None) {}
    let exited = begin.elapsed();
    runtime.remove_container(&pod, "main-0").await?;
    runtime.remove_sandbox(&pod).await?;
    let removed = begin.elapsed();
    for (name, taken) in [
        ("2 pod: create, run, delete", removed),
        ("3 pod: sandbox and container to executed", started),
        ("4 sandbox", created),
        ("5 container to executed", started - created),
        ("6 executed to exit seen", exited - started),
        ("7 delete", removed - exited),
    ] {
        times.entry(name).or_default().push(taken);
    }
    Ok(())
}

async fn commands(
    runtime: &Runtime,
    root: &Path,
    place: &Path,
    rounds: usize,
    times: &mut BTreeMap<&'static str, Vec<Duration>>,
) -> Result<(), Box<dyn Error>> {
    runtime.create_sandbox(sandbox("exec")).await?;
    runtime.start_container("exec", container(root, place, &["/bin/sleep", "1000"])).await?;
    for _ in 0..rounds {
        let begin = Instant::now();
        let spec = ExecSpec { args: vec!["/bin/true".to_owned()], env: Vec::new(), terminal: false, stdin: false };
        let exec = runtime.exec("exec", "main-0", spec).await?;
        exec.exit.await?;
        times.entry("8 exec /bin/true to exit seen").or_default().push(begin.elapsed());
    }
    let status = fs::read_to_string(format!("/proc/{}/status", shim_of(runtime, "exec").await?))?;
    println!(
        "shim: {}",
        status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon")).collect::<Vec<_>>().join(", ")
    );
    runtime.remove_sandbox("exec").await?;
    Ok(())
}

/// The shim is the parent of its containers.
async fn shim_of(runtime: &Runtime, pod: &str) -> Result<i32, Box<dyn Error>> {
    let spec = ExecSpec { args: vec!["/bin/true".to_owned()], env: Vec::new(), terminal: false, stdin: false };
    runtime.exec(pod, "main-0", spec).await?.exit.await?;
    let children = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "pod-shim");
    children.filter(ours).max().ok_or_else(|| "no shim".into())
}

fn run_crun(place: &Path, round: usize) -> Result<(), Box<dyn Error>> {
    let status = Command::new("crun")
        .args(["run", "--bundle"])
        .arg(place)
        .arg(format!("steadfast-measure-{}-{round}", std::process::id()))
        .stdin(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("crun: {status}").into()) }
}

fn write_bundle(place: &Path) -> Result<(), Box<dyn Error>> {
    let written = Command::new("crun").arg("spec").current_dir(place).status()?;
    if !written.success() {
        return Err("crun spec failed".into());
    }
    let path = place.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    spec["process"]["terminal"] = false.into();
    // This machine may not raise limits.
    spec["process"]["rlimits"] = serde_json::json!([]);
    Ok(fs::write(path, serde_json::to_vec(&spec)?)?)
}

fn sandbox(uid: &str) -> SandboxSpec {
    SandboxSpec {
        uid: uid.to_owned(),
        namespace: "measure".to_owned(),
        name: uid.to_owned(),
        hostname: uid.to_owned(),
        host_network: false,
        share_process_namespace: false,
        sysctls: BTreeMap::new(),
        resources: Resources { memory_limit: Some(256 << 20), ..Resources::default() },
    }
}

fn container(root: &Path, place: &Path, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        id: "main-0".to_owned(),
        name: "main".to_owned(),
        root: root.to_owned(),
        args: args.iter().map(|argument| (*argument).to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        working_dir: "/".to_owned(),
        user: User::default(),
        mounts: Vec::new(),
        resources: Resources { memory_limit: Some(128 << 20), cpu_shares: Some(512), ..Resources::default() },
        security: Security {
            privileged: false,
            read_only_root: false,
            no_new_privileges: true,
            capabilities: vec!["CAP_CHOWN".to_owned(), "CAP_KILL".to_owned()],
            seccomp: Seccomp::RuntimeDefault,
            unmasked_proc: false,
        },
        log_path: PathBuf::from(place).join("log"),
        stdin: false,
        terminal: false,
        stdin_once: false,
        process_namespace_of: None,
    }
}
