//! StatefulSets on real containers, through kubectl.

use end_to_end::Cluster;
use end_to_end::workload::keeping_lives;

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: web}
  ports: [{name: http, port: 80}]
"#;

/// A headless Service and a set whose instances write their name into their claim.
fn web(replicas: usize, strategy: &str, policy: &str, message: &str) -> String {
    let spec = format!("  podManagementPolicy: {policy}\n  updateStrategy: {strategy}");
    format!("{SERVICE}---{}", keeping_lives(replicas, "", &spec, message))
}

fn message(cluster: &Cluster, ordinal: usize) -> String {
    let pod = cluster.get(&["pod", &format!("web-{ordinal}")]);
    pod["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_instance_keeps_name_address_and_data_when_it_is_re_created() {
    let Some(cluster) = Cluster::with_busybox().map(|cluster| cluster.running(&web(3, "{type: RollingUpdate}", "OrderedReady", "one"), 3))
    else {
        return;
    };
    let before = cluster.get(&["pod", "web-1"]);
    assert_eq!(cluster.shell("web-1", "hostname"), "web-1");
    cluster.kubectl(&["delete", "pod", "web-1"]);
    cluster.until("web-1 is back", || {
        let pods = cluster.get(&["pods", "--selector", "app=web"]);
        let again = pods["items"].as_array().expect("a list").iter().find(|pod| pod["metadata"]["name"] == "web-1").cloned();
        again.is_some_and(|pod| {
            pod["metadata"]["uid"] != before["metadata"]["uid"] && pod["status"]["containerStatuses"][0]["ready"] == true
        })
    });
    let after = cluster.get(&["pod", "web-1"]);
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
    assert_eq!(cluster.shell("web-1", "cat /data/lives"), "web-1\nweb-1");
    assert_eq!(cluster.shell("web-0", "cat /data/lives"), "web-0");
    // The peer is found under its name, at the same address.
    let resolved = cluster.shell("web-0", "nslookup web-1.web.default.svc.cluster.local | tail -n +3");
    assert!(resolved.contains(after["status"]["podIP"].as_str().expect("an address")), "{resolved}");
}

#[test]
fn scaling_in_keeps_claims_and_scaling_out_finds_them() {
    let Some(cluster) = Cluster::with_busybox().map(|cluster| cluster.running(&web(2, "{type: RollingUpdate}", "Parallel", "one"), 2))
    else {
        return;
    };
    cluster.kubectl(&["scale", "statefulset", "web", "--replicas", "0"]);
    cluster.ready("web", 0);
    assert_eq!(cluster.get(&["pvc"])["items"].as_array().map(Vec::len), Some(2));
    cluster.kubectl(&["scale", "statefulset", "web", "--replicas", "2"]);
    cluster.ready("web", 2);
    assert_eq!(cluster.shell("web-1", "cat /data/lives"), "web-1\nweb-1");
}

#[test]
fn a_partition_holds_the_lower_ordinals_at_the_old_revision() {
    let Some(cluster) = Cluster::with_busybox()
        .map(|cluster| cluster.running(&web(6, "{type: RollingUpdate, rollingUpdate: {partition: 4}}", "OrderedReady", "old"), 6))
    else {
        return;
    };
    cluster.apply(&web(6, "{type: RollingUpdate, rollingUpdate: {partition: 4}}", "OrderedReady", "new"));
    cluster.rolled_out("web");
    cluster.ready("web", 6);
    let messages = |cluster: &Cluster| (0..6).map(|ordinal| message(cluster, ordinal)).collect::<Vec<_>>();
    assert_eq!(messages(&cluster), ["old", "old", "old", "old", "new", "new"]);
    // Deleted below the partition, an ordinal comes back at the old revision.
    cluster.kubectl(&["delete", "pod", "web-2"]);
    cluster.ready("web", 6);
    assert_eq!(messages(&cluster), ["old", "old", "old", "old", "new", "new"]);
    // Lowering the partition rolls the rest.
    cluster.apply(&web(6, "{type: RollingUpdate, rollingUpdate: {partition: 0}}", "OrderedReady", "new"));
    cluster.rolled_out("web");
    cluster.ready("web", 6);
    assert_eq!(messages(&cluster), ["new"; 6]);
    // In reverse order: a lower ordinal is younger.
    let started = |ordinal: usize| cluster.get(&["pod", &format!("web-{ordinal}")])["metadata"]["resourceVersion"].clone();
    let created = |ordinal: usize| {
        cluster.get(&["pod", &format!("web-{ordinal}")])["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned()
    };
    assert_ne!(started(0), started(3));
    assert!(created(0) >= created(1) && created(1) >= created(2) && created(2) >= created(3));
}

#[test]
fn a_rollout_can_be_undone_and_restarted_with_kubectl() {
    let Some(cluster) =
        Cluster::with_busybox().map(|cluster| cluster.running(&web(2, "{type: RollingUpdate}", "OrderedReady", "first"), 2))
    else {
        return;
    };
    cluster.apply(&web(2, "{type: RollingUpdate}", "OrderedReady", "second"));
    cluster.rolled_out("web");
    assert_eq!(message(&cluster, 0), "second");
    let history = cluster.kubectl(&["rollout", "history", "statefulset/web"]);
    assert!(history.contains('1') && history.contains('2'), "{history}");
    cluster.kubectl(&["rollout", "undo", "statefulset/web"]);
    cluster.rolled_out("web");
    assert_eq!(message(&cluster, 0), "first");
    let before = cluster.get(&["pod", "web-0"])["metadata"]["uid"].clone();
    cluster.kubectl(&["rollout", "restart", "statefulset/web"]);
    cluster.rolled_out("web");
    assert_ne!(cluster.get(&["pod", "web-0"])["metadata"]["uid"], before);
}

#[test]
fn a_broken_revision_is_replaced_without_help() {
    let Some(cluster) = Cluster::with_busybox().map(|cluster| cluster.running(&web(2, "{type: RollingUpdate}", "OrderedReady", "good"), 2))
    else {
        return;
    };
    let broken = web(2, "{type: RollingUpdate}", "OrderedReady", "broken").replace("image: busybox:1", "image: nowhere.invalid/none:1");
    cluster.apply(&broken);
    cluster.until("web-1 can't start", || {
        let status = cluster.get(&["pods", "--selector", "app=web"]).to_string();
        status.contains("ErrImagePull") || status.contains("ImagePullBackOff")
    });
    cluster.apply(&web(2, "{type: RollingUpdate}", "OrderedReady", "mended"));
    cluster.rolled_out("web");
    assert_eq!(message(&cluster, 1), "mended");
}
