//! What clients of several kinds and ages ask for besides objects: documents, protobuf, streaming lists, health, metrics.

use std::process::Command;

use end_to_end::workload::WEB as SET;
use end_to_end::{Cluster, said, tool};

#[test]
fn kubectl_explains_every_kind_and_lists_by_streaming() {
    let cluster = Cluster::simulated(1).running(SET, 3);
    let resources = cluster.kubectl(&["api-resources", "--verbs", "list", "--output", "name"]);
    for resource in resources.split_whitespace() {
        let plural = resource.split('.').next().unwrap();
        let explained = cluster.kubectl(&["explain", plural, "--recursive"]);
        assert!(explained.contains("apiVersion") && explained.contains("metadata"), "{resource}: {explained}");
    }
    for resource in ["poddisruptionbudget.spec.minAvailable", "pod.spec.containers.livenessProbe.httpGet", "statefulset.spec.replicas"] {
        assert!(cluster.kubectl(&["explain", resource]).contains("DESCRIPTION"), "{resource}");
    }
    for (review, field) in [
        ("selfsubjectreviews", "status"),
        ("tokenreviews", "spec.token"),
        ("subjectaccessreviews", "spec.resourceAttributes.verb"),
        ("selfsubjectrulesreviews", "spec.namespace"),
        ("localsubjectaccessreviews", "spec.groups"),
    ] {
        let explained = cluster.kubectl(&["explain", &format!("{review}.{field}")]);
        assert!(explained.contains("DESCRIPTION") && explained.contains("k8s.io"), "{review}: {explained}");
    }
    let mut streaming = cluster.kubectl_command(&["get", "pods", "--output", "name"]);
    let output = streaming.env("KUBE_FEATURE_WatchListClient", "true").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "pod/web-0\npod/web-1\npod/web-2\n", "{}", said(&output));
}

#[test]
fn health_and_metrics_are_told_by_name() {
    let cluster = Cluster::simulated(1);
    let verbose = cluster.kubectl(&["get", "--raw", "/readyz?verbose"]);
    assert!(verbose.contains("[+]store ok") && verbose.ends_with("readyz check passed\n"), "{verbose}");
    assert_eq!(cluster.kubectl(&["get", "--raw", "/livez/ping"]), "ok");
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]);
    for name in [
        "apiserver_request_total{",
        "apiserver_request_duration_seconds_bucket{",
        "apiserver_current_inflight_requests{",
        "apiserver_longrunning_requests{",
        "apiserver_flowcontrol_current_executing_seats{",
        "apiserver_storage_objects{resource=\"nodes\"} 1",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}\n{metrics}");
    }
}

/// The oldest client: it reads OpenAPI v2 only.
fn old_kubectl(cluster: &Cluster, arguments: &[&str]) -> Command {
    cluster.with_kubectl(&tool("kubectl-oldest"), arguments)
}

#[test]
fn clients_that_validate_by_the_old_document_accept_what_is_right_and_refuse_what_is_wrong() {
    let cluster = Cluster::simulated(1);
    let file = cluster.folder().join("set.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, SET).unwrap();
    let applied = old_kubectl(&cluster, &["apply", "--filename", path]).output().unwrap();
    assert!(applied.status.success(), "{}", said(&applied));
    cluster.ready("web", 3);
    std::fs::write(&file, SET.replace("serviceName", "serviceNam")).unwrap();
    let refused = old_kubectl(&cluster, &["apply", "--filename", path]).output().unwrap();
    assert!(!refused.status.success() && said(&refused).contains("serviceNam"), "{}", said(&refused));
    let explained = old_kubectl(&cluster, &["explain", "pod.spec.containers.image"]).output().unwrap();
    assert!(explained.status.success(), "{}", said(&explained));
    for arguments in [&["get", "pods"][..], &["describe", "pod", "web-0"], &["get", "nodes", "--output", "yaml"]] {
        let output = old_kubectl(&cluster, arguments).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
}
