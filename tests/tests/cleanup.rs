//! What is left of an instance: nothing.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use end_to_end::{Cluster, is_root, said};
use serde_json::Value;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: shared, emptyDir: {medium: Memory}}]
  containers: [{name: main, image: "busybox:1", command: [sleep, "100000"], volumeMounts: [{name: shared, mountPath: /shared}]}]
"#;

fn with_pod() -> Cluster {
    let cluster = Cluster::start();
    cluster.load_busybox();
    cluster.apply(POD);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/steady", "--timeout=60s"]);
    cluster
}

/// What of the machine belongs to an instance, by the traces it leaves: mounts, processes, links, control groups, sockets.
struct Traces {
    folder: String,
    bridge: String,
}

impl Traces {
    fn of(cluster: &Cluster) -> Self {
        let gateway = cluster.name_server().ip().to_string();
        let network = gateway.rsplit_once('.').expect("four numbers").0.split('.').rev().map(|number| {
            let number: u8 = number.parse().expect("a number");
            format!("{number:02X}")
        });
        let network = format!("00{}", network.collect::<String>());
        let routes = fs::read_to_string("/proc/net/route").expect("routes");
        let route = routes.lines().map(|line| line.split('\t').collect::<Vec<_>>()).find(|route| route.get(1) == Some(&network.as_str()));
        let bridge = route.expect("the instance has a route")[0].to_owned();
        Self { folder: cluster.folder().to_string_lossy().into_owned(), bridge }
    }

    /// The instance's own number is in the name of its bridge.
    fn id(&self) -> &str {
        self.bridge.trim_start_matches("sf")
    }

    fn found(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        let mut found: Vec<_> =
            mounts.lines().filter(|line| line.contains(&self.folder) || line.contains(self.id())).map(str::to_owned).collect();
        for process in fs::read_dir("/proc").expect("processes").flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&self.folder) || line.contains(self.id()) {
                found.push(line);
            }
        }
        let links = fs::read_dir("/sys/class/net").expect("links").flatten().map(|link| link.file_name().to_string_lossy().into_owned());
        found.extend(links.filter(|link| link.starts_with(&self.bridge)));
        let places = [format!("/run/steadfast/{}", self.id()), self.folder.clone()];
        found.extend(places.into_iter().filter(|place| fs::exists(place).unwrap_or(true)));
        found
    }
}

#[test]
fn a_test_that_panics_leaves_nothing_of_its_instance() {
    if !is_root() {
        return;
    }
    let mut traces = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let cluster = with_pod();
        let before = Traces::of(&cluster);
        assert!(before.found().len() >= 4, "this test would find nothing: {:?}", before.found());
        traces = Some(before);
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let traces = traces.expect("the instance ran");
    assert_eq!(traces.found(), Vec::<String>::new());
}

#[test]
fn the_context_in_the_users_kubeconfig_goes_with_the_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join(".kube/config");
    let home = folder.path().to_owned();
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(std::env::var_os("STEADFAST_KUBECTL").unwrap_or_else(|| "kubectl".into()));
        let output = command.arg("--kubeconfig").arg(&config).args(arguments).output().expect("kubectl runs");
        assert!(output.status.success(), "{}", said(&output));
    };
    kubectl(&["config", "set-cluster", "work", "--server=https://work.invalid"]);
    kubectl(&["config", "set-context", "work", "--cluster=work"]);
    kubectl(&["config", "use-context", "work"]);
    let cluster = Cluster::of_user(&home);
    let contexts = || {
        let mut command = Command::new(std::env::var_os("STEADFAST_KUBECTL").unwrap_or_else(|| "kubectl".into()));
        let output = command.arg("--kubeconfig").arg(&config).args(["config", "view", "--output=json"]).output().expect("kubectl runs");
        let view: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let lists = ["clusters", "users", "contexts"].map(|list| view[list].as_array().cloned().unwrap_or_default());
        let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
        let names = |list: &Vec<Value>| {
            let mut names: Vec<_> = list.iter().map(name).collect();
            names.sort();
            names
        };
        (lists.each_ref().map(names), view["current-context"].as_str().unwrap_or_default().to_owned())
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let both = owned(&["steadfast", "work"]);
    assert_eq!(contexts(), ([both.clone(), owned(&["steadfast"]), both], "work".to_owned()));
    kubectl(&["--context=steadfast", "get", "nodes"]);
    // Stopped, it can be started again, and the context stays.
    let stopped = cluster.steadfast(&["down"]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    assert_eq!(contexts().0[1], owned(&["steadfast"]));
    let purged = cluster.steadfast(&["down", "--purge"]);
    assert!(purged.status.success(), "{}", said(&purged));
    let work = owned(&["work"]);
    assert_eq!(contexts(), ([work.clone(), owned(&[]), work], "work".to_owned()));
}
