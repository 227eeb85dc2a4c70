//! `kubectl describe` of every kind.

use std::collections::BTreeSet;

use crate::{AGES, missing, run, with_everything};

/// What is described, and what a user expects to read there.
const EXPECTED: &[(&str, &str, &[&str])] = &[
    ("namespaces", "default", &["Status: Active", "Resource Quotas", "pods 2 10", "Resource Limits", "Container cpu - - 100m 100m"]),
    (
        "nodes",
        "simulated-0",
        &[
            "Taints: <none>",
            "Unschedulable: false",
            "Ready True",
            "Capacity:",
            "Allocatable:",
            "System Info:",
            "Non-terminated Pods: (",
            "default web-",
            "Allocated resources:",
            "cpu 100m",
        ],
    ),
    (
        "pods",
        "web-0",
        &[
            "Node: simulated-",
            "Status: Running",
            "Controlled By: StatefulSet/web",
            "statefulset.kubernetes.io/pod-name=web-0",
            "Image: busybox:1",
            "Ready: True",
            "Readiness: exec [test -e /data]",
            "COLOR: <set to the key 'color' of config map 'settings'> Optional: false",
            "/data from data (rw)",
            "ClaimName: data-web-0",
            "QoS Class: Guaranteed",
            "Normal Scheduled",
            "Successfully assigned default/web-0 to simulated-",
        ],
    ),
    ("services", "web", &["Selector: app=web", "IP: None", "Port: http 80/TCP", "Endpoints: 100."]),
    ("configmaps", "settings", &["color:", "red"]),
    ("secrets", "password", &["Type: Opaque", "password: 6 bytes"]),
    ("serviceaccounts", "worker", &["Image pull secrets: <none>"]),
    (
        "persistentvolumes",
        "",
        &["Claim: default/data-web-0", "Status: Bound", "StorageClass: local", "Reclaim Policy: Delete", "Type: LocalVolume"],
    ),
    ("persistentvolumeclaims", "data-web-0", &["Status: Bound", "StorageClass: local", "Capacity: 1Mi", "Used By: web-0"]),
    ("endpoints", "web", &["Addresses: 100.", "http 80 TCP"]),
    ("events", "", &["Kind: StatefulSet", "Reason: SuccessfulCreate", "Message: Create Pod web-0 in StatefulSet web successful"]),
    (
        "events.events.k8s.io",
        "",
        &["Kind: StatefulSet", "Reason: SuccessfulCreate", "Note: Create Pod web-0 in StatefulSet web successful"],
    ),
    ("limitranges", "limits", &["Container cpu - - 100m 100m", "Container memory - - 16Mi 16Mi"]),
    ("resourcequotas", "quota", &["Resource Used Hard", "pods 2 10"]),
    (
        "statefulsets.apps",
        "web",
        &[
            "Replicas: 2 desired | 2 total",
            "Update Strategy: RollingUpdate",
            "Pods Status: 2 Running / 0 Waiting / 0 Succeeded / 0 Failed",
            "Volume Claims:",
            "Access Modes: [ReadWriteOnce]",
            "Normal SuccessfulCreate",
        ],
    ),
    ("controllerrevisions.apps", "", &["Kind: ControllerRevision", "Revision: 1"]),
    ("endpointslices.discovery.k8s.io", "", &["AddressType: IPv4", "http 80 TCP", "TargetRef: Pod/web-0", "Hostname: web-0"]),
    ("storageclasses.storage.k8s.io", "local", &["IsDefaultClass: Yes", "Provisioner: steadfast.dev/local"]),
    ("priorityclasses.scheduling.k8s.io", "important", &["Value: 1000", "Description: Goes first"]),
    ("leases.coordination.k8s.io", "lock", &["Holder Identity: somebody"]),
    ("poddisruptionbudgets.policy", "web", &["Max unavailable: 1", "Allowed disruptions: 1", "Current: 2", "Total: 2"]),
    ("clusterroles.rbac.authorization.k8s.io", "view", &["statefulsets.apps [] [] [get list watch]"]),
    ("clusterrolebindings.rbac.authorization.k8s.io", "cluster-admin", &["Kind: ClusterRole", "Group system:masters"]),
    ("roles.rbac.authorization.k8s.io", "reader", &["pods [] [] [get]"]),
    ("rolebindings.rbac.authorization.k8s.io", "readers", &["Kind: Role", "Name: reader", "User bob"]),
    ("statefulsets.apps.steadfast.dev", "ours", &["API Version: apps.steadfast.dev/v1", "Service Name: ours"]),
];

/// What the oldest can't describe on any server of today: it asks for versions that are gone.
const NOT_BY_THE_OLDEST: &[&str] = &["endpointslices.discovery.k8s.io", "poddisruptionbudgets.policy"];

#[test]
fn every_kind_is_described_as_users_expect() {
    let cluster = with_everything();
    let served = run(&cluster, "kubectl-newest", &["api-resources", "--verbs", "list", "--output", "name"]);
    let served: BTreeSet<_> = served.lines().collect();
    assert_eq!(served, EXPECTED.iter().map(|(resource, ..)| *resource).collect(), "what is served, and what is expected of it");
    let status = |field: &str| cluster.get(&["poddisruptionbudget", "web"])["status"][field].clone();
    cluster.until("the budget is computed", || status("disruptionsAllowed") == 1 && status("currentHealthy") == 2);
    cluster.until("the quota is computed", || cluster.get(&["quota", "quota"])["status"]["used"]["pods"] == "2");
    let shown = |arguments: &[&str], path: &str| cluster.kubectl(&[&["get", "--output", path], arguments].concat());
    cluster.until("the addresses of both pods are known", || {
        let subsets = shown(&["endpoints", "web", "--ignore-not-found"], "jsonpath={.subsets[*].addresses[*].ip}");
        let slices =
            shown(&["endpointslices", "--selector=kubernetes.io/service-name=web"], "jsonpath={.items[*].endpoints[*].addresses[*]}");
        [subsets, slices].iter().all(|addresses| addresses.split(' ').count() == 2)
    });
    let mut faults = Vec::new();
    for (resource, name, expected) in EXPECTED {
        let arguments: Vec<_> = ["describe", resource, name].into_iter().filter(|word| !word.is_empty()).collect();
        for age in AGES.into_iter().filter(|age| *age != AGES[0] || !NOT_BY_THE_OLDEST.contains(resource)) {
            let text = run(&cluster, age, &arguments);
            // The oldest has words of its own for some kinds.
            let expected = if age == AGES[0] { &["Name:"][..] } else { expected };
            let missing = missing(&text, expected);
            if !missing.is_empty() {
                faults.push(format!("{age} {arguments:?} does not say {missing:?}:\n{text}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
