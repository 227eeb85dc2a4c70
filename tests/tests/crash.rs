//! What survives a crash of the server.

use end_to_end::Cluster;
use serde_json::Value;

fn pod(name: &str, policy: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers: [{{name: main, image: "busybox:1", command: [sh, -c, "{script}"]}}]
"#
    )
}

fn container(cluster: &Cluster, name: &str) -> Value {
    cluster.get(&["pod", name])["status"]["containerStatuses"][0].clone()
}

#[test]
fn containers_run_on_and_are_found_again_and_no_exit_is_missed() {
    let Some(mut cluster) = Cluster::with_busybox() else { return };
    cluster.apply(&pod("steady", "Always", "while true; do date >> /log; sleep 0.1; done"));
    cluster.apply(&pod("short", "Never", "sleep 2; exit 7"));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/steady", "pod/short", "--timeout=60s"]);
    let before = container(&cluster, "steady");
    let lines = |cluster: &Cluster| cluster.shell("steady", "wc -l < /log").parse::<u64>().expect("a number");
    let counted = lines(&cluster);
    cluster.kill();
    std::thread::sleep(std::time::Duration::from_secs(3));
    cluster.up();
    cluster.until("the exit is known", || cluster.get(&["pod", "short"])["status"]["phase"] == "Failed");
    assert_eq!(container(&cluster, "short")["state"]["terminated"]["exitCode"], 7);
    let after = container(&cluster, "steady");
    assert_eq!(after["containerID"], before["containerID"]);
    assert_eq!(after["restartCount"], 0);
    assert_eq!(after["state"]["running"]["startedAt"], before["state"]["running"]["startedAt"]);
    assert!(lines(&cluster) > counted + 10, "the container stood still while the server was away");
}

#[test]
fn acknowledged_writes_survive_being_killed_again_and_again() {
    let mut cluster = Cluster::simulated(1);
    for round in 0..5 {
        for number in 0..10 {
            cluster.kubectl(&["create", "configmap", &format!("c-{round}-{number}"), &format!("--from-literal=k={number}")]);
        }
        let version =
            |cluster: &Cluster| cluster.get(&["configmaps"])["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok());
        let before = version(&cluster);
        cluster.kill();
        cluster.up();
        assert!(version(&cluster) >= before, "the revision went back");
    }
    let names = cluster.kubectl(&["get", "configmaps", "--output", "name"]);
    assert_eq!(names.lines().filter(|line| line.starts_with("configmap/c-")).count(), 50, "{names}");
}

#[test]
fn ending_the_server_leaves_containers_and_down_ends_them() {
    let Some(mut cluster) = Cluster::with_busybox() else { return };
    cluster.apply(&pod("steady", "Always", "exec sleep 424242"));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/steady", "--timeout=60s"]);
    let running = || {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        processes
            .filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x00424242\x00")))
            .count()
    };
    assert!(cluster.terminate(), "{}", cluster.log());
    assert_eq!(running(), 1);
    let down = cluster.steadfast(&["down", "--timeout", "1"]);
    assert!(down.status.success(), "{}", end_to_end::said(&down));
    assert_eq!(running(), 0);
}
