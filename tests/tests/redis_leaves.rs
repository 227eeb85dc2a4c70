//! A Redis Cluster that is updated and scaled while a client writes all the time, and loses nothing that it acknowledged.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use end_to_end::resp::RedisCluster;
use end_to_end::{Cluster, is_root};

/// So many acknowledged writes have to lie before and after a change for it to prove something.
const ENOUGH: usize = 200;

fn address(cluster: &Cluster, ordinal: usize) -> String {
    let pod = cluster.get(&["pod", &format!("redis-cluster-{ordinal}")]);
    format!("{}:6379", pod["status"]["podIP"].as_str().expect("an address"))
}

fn running(cluster: &Cluster) -> Vec<String> {
    cluster.load_redis();
    cluster.apply(include_str!("../../examples/redis-cluster.yaml"));
    cluster.ready("redis-cluster", 6);
    let nodes: Vec<_> = (0..6).map(|ordinal| address(cluster, ordinal)).collect();
    let create = format!("redis-cli --cluster create {} --cluster-replicas 1 --cluster-yes", nodes.join(" "));
    assert!(cluster.shell("redis-cluster-0", &create).contains("All 16384 slots covered"));
    healthy(cluster, 6);
    nodes
}

fn healthy(cluster: &Cluster, instances: usize) {
    let all = format!("cluster_known_nodes:{instances}");
    cluster.until("every instance finds the cluster ok", || {
        (0..instances).all(|ordinal| {
            let info = cluster.shell(&format!("redis-cluster-{ordinal}"), "redis-cli cluster info 2>/dev/null || true");
            info.contains("cluster_state:ok") && info.contains(&all)
        })
    });
}

/// Writes a new key all the time until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<u64>>>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(nodes: &[String]) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<u64>>>::default());
        let (ended, written, mut client) = (Arc::clone(&stop), Arc::clone(&acknowledged), client(nodes));
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                let answer = client.command(&["SET", &format!("key:{number}"), &number.to_string()]);
                if answer.is_ok_and(|answer| answer.as_deref() == Some("OK")) {
                    written.lock().expect("no panic").push(number);
                }
                number += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, acknowledged, thread }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("no panic").len()
    }

    /// Waits until more was written.
    fn goes_on(&self, cluster: &Cluster) {
        let before = self.count();
        cluster.until("the client writes", || self.count() >= before + ENOUGH);
    }

    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ends");
        std::mem::take(&mut self.acknowledged.lock().expect("no panic"))
    }
}

fn client(nodes: &[String]) -> RedisCluster {
    RedisCluster::new(nodes.iter().map(|node| node.parse::<SocketAddr>().expect("an address")).collect())
}

/// Those of the acknowledged writes that can't be read.
fn lost(nodes: &[String], acknowledged: &[u64]) -> Vec<u64> {
    let mut client = client(nodes);
    let mut is_lost = |number: &u64| {
        let key = format!("key:{number}");
        let answer = (0..20).find_map(|_| client.command(&["GET", &key]).ok());
        answer.flatten() != Some(number.to_string())
    };
    acknowledged.iter().copied().filter(|number| is_lost(number)).collect()
}

#[test]
fn an_update_of_all_instances_under_constant_writes_loses_none() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::start();
    let nodes = running(&cluster);
    let uids =
        || (0..6).map(|ordinal| cluster.get(&["pod", &format!("redis-cluster-{ordinal}")])["metadata"]["uid"].clone()).collect::<Vec<_>>();
    let before = uids();
    assert!(cluster.shell("redis-cluster-0", "redis-cli role").starts_with("master"));
    let writer = Writer::start(&nodes);
    writer.goes_on(&cluster);
    cluster.kubectl(&["set", "env", "statefulset/redis-cluster", "ROUND=two"]);
    cluster.kubectl(&["rollout", "status", "statefulset/redis-cluster", "--timeout=300s"]);
    writer.goes_on(&cluster);
    let acknowledged = writer.end();
    healthy(&cluster, 6);
    assert!(before.iter().zip(uids()).all(|(before, after)| *before != after), "every instance was replaced");
    // The last one to be replaced was a master, and had handed over before it went.
    assert!(cluster.shell("redis-cluster-0", "redis-cli role").starts_with("slave"));
    let lost = lost(&nodes, &acknowledged);
    println!("rolling update of 6 under constant writes: {} acknowledged, {} lost", acknowledged.len(), lost.len());
    assert_eq!(lost, [0; 0]);
}

#[test]
fn instances_that_are_scaled_away_leave_their_slots_behind_and_lose_nothing() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::start();
    let nodes = running(&cluster);
    let writer = Writer::start(&nodes);
    writer.goes_on(&cluster);
    cluster.kubectl(&["scale", "statefulset", "redis-cluster", "--replicas", "8"]);
    cluster.ready("redis-cluster", 8);
    join(&cluster, &nodes[0]);
    writer.goes_on(&cluster);
    cluster.kubectl(&["scale", "statefulset", "redis-cluster", "--replicas", "6"]);
    cluster.ready("redis-cluster", 6);
    writer.goes_on(&cluster);
    let acknowledged = writer.end();
    healthy(&cluster, 6);
    let lost = lost(&nodes, &acknowledged);
    println!("6 to 8 to 6 under constant writes: {} acknowledged, {} lost", acknowledged.len(), lost.len());
    assert_eq!(lost, [0; 0]);
}

/// The seventh becomes a master with slots, the eighth its replica.
fn join(cluster: &Cluster, first: &str) {
    let (seventh, eighth) = (address(cluster, 6), address(cluster, 7));
    cluster.shell("redis-cluster-0", &format!("redis-cli --cluster add-node {seventh} {first}"));
    let master = cluster.shell("redis-cluster-6", "redis-cli cluster myid");
    healthy(cluster, 7);
    cluster
        .shell("redis-cluster-0", &format!("redis-cli --cluster add-node {eighth} {first} --cluster-slave --cluster-master-id {master}"));
    healthy(cluster, 8);
    cluster.shell("redis-cluster-0", &format!("redis-cli --cluster rebalance {first} --cluster-use-empty-masters"));
    let slots = cluster.shell("redis-cluster-6", "redis-cli cluster nodes | awk '$3 ~ /myself/ && NF > 8'");
    assert!(!slots.is_empty(), "the seventh instance has slots");
}
