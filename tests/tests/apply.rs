//! Server-side apply, and who owns what, as users of kubectl see it. Nodes only pretend to run pods.

use std::process::Output;

use end_to_end::workload::WEB;
use end_to_end::{Cluster, said};
use serde_json::Value;

const MAP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red, size: small}
"#;

/// A set of two.
fn web() -> String {
    let container = r#""busybox:1", ports: [{containerPort: 80, name: http}], env: [{name: A, value: "1"}, {name: B, value: "2"}]}"#;
    WEB.replace("replicas: 3", "replicas: 2").replace(r#""busybox:1"}"#, container)
}

fn server_side(cluster: &Cluster, options: &[&str], manifest: &str) -> Output {
    cluster.kubectl_with_input(&[&["apply", "--server-side", "--filename", "-"], options].concat(), manifest)
}

/// Applies what must succeed; returns what kubectl prints.
fn applied(cluster: &Cluster, options: &[&str], manifest: &str) -> String {
    let output = server_side(cluster, options, manifest);
    assert!(output.status.success(), "{}\n{}", said(&output), cluster.log());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(cluster: &Cluster, options: &[&str], manifest: &str) -> String {
    let output = server_side(cluster, options, manifest);
    assert!(!output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Manager and operation of each entry of `managedFields`, sorted.
fn managers(cluster: &Cluster, object: &str) -> Vec<String> {
    let object = cluster.get(&[object, "--show-managed-fields"]);
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut managers: Vec<_> = entries.iter().map(|entry| format!("{} {}", text(entry, "manager"), text(entry, "operation"))).collect();
    managers.sort();
    managers
}

#[test]
fn conflicts_are_shown_and_can_be_forced() {
    let cluster = Cluster::simulated(1);
    assert_eq!(applied(&cluster, &[], MAP).trim(), "configmap/settings serverside-applied");
    let before = cluster.get(&["configmap", "settings"]);
    applied(&cluster, &[], MAP);
    assert_eq!(cluster.get(&["configmap", "settings"]), before, "applying twice changes nothing");
    assert!(before["metadata"]["managedFields"].is_null(), "kubectl hides them unless asked");
    assert_eq!(managers(&cluster, "configmap/settings"), ["kubectl Apply"]);

    let blue = MAP.replace("red", "blue");
    let conflict = refused(&cluster, &["--field-manager=painter"], &blue);
    assert!(conflict.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.color"), "{conflict}");
    applied(&cluster, &["--field-manager=painter", "--force-conflicts"], &blue);
    assert_eq!(cluster.get(&["configmap", "settings"])["data"]["color"], "blue");
    cluster.kubectl(&["patch", "configmap", "settings", "--type=merge", "--patch", r#"{"data":{"size":"large"}}"#]);
    let conflict = refused(&cluster, &[], MAP);
    assert!(conflict.contains("Apply failed with 2 conflicts: conflicts with \"kubectl-patch\" using v1:\n- .data.size"), "{conflict}");
    assert!(conflict.contains("conflicts with \"painter\":\n- .data.color"), "{conflict}");

    let without = MAP.replace("color: red, ", "").replace("small", "large");
    applied(&cluster, &[], &without);
    let data = cluster.get(&["configmap", "settings"])["data"].clone();
    assert_eq!((&data["color"], &data["size"]), (&Value::from("blue"), &Value::from("large")), "the painter's field stays");
    let unknown = refused(&cluster, &[], &MAP.replace("\ndata:", "\ndate:"));
    assert!(unknown.contains(".date: field not declared in schema"), "{unknown}");
}

#[test]
fn what_the_system_writes_is_owned_under_upstreams_names() {
    let cluster = Cluster::simulated(1).running(&web(), 2);
    cluster.rolled_out("web");
    assert_eq!(managers(&cluster, "statefulset/web"), ["kube-controller-manager Update", "kubectl-client-side-apply Update"]);
    // The scheduler's binding is nobody's, as it is upstream.
    assert_eq!(managers(&cluster, "pod/web-0"), ["kube-controller-manager Update", "kubelet Update"]);
}

#[test]
fn what_was_applied_by_the_client_moves_to_the_server() {
    let manifest = web();
    let cluster = Cluster::simulated(1).running(&manifest, 2);
    assert!(managers(&cluster, "statefulset/web").contains(&"kubectl-client-side-apply Update".to_owned()));
    applied(&cluster, &[], &manifest);
    let after = managers(&cluster, "statefulset/web");
    assert!(after.contains(&"kubectl Apply".to_owned()) && !after.contains(&"kubectl-client-side-apply Update".to_owned()), "{after:?}");

    applied(&cluster, &[], &manifest.replace(r#"{name: A, value: "1"}, "#, "").replace("replicas: 2", "replicas: 3"));
    cluster.ready("web", 3);
    cluster.rolled_out("web");
    let set = cluster.get(&["statefulset", "web"]);
    assert_eq!(
        set.pointer("/spec/template/spec/containers/0/env").map(ToString::to_string).as_deref(),
        Some(r#"[{"name":"B","value":"2"}]"#)
    );
    // The annotation follows, so that the client may apply again.
    cluster.apply(&manifest.replace("replicas: 2", "replicas: 1"));
    cluster.ready("web", 1);

    cluster.kubectl(&["scale", "statefulset", "web", "--replicas=2"]);
    let conflict = refused(&cluster, &["--field-manager=other"], &manifest.replace("replicas: 2", "replicas: 5"));
    assert!(conflict.contains("with subresource \"scale\" using apps/v1: .spec.replicas"), "{conflict}");
}

#[test]
fn differences_and_dry_runs_show_what_would_change_and_change_nothing() {
    let cluster = Cluster::simulated(1);
    for mode in [&["diff"][..], &["diff", "--server-side"]] {
        let diff = |manifest: &str| cluster.kubectl_with_input(&[mode, &["--filename", "-"]].concat(), manifest);
        let new = diff(MAP);
        let text = String::from_utf8_lossy(&new.stdout).into_owned();
        assert!(new.status.code() == Some(1) && text.contains("+  color: red"), "{mode:?}: {}", said(&new));
        assert!(cluster.kubectl_fails(&["get", "configmap", "settings"]).contains("not found"));
        if mode.len() > 1 {
            drop(applied(&cluster, &[], MAP))
        } else {
            drop(cluster.apply(MAP))
        }
        let same = diff(MAP);
        assert!(same.status.success(), "{mode:?}: {}", said(&same));
        let changed = diff(&MAP.replace("red", "blue"));
        let text = String::from_utf8_lossy(&changed.stdout).into_owned();
        assert!(
            changed.status.code() == Some(1) && text.contains("-  color: red") && text.contains("+  color: blue"),
            "{}",
            said(&changed)
        );
        assert!(!text.contains("managedFields"), "{text}");
        assert_eq!(cluster.get(&["configmap", "settings"])["data"]["color"], "red");
        cluster.kubectl(&["delete", "configmap", "settings"]);
    }
    for options in [&["--server-side", "--dry-run=server"][..], &["--dry-run=server"]] {
        let output = cluster.kubectl_with_input(&[&["apply", "--filename", "-"], options].concat(), MAP);
        assert!(output.status.success() && said(&output).contains("(server dry run)"), "{}", said(&output));
    }
    assert!(cluster.kubectl_fails(&["get", "configmap", "settings"]).contains("not found"));
}
