//! The nodes against a server that is made up.

mod server;

use std::collections::HashSet;

use informer::Watched;
use kinds::ObjectKey;
use plan::binding::{LOCAL_PROVISIONER, SELECTED_NODE};
use serde_json::{Value, json};

use super::*;
use server::Server;
pub(crate) use server::merge;

const PODS: &str = "/api/v1/namespaces/shop/pods";
const CLAIM: &str = "/api/v1/namespaces/shop/persistentvolumeclaims/data-web-0";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Nodes that run until this is dropped.
struct Running {
    server: Server,
    views: Views,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn watched<K: Watched>(client: &Client) -> Informer<K> {
    Informer::start(informer::Api::all(client.clone()))
}

/// Runs two nodes on this server.
async fn run(server: Server, pod_network: (Ipv4Addr, u8)) -> Running {
    let client = server.client();
    let views = Views { pods: watched(&client), claims: watched(&client), volumes: watched(&client), storage_classes: watched(&client) };
    let nodes = register(&client, &Options { nodes: 2, pod_network, ..Options::default() }).await.unwrap();
    let task = tokio::spawn(nodes.run(client, views.clone(), std::future::pending()));
    Running { server, views, task }
}

const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 0), 16);

impl Running {
    /// Makes a pod on the first node, or changes it.
    fn put(&self, name: &str, change: Value) {
        put(&self.server, name, change);
    }

    async fn until(&self, name: &str, wanted: impl Fn(Option<&Pod>) -> bool) {
        let key = ObjectKey::new("shop", name);
        let view = self.views.pods.until(&key, wanted);
        tokio::time::timeout(std::time::Duration::from_secs(20), view).await.expect("the pod came to be as wanted");
    }

    async fn until_ready(&self, name: &str) {
        self.until(name, |pod| pod.is_some_and(is_ready)).await;
    }

    fn address(&self, name: &str) -> String {
        self.server.get(&format!("{PODS}/{name}")).unwrap()["status"]["podIP"].as_str().unwrap().to_owned()
    }

    fn written(&self, path: &str) -> usize {
        self.server.state().written.iter().filter(|write| write.ends_with(path)).count()
    }
}

fn put(server: &Server, name: &str, change: Value) {
    let path = format!("{PODS}/{name}");
    if server.get(&path).is_some() {
        return server.put(&path, change);
    }
    let containers = json!([{"name": "c", "image": "redis:8"}]);
    let mut pod = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"nodeName": "simulated-0", "containers": containers}});
    merge(&mut pod, &change);
    server.put(&path, pod);
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[tokio::test]
async fn each_pod_becomes_ready_by_one_write_though_others_fail() {
    let nodes = run(Server::default(), NETWORK).await;
    nodes.server.state().failing = Some(7);
    let names: Vec<_> = (0..300).map(|number| format!("web-{number}")).collect();
    names.iter().for_each(|name| nodes.put(name, json!({})));
    for name in &names {
        nodes.until_ready(name).await;
    }
    let addresses: HashSet<_> = names.iter().map(|name| nodes.address(name)).collect();
    assert_eq!(addresses.len(), names.len());
    assert_eq!(nodes.server.state().written.iter().filter(|write| write.starts_with("PATCH /api/v1/namespaces/shop")).count(), 300);
    let most = nodes.server.state().most_under_way;
    assert!((2..=64).contains(&most), "{most}");
}

#[tokio::test]
async fn pods_of_other_nodes_are_left_alone() {
    let nodes = run(Server::default(), NETWORK).await;
    nodes.put("other", json!({"spec": {"nodeName": "real"}}));
    nodes.put("free", json!({"spec": {"nodeName": null}}));
    nodes.put("mine", json!({}));
    nodes.until_ready("mine").await;
    assert_eq!((nodes.written("/other"), nodes.written("/free")), (0, 0));
    nodes.put("free", json!({"spec": {"nodeName": "simulated-1"}}));
    nodes.until_ready("free").await;
}

#[tokio::test]
async fn an_ordinal_that_is_deleted_goes_and_comes_back_with_its_address() {
    let nodes = run(Server::default(), NETWORK).await;
    let owned = json!({"metadata": {"ownerReferences":
        [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "controller": true}]}});
    nodes.put("web-0", owned.clone());
    nodes.until_ready("web-0").await;
    let address = nodes.address("web-0");
    nodes.put("web-0", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}}));
    nodes.until("web-0", |pod| pod.is_none()).await;
    nodes.put("other", json!({}));
    nodes.until_ready("other").await;
    nodes.put("web-0", owned);
    nodes.until_ready("web-0").await;
    assert_eq!(nodes.address("web-0"), address);
}

#[tokio::test]
async fn a_pod_that_is_to_fail_waits_until_the_annotation_goes() {
    let nodes = run(Server::default(), NETWORK).await;
    nodes.put("web-0", json!({"metadata": {"annotations": {FAILURE: "ImagePullBackOff"}}}));
    nodes.until("web-0", |pod| pod.is_some_and(|pod| pod.status.is_some())).await;
    let status = nodes.server.get(&format!("{PODS}/web-0")).unwrap()["status"].clone();
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "ImagePullBackOff");
    nodes.put("web-0", json!({"metadata": {"annotations": null}}));
    nodes.until_ready("web-0").await;
}

#[tokio::test]
async fn a_pod_that_takes_time_runs_first_and_is_ready_later() {
    let nodes = run(Server::default(), NETWORK).await;
    nodes.put("web-0", json!({"metadata": {"annotations": {READY_AFTER: "50ms"}}}));
    nodes.until_ready("web-0").await;
    assert_eq!(nodes.written("/web-0"), 2);
}

#[tokio::test]
async fn a_pod_without_an_address_gets_the_first_that_is_free() {
    let nodes = run(Server::default(), (Ipv4Addr::new(10, 77, 0, 0), 29)).await;
    for name in ["a", "b", "c", "d"] {
        nodes.put(name, json!({}));
        nodes.until_ready(name).await;
    }
    nodes.put("e", json!({}));
    nodes.until("e", |pod| pod.is_some_and(|pod| pod.status.is_some())).await;
    let free = nodes.address("b");
    nodes.put("b", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    nodes.until_ready("e").await;
    assert_eq!(nodes.address("e"), free);
}

#[tokio::test]
async fn pods_of_an_earlier_run_keep_their_addresses() {
    let first = run(Server::default(), NETWORK).await;
    first.put("web-1", json!({}));
    first.until_ready("web-1").await;
    let (server, address) = (first.server.clone(), first.address("web-1"));
    drop(first);
    put(&server, "web-0", json!({}));
    let second = run(server, NETWORK).await;
    second.until_ready("web-0").await;
    assert_eq!((second.address("web-1"), second.written("/web-1")), (address.clone(), 1));
    assert_ne!(second.address("web-0"), address);
}

#[tokio::test]
async fn a_claim_of_a_node_gets_a_volume_which_goes_when_it_is_released() {
    let nodes = run(Server::default(), NETWORK).await;
    nodes.server.put(
        CLAIM,
        json!({"metadata": {"name": "data-web-0", "namespace": "shop", "uid": "u", "annotations": {SELECTED_NODE: "simulated-1"}},
            "spec": {"storageClassName": "local", "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    let class = "/apis/storage.k8s.io/v1/storageclasses/local";
    nodes.server.put(class, json!({"metadata": {"name": "local"}, "provisioner": LOCAL_PROVISIONER, "reclaimPolicy": "Delete"}));
    let key = ObjectKey::cluster("pvc-u");
    nodes.views.volumes.until(&key, |volume| volume.is_some()).await;
    nodes.server.put("/api/v1/persistentvolumes/pvc-u", json!({"status": {"phase": "Released"}}));
    nodes.views.volumes.until(&key, |volume| volume.is_none()).await;
    assert_eq!(nodes.written("POST /api/v1/persistentvolumes/pvc-u"), 1);
}

#[tokio::test]
async fn nodes_are_registered_with_leases_and_those_of_an_earlier_run_are_reused() {
    let server = Server::default();
    let options = Options { nodes: 2, ..Options::default() };
    let nodes = register(&server.client(), &options).await.unwrap();
    assert_eq!(nodes.names().collect::<Vec<_>>(), ["simulated-0", "simulated-1"]);
    let node = server.get("/api/v1/nodes/simulated-1").unwrap();
    assert_eq!((&node["metadata"]["annotations"][SIMULATED], &node["spec"]["taints"]), (&json!("true"), &Value::Null));
    let lease = server.get(&format!("{LEASES}/simulated-1")).unwrap();
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], node["metadata"]["uid"]);

    register(&server.client(), &options).await.unwrap();
    assert_eq!(server.get("/api/v1/nodes/simulated-1").unwrap()["metadata"]["uid"], node["metadata"]["uid"]);
}

#[tokio::test]
async fn a_lost_lease_is_made_again_unless_its_node_was_deleted() {
    let server = Server::default();
    let nodes = register(&server.client(), &Options::default()).await.unwrap();
    let path = format!("{LEASES}/simulated-0");
    server.put(&path, Value::Null);
    lease::renew(&server.client(), &nodes.members[0]).await.unwrap();
    assert!(server.get(&path).is_some());

    server.put(&path, Value::Null);
    server.put("/api/v1/nodes/simulated-0", Value::Null);
    lease::renew(&server.client(), &nodes.members[0]).await.unwrap();
    assert!(server.get(&path).is_none());
}

#[tokio::test]
async fn nodes_that_are_real_or_too_many_are_refused() {
    let server = Server::default();
    server.put("/api/v1/nodes/simulated-0", json!({"metadata": {"name": "simulated-0"}}));
    let refused = register(&server.client(), &Options::default()).await.unwrap_err();
    assert!(matches!(refused, RegisterError::NotSimulated { name } if name == "simulated-0"));
    let options = Options { nodes: 7, pod_network: (Ipv4Addr::new(10, 77, 0, 0), 29), ..Options::default() };
    let refused = register(&server.client(), &options).await.unwrap_err();
    assert!(matches!(refused, RegisterError::NetworkTooSmall { nodes: 7, .. }));
}
