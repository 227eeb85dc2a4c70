//! The main job: a Redis Cluster that keeps its data and its members through everything.

use end_to_end::{Cluster, is_root};

fn forms(cluster: &Cluster) {
    let mut nodes = Vec::new();
    for ordinal in 0..6 {
        let address =
            cluster.get(&["pod", &format!("redis-cluster-{ordinal}")])["status"]["podIP"].as_str().expect("an address").to_owned();
        nodes.push(format!("{address}:6379"));
    }
    let said =
        cluster.shell("redis-cluster-0", &format!("redis-cli --cluster create {} --cluster-replicas 1 --cluster-yes", nodes.join(" ")));
    assert!(said.contains("All 16384 slots covered"), "{said}");
    serves(cluster);
}

fn serves(cluster: &Cluster) {
    cluster.until("the cluster is ok on every instance", || {
        (0..6).all(|ordinal| {
            let pod = format!("redis-cluster-{ordinal}");
            cluster.shell(&pod, "redis-cli cluster info 2>/dev/null || true").contains("cluster_state:ok")
        })
    });
}

#[test]
fn a_redis_cluster_keeps_members_and_data_when_all_instances_restart_at_once() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.load_redis();
    cluster.apply(include_str!("../../examples/redis-cluster.yaml"));
    cluster.ready("redis-cluster", 6);
    forms(&cluster);
    let write = "for i in $(seq 50); do redis-cli -c -h redis set key:$i value:$i; done | sort | uniq";
    assert_eq!(cluster.shell("redis-cluster-0", write), "OK");
    let read = "for i in $(seq 50); do [ \"$(redis-cli -c -h redis get key:$i)\" = value:$i ] || echo lost $i; done";
    assert_eq!(cluster.shell("redis-cluster-3", read), "");
    // The server crashes: nobody notices.
    cluster.kill();
    cluster.up();
    assert_eq!(cluster.shell("redis-cluster-3", read), "");
    // All instances restart at once: every address in every nodes.conf is still right.
    cluster.kubectl(&["delete", "pods", "--selector", "app=redis-cluster"]);
    cluster.ready("redis-cluster", 6);
    serves(&cluster);
    assert_eq!(cluster.shell("redis-cluster-0", read), "");
}
