//! `cargo xtask demo`: from nothing to a Redis Cluster that serves, and what to do with it next.

use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::{Result, command, is_root, output, root, show, succeeds};
use crate::{images, install};

const DATA_DIR: &str = "/var/lib/steadfast";
const REPLICAS: usize = 6;
const KEYS: usize = 100;

/// The demo's tools.
struct Demo {
    kubectl: PathBuf,
    steadfast: PathBuf,
}

/// Runs the demo; a second time it finds what runs and says so.
pub fn run() -> Result {
    let begin = Instant::now();
    if !is_root() {
        return Err("The demo starts containers: run it as root (sudo cargo xtask demo).".to_owned());
    }
    stage("building (the first time takes minutes)", || {
        output(command("cargo", &["build", "--release", "--quiet", "--package", "steadfast"])).map(drop)
    })?;
    let demo = Demo { kubectl: install::kubectl()?, steadfast: root().join("target/release/steadfast") };
    let found = demo.answers();
    if found {
        println!("Steadfast is running already");
    } else {
        stage("starting steadfast", || demo.start())?;
    }
    if !demo.has_image()? {
        stage("obtaining a Redis image", || demo.obtain_image())?;
    }
    let manifest = root().join("examples/redis-cluster.yaml");
    output(demo.kubectl(&["apply", "--filename", &manifest.to_string_lossy()]))?;
    demo.wait_until_ready()?;
    if demo.cluster_info()?.contains("cluster_state:ok") {
        println!("the Redis Cluster is formed already");
    } else {
        stage("forming the cluster: 3 masters, 3 replicas", || demo.form_cluster())?;
    }
    stage("writing and reading keys through the Service", || demo.write_and_read())?;
    print_next_steps(&demo, begin)
}

impl Demo {
    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.kubectl, &["--context", "steadfast", "--request-timeout=60s"]);
        command.args(arguments);
        command
    }

    /// Runs a command in the first instance.
    fn exec(&self, arguments: &[&str]) -> Result<String> {
        self.exec_in(0, arguments)
    }

    fn exec_in(&self, ordinal: usize, arguments: &[&str]) -> Result<String> {
        let mut exec = self.kubectl(&["exec", &format!("redis-cluster-{ordinal}"), "--"]);
        exec.args(arguments);
        output(exec)
    }

    fn answers(&self) -> bool {
        succeeds(command(&self.kubectl, &["--context", "steadfast", "--request-timeout=2s", "get", "--raw", "/readyz"]))
    }

    /// Starts `steadfast up` so that it outlives this program, and waits for its line.
    fn start(&self) -> Result {
        let failed = |error| format!("{DATA_DIR}: {error}");
        DirBuilder::new().recursive(true).mode(0o700).create(DATA_DIR).map_err(failed)?;
        let path = Path::new(DATA_DIR).join("steadfast.log");
        let log = File::create(&path).map_err(failed)?;
        let mut up = Command::new(&self.steadfast);
        up.args(["up", "--data-dir", DATA_DIR]).stdin(Stdio::null()).process_group(0);
        let mut child = up.stdout(log.try_clone().map_err(failed)?).stderr(log).spawn().map_err(failed)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let said = fs::read_to_string(&path).map_err(failed)?;
            if said.lines().any(|line| line.starts_with("ready in ")) {
                return Ok(());
            }
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Err(format!("steadfast up ended with {status}:\n{said}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("steadfast up was not ready within 30 s; see {}", path.display()))
    }

    fn has_image(&self) -> Result<bool> {
        let listed = output(command(&self.steadfast, &["image", "ls", "--data-dir", DATA_DIR, "--output", "json"]))?;
        Ok(listed.contains("\"docker.io/library/redis:7\""))
    }

    /// From a registry where one is reachable, else from the distribution's packages.
    fn obtain_image(&self) -> Result {
        let pull = command(&self.steadfast, &["image", "pull", "redis:7", "--timeout", "60", "--data-dir", DATA_DIR]);
        if succeeds(pull) {
            return Ok(());
        }
        let archive = images::redis(&self.steadfast)?;
        let mut load = command(&self.steadfast, &["image", "load", "--data-dir", DATA_DIR]);
        load.arg(archive);
        output(load).map(drop)
    }

    /// Follows the set's status until every instance is Ready.
    fn wait_until_ready(&self) -> Result {
        let bar = ProgressBar::new(REPLICAS as u64);
        bar.set_style(ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len}").expect("the template is well formed"));
        bar.set_prefix("instances ready");
        let begin = Instant::now();
        let mut watch =
            self.kubectl(&["get", "statefulset", "redis-cluster", "--watch", "--output", "jsonpath={.status.readyReplicas}{\"\\n\"}"]);
        watch.arg("--request-timeout=300s").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = watch.spawn().map_err(|error| format!("kubectl: {error}"))?;
        let lines = BufReader::new(child.stdout.take().expect("the output is piped")).lines();
        let ready = lines.map_while(std::result::Result::ok).map(|line| line.trim().parse().unwrap_or(0));
        let complete = ready.inspect(|ready| bar.set_position(*ready)).any(|ready| ready >= REPLICAS as u64);
        let _ = child.kill();
        let _ = child.wait();
        bar.finish_and_clear();
        if complete {
            println!("{REPLICAS} instances ready: {:.2} s", begin.elapsed().as_secs_f32());
            return Ok(());
        }
        show(self.kubectl(&["get", "pods,pvc", "--output", "wide"]))?;
        show(self.kubectl(&["get", "events"]))?;
        Err("the instances did not all become ready within 300 s; see the events above".to_owned())
    }

    fn cluster_info(&self) -> Result<String> {
        self.exec(&["redis-cli", "cluster", "info"])
    }

    /// The instances' addresses, in their order.
    fn addresses(&self) -> Result<Vec<String>> {
        let path = "jsonpath={range .items[*]}{.metadata.name}={.status.podIP}{\"\\n\"}{end}";
        let text = output(self.kubectl(&["get", "pods", "--selector", "app=redis-cluster", "--output", path]))?;
        let mut pods: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
        pods.sort_unstable();
        Ok(pods.into_iter().map(|(_, address)| format!("{address}:6379")).collect())
    }

    fn form_cluster(&self) -> Result {
        let addresses = self.addresses()?;
        let mut create = vec!["redis-cli", "--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let said = self.exec(&create)?;
        if !said.contains("All 16384 slots covered") {
            return Err(format!("redis-cli --cluster create:\n{said}"));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        (0..REPLICAS).try_for_each(|ordinal| self.wait_until_ok(ordinal, deadline))
    }

    /// Each instance learns by gossip that all slots are served; before that it refuses clients.
    fn wait_until_ok(&self, ordinal: usize, deadline: Instant) -> Result {
        loop {
            let info = self.exec_in(ordinal, &["redis-cli", "cluster", "info"])?;
            if info.contains("cluster_state:ok") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("redis-cluster-{ordinal} did not find the cluster ok within 60 s:\n{info}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sets and gets keys through the ClusterIP Service, following the cluster's redirections.
    fn write_and_read(&self) -> Result {
        let script = format!(
            "i=0; while [ $i -lt {KEYS} ]; do \
             [ \"$(redis-cli -c -h redis set demo:$i value-$i)\" = OK ] || exit 1; \
             [ \"$(redis-cli -c -h redis get demo:$i)\" = value-$i ] || exit 2; i=$((i+1)); done; echo complete"
        );
        let said = self.exec(&["sh", "-c", &script])?;
        if said.trim() == "complete" { Ok(()) } else { Err(format!("a key was not read as it was written:\n{said}")) }
    }
}

fn print_next_steps(demo: &Demo, begin: Instant) -> Result {
    let info = demo.cluster_info()?;
    let shown = ["cluster_state:", "cluster_slots_ok:", "cluster_known_nodes:", "cluster_size:"];
    println!();
    for line in info.lines().filter(|line| shown.iter().any(|name| line.starts_with(name))) {
        println!("{}", line.trim());
    }
    println!("{KEYS} keys written and read; everything took {:.1} s", begin.elapsed().as_secs_f32());
    let kubectl = match demo.kubectl.to_string_lossy() {
        path if path.contains("target/tools") => path.into_owned(),
        _ => "kubectl".to_owned(),
    };
    println!(
        "
Go on with
  {kubectl} --context steadfast get pods,pvc,svc,sts -o wide
  {kubectl} --context steadfast exec -it redis-cluster-0 -- redis-cli -c
  {kubectl} --context steadfast delete pod redis-cluster-3        # returns with its name, address and data
  {kubectl} --context steadfast scale statefulset redis-cluster --replicas 7

Stop with
  pkill -TERM -x steadfast                                    # the containers keep running
  {steadfast} down                                            # stops the containers, keeps the data
  {steadfast} down --purge                                    # deletes everything",
        steadfast = demo.steadfast.display(),
    );
    Ok(())
}

/// Runs a stage with a spinner where there is a terminal, and prints how long it took.
fn stage(name: &str, run: impl FnOnce() -> Result) -> Result {
    let begin = Instant::now();
    let spinner = ProgressBar::new_spinner().with_message(name.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let result = run();
    spinner.finish_and_clear();
    if result.is_ok() {
        println!("{name}: {:.2} s", begin.elapsed().as_secs_f32());
    }
    result
}
