//! Requests on record, and bounds told on the command line.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use end_to_end::Cluster;
use serde_json::Value;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  userGroups: [system:masters]
  verbs: [create]
  resources: [{resources: [configmaps]}]
- level: Metadata
  userGroups: [system:masters]
- level: None
";

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn what_kubectl_does_is_on_record_as_the_policy_says() {
    let folder = tempfile::tempdir().unwrap();
    let (log, policy) = (folder.path().join("audit.log"), folder.path().join("policy.yaml"));
    std::fs::write(&policy, POLICY).unwrap();
    let [log_text, policy_text] = [&log, &policy].map(|path| path.to_str().unwrap());
    let cluster = Cluster::start_with(&["--simulated-nodes", "1", "--audit-log", log_text, "--audit-policy", policy_text]);
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal", "a=b"]);
    cluster.kubectl(&["create", "secret", "generic", "hidden", "--from-literal", "password=nobody-reads-this"]);
    cluster.kubectl_fails(&["get", "configmap", "missing"]);
    let of = |resource: &str, verb: &str| {
        let mut found = records(&log);
        found.retain(|record| {
            record["objectRef"]["resource"] == resource
                && record["verb"] == verb
                && record["userAgent"].as_str().is_some_and(|agent| agent.starts_with("kubectl"))
        });
        found
    };
    cluster.until("the requests are on record", || !of("configmaps", "get").is_empty());
    let created = &of("configmaps", "create")[0];
    assert_eq!((&created["level"], &created["requestObject"]["data"]["a"]), (&"Request".into(), &"b".into()));
    assert_eq!((&created["stage"], &created["responseStatus"]["code"]), (&"ResponseComplete".into(), &201.into()));
    assert_eq!(created["sourceIPs"], serde_json::json!(["127.0.0.1"]));
    assert_eq!(of("configmaps", "get")[0]["responseStatus"]["reason"], "NotFound");
    assert_eq!(of("secrets", "create")[0]["level"], "Metadata");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("nobody-reads-this") && !text.contains("system:kube-scheduler"), "{text}");
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn bounds_are_told_on_the_command_line_and_show_in_the_metrics() {
    let cluster = Cluster::start_with(&[
        "--simulated-nodes",
        "1",
        "--max-requests-inflight",
        "80",
        "--max-mutating-requests-inflight",
        "40",
        "--event-ttl",
        "2s",
    ]);
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]);
    for line in [
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"system\",request_kind=\"readOnly\"} 80",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\",request_kind=\"mutating\"} 30",
    ] {
        assert!(metrics.lines().any(|own| own == line), "{line}\n{metrics}");
    }
    cluster.kubectl(&["create", "configmap", "about", "--from-literal", "a=b"]);
    let event =
        serde_json::json!({"metadata": {"name": "news"}, "involvedObject": {"kind": "ConfigMap", "name": "about", "namespace": "default"}});
    cluster.call("POST", "/api/v1/namespaces/default/events", &event);
    cluster.until("the event is gone", || !cluster.kubectl(&["get", "events", "--output", "name"]).contains("event/news"));
}

#[test]
fn a_policy_that_can_not_be_read_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Loud}]\n").unwrap();
    let [log, policy] = [folder.path().join("log"), policy].map(|path| path.to_str().unwrap().to_owned());
    let (cluster, said) = Cluster::refused(&["--simulated-nodes", "1", "--audit-log", &log, "--audit-policy", &policy]);
    assert!(said.contains("--audit-policy") && said.contains("Loud"), "{said}");
    assert!(!cluster.data_dir().exists() && !cluster.kubeconfig().exists() && !Path::new(&log).exists(), "something was made");
}

#[test]
fn the_log_may_lie_in_the_data_directory() {
    let mut cluster = Cluster::simulated(1);
    assert!(cluster.terminate());
    std::fs::remove_dir_all(cluster.data_dir()).unwrap();
    let log = cluster.data_dir().join("audit.log");
    cluster.set_arguments(&["--simulated-nodes", "1", "--audit-log", log.to_str().unwrap()]);
    cluster.up();
    cluster.until("something is on record", || !records(&log).is_empty());
}
