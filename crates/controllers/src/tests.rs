//! The controllers at work against a small server, each story from what a user does to what they see.

mod budgets;
mod server;

use std::future::pending;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Informers, Inventory};
use server::Server;

/// A server and the controllers of one story, which end with it.
struct Story {
    server: Server,
    informers: Informers,
    tasks: JoinSet<()>,
}

impl Story {
    fn new() -> Self {
        let server = Server::default();
        let informers = Informers::start(&server.client());
        Self { server, informers, tasks: JoinSet::new() }
    }

    fn with_scheduler(mut self) -> Self {
        let (client, informers) = (self.server.client(), self.informers.clone());
        self.tasks.spawn(async move { crate::scheduler::run(client, &informers, pending()).await });
        self
    }

    fn with_binding(mut self) -> Self {
        let (client, informers) = (self.server.client(), self.informers.clone());
        self.tasks.spawn(async move { crate::binding::run(client, &informers, pending()).await });
        self
    }

    fn with_endpoints(mut self) -> Self {
        let (client, informers) = (self.server.client(), self.informers.clone());
        self.tasks.spawn(async move { crate::endpoints::run(client, &informers, pending()).await });
        self
    }

    fn with_nodes(mut self) -> Self {
        let (client, informers) = (self.server.client(), self.informers.clone());
        self.tasks.spawn(async move { crate::nodes::run(client, &informers, pending()).await });
        self
    }

    fn with_service_accounts(mut self) -> Self {
        let (client, informers) = (self.server.client(), self.informers.clone());
        self.tasks.spawn(async move { crate::service_accounts::run(client, &informers, "PEM".into(), pending()).await });
        self
    }

    /// The garbage collector and the namespaces' undertaker, who share what is known of all objects.
    fn with_collectors(mut self) -> Self {
        let inventory = Inventory::start(&self.server.client());
        let (client, shared) = (self.server.client(), inventory.clone());
        self.tasks.spawn(async move { crate::garbage::run(client, &shared, pending()).await });
        let (client, informers) = (self.server.client(), self.informers.clone());
        self.tasks.spawn(async move { crate::namespaces::run(client, &informers, &inventory, pending()).await });
        self
    }

    fn with_statefulsets(mut self) -> Self {
        let (client, informers) = (self.server.client(), self.informers.clone());
        self.tasks.spawn(async move { crate::statefulset::run(client, &informers, pending()).await });
        self
    }

    /// Makes pods that have a node ready, each at an address of its own, and ends those that are to go.
    fn with_kubelet(mut self) -> Self {
        let (server, informers) = (self.server.clone(), self.informers.clone());
        self.tasks.spawn(async move {
            let mut pods = informers.pods.subscribe();
            loop {
                for pod in pods.changes().await.into_iter().filter_map(|change| change.new) {
                    run(&server, &serde_json::to_value(&*pod).unwrap());
                }
            }
        });
        self
    }

    /// Makes volumes for claims that know their node, as the node's agent does.
    fn with_provisioner(mut self) -> Self {
        let (server, informers) = (self.server.clone(), self.informers.clone());
        self.tasks.spawn(async move {
            let mut claims = informers.claims.subscribe();
            loop {
                for claim in claims.changes().await.into_iter().filter_map(|change| change.new) {
                    provision(&server, &serde_json::to_value(&*claim).unwrap());
                }
            }
        });
        self
    }
}

fn provision(server: &Server, claim: &Value) {
    let annotations = &claim["metadata"]["annotations"];
    let node = &annotations["volume.kubernetes.io/selected-node"];
    let asked = annotations["volume.kubernetes.io/storage-provisioner"] == "steadfast.dev/local";
    let name = format!("pvc-{}", claim["metadata"]["uid"].as_str().unwrap());
    if !asked || node.is_null() || server.find("persistentvolumes", "", &name).is_some() {
        return;
    }
    let reference =
        json!({"namespace": claim["metadata"]["namespace"], "name": claim["metadata"]["name"], "uid": claim["metadata"]["uid"]});
    let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]});
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local", "claimRef": reference,
        "persistentVolumeReclaimPolicy": "Delete", "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}});
    let annotations = json!({"pv.kubernetes.io/provisioned-by": "steadfast.dev/local"});
    server.create("persistentvolumes", json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec}));
}

fn run(server: &Server, pod: &Value) {
    let name = pod["metadata"]["name"].as_str().unwrap();
    if pod["spec"]["nodeName"].is_null() || server.find("pods", "default", name).is_none() {
        return;
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        server.delete("pods", "default", name, json!({"gracePeriodSeconds": 0}));
    } else if pod["status"]["phase"] != "Running" {
        let address = format!("10.0.0.{}", name.rsplit('-').next().unwrap());
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        server.merge("pods", "default", name, &json!({"status": {"phase": "Running", "podIP": address, "conditions": ready}}));
    }
}

fn node(name: &str, cpu: &str) -> Value {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}, "conditions": ready}})
}

fn pod(name: &str, spec: Value) -> Value {
    let mut whole = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": name, "labels": {"app": "redis"}}, "spec": whole, "status": {"phase": "Pending"}})
}

fn claim(name: &str) -> Value {
    let spec = json!({"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    json!({"metadata": {"name": name}, "spec": spec})
}

fn owned_by(uid: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "owner", "uid": uid, "blockOwnerDeletion": true, "controller": true}])
}

fn is_bound(server: &Server, name: &str) -> bool {
    server.find("pods", "default", name).is_some_and(|pod| pod["spec"]["nodeName"].is_string())
}

/// `reason message` of each event about a pod.
fn events(server: &Server) -> Vec<String> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    server.all("events").iter().map(|event| format!("{} {}", text(event, "reason"), text(event, "message"))).collect()
}

#[tokio::test]
async fn a_pod_with_a_new_claim_is_bound_after_its_volume() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_scheduler().with_binding().with_provisioner();
    let class = json!({"metadata": {"name": "local"}, "provisioner": "steadfast.dev/local", "volumeBindingMode": "WaitForFirstConsumer"});
    server.create("storageclasses", class);
    server.create("nodes", node("n1", "4"));
    for ordinal in 0..6 {
        server.create("persistentvolumeclaims", claim(&format!("data-{ordinal}")));
        let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": format!("data-{ordinal}")}}]);
        server.create("pods", pod(&format!("redis-{ordinal}"), json!({"volumes": volumes})));
    }
    server.until("six pods bound", |server| (0..6).all(|ordinal| is_bound(server, &format!("redis-{ordinal}")))).await;
    let claims = server.all("persistentvolumeclaims");
    assert!(claims.iter().all(|claim| claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] == "yes"));
    server.until("volumes bound", |server| server.all("persistentvolumes").iter().all(|volume| volume["status"]["phase"] == "Bound")).await;
    server.until("said", |server| events(server).contains(&"Scheduled Successfully assigned default/redis-0 to n1".to_owned())).await;
    let failed = events(&server).iter().any(|event| event.starts_with("FailedScheduling"));
    assert!(!failed, "{:?}", events(&server));
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_so_and_goes_to_the_node_that_comes() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_scheduler();
    server.create("nodes", node("small", "50m"));
    server.create("pods", pod("a", json!({})));
    let message = "0/1 nodes are available: 1 Insufficient cpu.";
    let said = |server: &Server| {
        let pod = server.find("pods", "default", "a").unwrap();
        pod["status"]["conditions"][0]["message"] == message && pod["status"]["conditions"][0]["reason"] == "Unschedulable"
    };
    server.until("the condition", said).await;
    server.until("the event", |server| events(server) == [format!("FailedScheduling {message}")]).await;
    server.create("nodes", node("large", "4"));
    server.until("bound", |server| is_bound(server, "a")).await;
    assert_eq!(server.find("pods", "default", "a").unwrap()["spec"]["nodeName"], "large");
}

#[tokio::test]
async fn the_room_of_a_pod_that_goes_is_given_to_the_next() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_scheduler();
    server.create("nodes", node("n", "100m"));
    server.create("pods", pod("first", json!({})));
    server.until("the first bound", |server| is_bound(server, "first")).await;
    server.create("pods", pod("gated", json!({"schedulingGates": [{"name": "g"}]})));
    server.create("pods", pod("second", json!({})));
    server.until("the second waits", |server| !events(server).iter().all(|event| event.starts_with("Scheduled"))).await;
    server.delete("pods", "default", "first", json!({"gracePeriodSeconds": 0}));
    server.until("the second bound", |server| is_bound(server, "second")).await;
    assert!(!is_bound(&server, "gated"));
}

#[tokio::test]
async fn a_claim_is_kept_while_a_pod_uses_it_and_its_volume_is_released_after() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_binding();
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local"});
    server.create("persistentvolumes", json!({"metadata": {"name": "disk"}, "spec": spec}));
    server.create("persistentvolumeclaims", claim("data"));
    let phase = |resource: &'static str, namespace: &'static str, name: &'static str, wanted: &'static str| {
        move |server: &Server| server.find(resource, namespace, name).is_some_and(|object| object["status"]["phase"] == wanted)
    };
    server
        .until("both bound", |server| {
            phase("persistentvolumes", "", "disk", "Bound")(server) && phase("persistentvolumeclaims", "default", "data", "Bound")(server)
        })
        .await;
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    server.create("pods", pod("user", json!({"nodeName": "n", "volumes": volumes})));
    server.delete("persistentvolumeclaims", "default", "data", json!({}));
    assert!(server.find("persistentvolumeclaims", "default", "data").is_some());
    server.delete("pods", "default", "user", json!({"gracePeriodSeconds": 0}));
    server.until("the claim gone", |server| server.find("persistentvolumeclaims", "default", "data").is_none()).await;
    server.until("released", phase("persistentvolumes", "", "disk", "Released")).await;
}

#[tokio::test]
async fn endpoints_follow_pods_and_go_with_the_service() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_endpoints().with_collectors();
    let spec = json!({"clusterIP": "None", "selector": {"app": "redis"}, "ports": [{"name": "client", "port": 6379}]});
    server.create("services", json!({"metadata": {"name": "redis"}, "spec": spec}));
    let running = |name: &str, address: &str| {
        let mut pod = pod(name, json!({"nodeName": "n", "hostname": name, "subdomain": "redis"}));
        pod["status"] = json!({"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]});
        pod
    };
    server.create("pods", running("redis-0", "10.0.0.1"));
    server.create("pods", running("redis-1", "10.0.0.2"));
    let hosts = |server: &Server| -> Vec<String> {
        let endpoints =
            server.all("endpointslices").into_iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        endpoints.filter_map(|endpoint| Some(endpoint["hostname"].as_str()?.to_owned())).collect()
    };
    server.until("both published", |server| hosts(server).len() == 2).await;
    server.delete("pods", "default", "redis-1", json!({"gracePeriodSeconds": 0}));
    server.until("one published", |server| hosts(server) == ["redis-0"]).await;
    let classic = |server: &Server| server.find("endpoints", "default", "redis");
    server
        .until("the classic one", |server| {
            classic(server).is_some_and(|it| it["subsets"][0]["addresses"].as_array().is_some_and(|all| all.len() == 1))
        })
        .await;
    assert!(server.all("endpointslices").len() == 1);
    server.delete("services", "default", "redis", json!({}));
    server.until("all gone", |server| server.all("endpointslices").is_empty() && classic(server).is_none()).await;
}

/// A set of six with a claim each, and the Service that governs it.
fn redis_cluster(server: &Server) {
    server.create(
        "storageclasses",
        json!({"metadata": {"name": "local"}, "provisioner": "steadfast.dev/local", "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    let spec = json!({"clusterIP": "None", "selector": {"app": "redis"}, "ports": [{"name": "client", "port": 6379}], "publishNotReadyAddresses": true});
    server.create("services", json!({"metadata": {"name": "redis"}, "spec": spec}));
    let labels = json!({"app": "redis"});
    let set = json!({
        "replicas": 6, "serviceName": "redis", "selector": {"matchLabels": labels}, "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate"}, "revisionHistoryLimit": 10,
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "redis", "image": "redis"}]}},
        "volumeClaimTemplates": [claim("data")],
    });
    server.create("statefulsets", json!({"metadata": {"name": "redis"}, "spec": set}));
}

#[tokio::test]
async fn a_set_of_six_comes_up_with_volumes_and_names_and_leaves_only_its_claims_behind() {
    let story = Story::new().with_statefulsets().with_scheduler().with_binding().with_provisioner().with_endpoints();
    let Story { server, tasks: _tasks, .. } = story.with_kubelet().with_collectors().with_nodes();
    server.create("nodes", node("n1", "4"));
    server.create("nodes", node("n2", "4"));
    redis_cluster(&server);
    let hosts = |server: &Server| -> Vec<String> {
        let endpoints =
            server.all("endpointslices").into_iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        endpoints.filter_map(|endpoint| Some(endpoint["hostname"].as_str()?.to_owned())).collect()
    };
    server.until("six published", |server| hosts(server).len() == 6).await;
    server.until("six ready", |server| server.find("statefulsets", "default", "redis").unwrap()["status"]["readyReplicas"] == 6).await;
    let on = |wanted: &str| server.all("pods").iter().filter(|pod| pod["spec"]["nodeName"] == wanted).count();
    assert_eq!((on("n1"), on("n2")), (3, 3), "pods of one owner are spread");
    server.delete("statefulsets", "default", "redis", json!({"propagationPolicy": "Background"}));
    server
        .until("no pods", |server| {
            server.all("pods").is_empty() && server.all("controllerrevisions").is_empty() && hosts(server).is_empty()
        })
        .await;
    assert_eq!((server.all("persistentvolumeclaims").len(), server.all("persistentvolumes").len()), (6, 6));
}

fn family(server: &Server) {
    server.create("statefulsets", json!({"metadata": {"name": "owner", "uid": "owner-uid"}, "spec": {}}));
    for ordinal in 0..3 {
        server.create("configmaps", json!({"metadata": {"name": format!("child-{ordinal}"), "ownerReferences": owned_by("owner-uid")}}));
    }
    server.create("configmaps", json!({"metadata": {"name": "bystander"}}));
}

fn children(server: &Server) -> usize {
    server.all("configmaps").len() - 1
}

#[tokio::test]
async fn dependents_go_with_their_owner_in_the_background() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_collectors();
    family(&server);
    server.delete("statefulsets", "default", "owner", json!({"propagationPolicy": "Background"}));
    server.until("no children", |server| children(server) == 0).await;
}

#[tokio::test]
async fn dependents_go_before_their_owner_in_the_foreground() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_collectors();
    family(&server);
    server.delete("statefulsets", "default", "owner", json!({"propagationPolicy": "Foreground"}));
    assert!(server.find("statefulsets", "default", "owner").is_some());
    server.until("the owner gone", |server| server.find("statefulsets", "default", "owner").is_none()).await;
    assert_eq!(children(&server), 0);
}

#[tokio::test]
async fn dependents_stay_without_their_owner_when_orphaned() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_collectors();
    family(&server);
    server.delete("statefulsets", "default", "owner", json!({"propagationPolicy": "Orphan"}));
    server.until("the owner gone", |server| server.find("statefulsets", "default", "owner").is_none()).await;
    assert_eq!(children(&server), 3);
    let orphaned = |object: &Value| object["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty);
    assert!(server.all("configmaps").iter().all(orphaned));
}

#[tokio::test]
async fn what_was_left_by_an_owner_that_went_unseen_is_found_at_the_start() {
    let server = Server::default();
    family(&server);
    server.delete("statefulsets", "default", "owner", json!({}));
    let informers = Informers::start(&server.client());
    let Story { server, tasks: _tasks, .. } = Story { server, informers, tasks: JoinSet::new() }.with_collectors();
    server.until("no children", |server| children(server) == 0).await;
}

#[tokio::test]
async fn a_namespace_goes_after_all_it_holds_and_says_what_it_waits_for() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_collectors();
    server.create("namespaces", json!({"metadata": {"name": "shop"}}));
    server.create("configmaps", json!({"metadata": {"namespace": "shop", "name": "a"}}));
    server.create("secrets", json!({"metadata": {"namespace": "shop", "name": "held", "finalizers": ["x.io/y"]}}));
    server.create("configmaps", json!({"metadata": {"name": "elsewhere"}}));
    server.delete("namespaces", "", "shop", json!({}));
    let said = |server: &Server| {
        let namespace = server.find("namespaces", "", "shop").unwrap();
        namespace["status"]["conditions"].as_array().is_some_and(|all| {
            all.iter().any(|condition| condition["message"] == "Some resources are remaining: secrets. has 1 resource instances")
        })
    };
    server.until("the conditions", said).await;
    server.merge("secrets", "shop", "held", &json!({"metadata": {"finalizers": []}}));
    server.until("the namespace gone", |server| server.find("namespaces", "", "shop").is_none()).await;
    assert_eq!((server.all("secrets").len(), server.all("configmaps").len()), (0, 1));
}

#[tokio::test]
async fn each_namespace_begins_with_an_account_and_the_certificate_which_is_put_right() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_service_accounts();
    crate::namespaces::ensure_system(&server.client()).await.unwrap();
    crate::namespaces::ensure_system(&server.client()).await.unwrap();
    let right = |server: &Server, namespace: &str| {
        let certificate = server.find("configmaps", namespace, "kube-root-ca.crt");
        let account = server.find("serviceaccounts", namespace, "default");
        account.is_some() && certificate.is_some_and(|map| map["data"] == json!({"ca.crt": "PEM"}))
    };
    let all = ["default", "kube-system", "kube-public", "kube-node-lease"];
    server.until("furnished", |server| all.iter().all(|namespace| right(server, namespace))).await;
    server.merge("configmaps", "default", "kube-root-ca.crt", &json!({"data": {"ca.crt": "forged"}}));
    server.delete("serviceaccounts", "default", "default", json!({}));
    server.until("put right", |server| right(server, "default")).await;
    assert!(server.writes("namespaces") == 4);
}

#[tokio::test]
async fn pods_leave_a_node_they_do_not_tolerate_and_those_that_nobody_runs_end() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_nodes();
    server.create("nodes", node("good", "4"));
    server.create("nodes", node("bad", "4"));
    server.create("pods", pod("there", json!({"nodeName": "bad"})));
    server.create("pods", pod("loyal", json!({"nodeName": "bad", "tolerations": [{"operator": "Exists"}]})));
    server.create("pods", json!({"metadata": {"name": "nowhere", "finalizers": ["x.io/y"]}, "spec": {"containers": []}}));
    server.delete("pods", "default", "nowhere", json!({"gracePeriodSeconds": 30}));
    server.merge("nodes", "", "bad", &json!({"spec": {"taints": [{"key": "out", "effect": "NoExecute"}]}}));
    let leaving = |server: &Server, name: &str| {
        server.find("pods", "default", name).is_some_and(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
    };
    server.until("evicted", |server| leaving(server, "there")).await;
    let conditions = server.find("pods", "default", "there").unwrap()["status"]["conditions"].clone();
    assert_eq!(conditions[0]["reason"], "DeletionByTaintManager");
    server.until("ended", |server| server.find("pods", "default", "nowhere").unwrap()["metadata"]["deletionGracePeriodSeconds"] == 0).await;
    assert!(!leaving(&server, "loyal"));
}
