//! Cordon, drain and disruption budgets, through kubectl.

use std::io::Read;
use std::process::{Child, Stdio};

use end_to_end::{Cluster, said};
use serde_json::Value;

/// A set of simulated instances, and a budget.
fn guarded(replicas: usize, budget: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: web}}
spec:
  serviceName: web
  replicas: {replicas}
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers: [{{name: web, image: "busybox:1", command: [sleep, "100000"]}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web}}
spec:
  {budget}
  selector: {{matchLabels: {{app: web}}}}
"#
    )
}

fn node_of(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

fn pods(cluster: &Cluster) -> Vec<Value> {
    cluster.get(&["pods", "--selector", "app=web"])["items"].as_array().cloned().expect("a list")
}

fn allowed(cluster: &Cluster) -> i64 {
    cluster.get(&["poddisruptionbudget", "web"])["status"]["disruptionsAllowed"].as_i64().unwrap_or(-1)
}

/// A drain in the background, with what it has said so far.
struct Drain {
    child: Child,
}

impl Drain {
    fn start(cluster: &Cluster, node: &str) -> Self {
        let mut command = cluster.kubectl_command(&["drain", node, "--timeout=80s"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().expect("kubectl runs") }
    }

    /// Waits for its end; returns whether all was well, and what it said on standard error.
    fn ended(mut self) -> (bool, String) {
        let mut text = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut text).expect("kubectl prints text");
        (self.child.wait().expect("kubectl ends").success(), text)
    }
}

#[test]
fn a_drain_waits_for_the_budget_and_goes_on_when_a_pod_is_ready_elsewhere() {
    let cluster = Cluster::simulated(2).running(&guarded(2, "minAvailable: 2"), 2);
    cluster.until("the budget is computed", || cluster.get(&["poddisruptionbudget", "web"])["status"]["currentHealthy"] == 2);
    assert_eq!(allowed(&cluster), 0);
    let before = pods(&cluster);
    let (node, uid) = (node_of(&before[0]).to_owned(), before[0]["metadata"]["uid"].clone());

    let drain = Drain::start(&cluster, &node);
    cluster.until("the node takes no pods", || cluster.get(&["node", &node])["spec"]["unschedulable"] == true);
    // A direct ask is refused while the budget is exhausted, and nothing goes.
    let name = before[0]["metadata"]["name"].as_str().expect("a name");
    let body = format!(r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{name}","namespace":"default"}}}}"#);
    let path = format!("/api/v1/namespaces/default/pods/{name}/eviction");
    let refused = cluster.kubectl_with_input(&["create", "--raw", &path, "--filename", "-"], &body);
    assert!(!refused.status.success() && said(&refused).contains("would violate the pod's disruption budget"), "{}", said(&refused));
    assert!(pods(&cluster).iter().any(|pod| pod["metadata"]["uid"] == uid));

    // One more than must stay: it becomes ready on the other node, and the drain goes on.
    cluster.kubectl(&["scale", "statefulset", "web", "--replicas=3"]);
    let (well, said) = drain.ended();
    assert!(well && said.contains("would violate the pod's disruption budget"), "{said}");
    assert!(pods(&cluster).iter().all(|pod| pod["metadata"]["uid"] != uid));
    cluster.ready("web", 3);
    assert!(pods(&cluster).iter().all(|pod| node_of(pod) != node), "{node} is drained");

    cluster.kubectl(&["uncordon", &node]);
    assert!(cluster.get(&["node", &node])["spec"]["unschedulable"].is_null());
    let table = cluster.kubectl(&["get", "pdb", "web"]);
    assert!(table.contains("MIN AVAILABLE") && table.contains("N/A"), "{table}");
}

#[test]
fn a_drain_of_every_node_in_turn_keeps_what_must_stay() {
    let cluster = Cluster::simulated(3).running(&guarded(6, "maxUnavailable: 1"), 6);
    for node in cluster.get(&["nodes"])["items"].as_array().expect("a list") {
        let node = node["metadata"]["name"].as_str().expect("a name");
        cluster.kubectl(&["drain", node, "--timeout=80s"]);
        cluster.ready("web", 6);
        assert!(pods(&cluster).iter().all(|pod| node_of(pod) != node), "{node} is drained");
        cluster.kubectl(&["uncordon", node]);
    }
    cluster.until("the budget has recovered", || allowed(&cluster) == 1);
}

#[test]
fn a_cordoned_node_takes_no_pods_and_a_drained_one_loses_its_containers() {
    let Some(cluster) = Cluster::with_busybox().map(|cluster| cluster.running(&guarded(2, "maxUnavailable: 2"), 2)) else { return };
    cluster.kubectl(&["cordon", "node-a"]);
    assert!(cluster.kubectl(&["get", "nodes"]).contains("SchedulingDisabled"));
    cluster.until("two may go", || allowed(&cluster) == 2);
    cluster.kubectl(&["drain", "node-a", "--timeout=60s"]);
    // Their successors wait: there is no other node.
    cluster.until("both wait", || {
        let pods = pods(&cluster);
        pods.len() == 2 && pods.iter().all(|pod| pod["status"]["phase"] == "Pending" && node_of(pod).is_empty())
    });
    cluster.kubectl(&["uncordon", "node-a"]);
    cluster.ready("web", 2);
}
