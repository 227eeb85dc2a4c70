//! The controllers at work on the real API server and store; only the node is made up.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apiserver::certificates::Certificates;
use apiserver::{Config, Limits, Server};
use controllers::{Informers, Inventory};
use informer::Informer;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::embedded::{Embedded, Options};
use tokio::task::JoinSet;

#[path = "controllers/gates.rs"]
mod gates;
#[path = "controllers/node.rs"]
mod node;

/// A control plane of its own, which ends with the test.
struct Cluster {
    admin: Client,
    informers: Informers,
    commands: node::Commands,
    _server: Server,
    _tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(&dir.path().join("store"), Options::default()).unwrap());
        let certificates = Certificates::open(dir.path()).unwrap();
        let commands = node::Commands::default();
        let config = Config {
            service_range: "10.96.0.0/16".parse().unwrap(),
            token_key: Arc::new(certificates.token_key().unwrap()),
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            node_dialer: Some(commands.dialer()),
            limits: Limits::default(),
            audit: None,
            user_roles: testkit::user_roles(),
        };
        let server = Server::new(config, store).await.unwrap();
        let manager = server.client("system:kube-controller-manager", &[]);
        let admin = server.client("admin", &["system:masters"]);
        controllers::namespaces::ensure_system(&admin).await.unwrap();
        let informers = Informers::start(&manager);
        let mut tasks = control(&manager, &informers, |user| server.client(user, &[]));
        // Made-up nodes and volumes are of no node that there is.
        let kubelet = admin.clone();
        tasks.spawn(run_pods(kubelet.clone(), informers.clone(), commands.clone()));
        tasks.spawn(make_volumes(kubelet, informers.clone()));
        Self { admin, informers, commands, _server: server, _tasks: tasks, _dir: dir }
    }

    async fn create<K>(&self, object: Value)
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        let url = K::url_path(&(), object.meta().namespace.as_deref());
        let request = kube::core::Request::new(url).create(&PostParams::default(), serde_json::to_vec(&object).unwrap()).unwrap();
        self.admin.request::<K>(request).await.unwrap();
    }
}

/// Every controller that the story needs.
fn control(manager: &Client, informers: &Informers, client_of: impl Fn(&str) -> Client) -> JoinSet<()> {
    let inventory = Inventory::start(manager);
    let mut tasks = JoinSet::new();
    let (client, shared) = (client_of("system:controller:statefulset-controller"), informers.clone());
    tasks.spawn(async move { controllers::statefulset::run(client, &shared, pending()).await });
    let (scheduler, shared) = (client_of("system:kube-scheduler"), informers.clone());
    tasks.spawn(async move { controllers::scheduler::run(scheduler, &shared, pending()).await });
    let (client, shared) = (manager.clone(), informers.clone());
    tasks.spawn(async move { controllers::binding::run(client, &shared, pending()).await });
    let (client, shared) = (manager.clone(), informers.clone());
    tasks.spawn(async move { controllers::disruption::run(client, &shared, pending()).await });
    let (client, shared) = (manager.clone(), informers.clone());
    tasks.spawn(async move { controllers::endpoints::run(client, &shared, pending()).await });
    let (client, shared) = (manager.clone(), informers.clone());
    tasks.spawn(async move { controllers::nodes::run(client, &shared, pending()).await });
    let (client, shared) = (manager.clone(), informers.clone());
    tasks.spawn(async move { controllers::service_accounts::run(client, &shared, "PEM".into(), pending()).await });
    let (client, graph) = (manager.clone(), inventory.clone());
    tasks.spawn(async move { controllers::garbage::run(client, &graph, pending()).await });
    let (client, shared) = (manager.clone(), informers.clone());
    tasks.spawn(async move { controllers::namespaces::run(client, &shared, &inventory, pending()).await });
    tasks
}

/// Makes bound pods ready at once, each at an address of its own, and ends those that are to go. Hooks end as the test says.
async fn run_pods(client: Client, informers: Informers, commands: node::Commands) {
    let mut pods = informers.pods.subscribe();
    loop {
        for pod in pods.changes().await.into_iter().filter_map(|change| change.new) {
            if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
                run_pod(&client, &pod, &commands).await;
            }
        }
    }
}

async fn run_pod(client: &Client, pod: &Pod, commands: &node::Commands) {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap());
    let name = pod.name_any();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
    } else if pod.labels().contains_key("steadfast.dev/hook-for") {
        if phase == Some("Pending") {
            let patch = Patch::Strategic(json!({"status": commands.end(pod)}));
            api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        }
    } else if phase != Some("Running") || pod.status.as_ref().and_then(|status| status.observed_generation) != pod.metadata.generation {
        let address = format!("10.0.0.{}", name.rsplit('-').next().unwrap());
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        // A container for each version of the specification.
        let generation = pod.metadata.generation;
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
            json!({"name": container.name, "image": container.image, "imageID": "", "ready": true, "restartCount": 0,
                "containerID": format!("made-up://{}", generation.unwrap_or(0))})
        });
        let containers: Vec<_> = containers.collect();
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready,
            "containerStatuses": containers, "observedGeneration": generation}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
    }
}

/// Makes a volume for each claim that has been given a node.
async fn make_volumes(client: Client, informers: Informers) {
    let mut claims = informers.claims.subscribe();
    loop {
        for claim in claims.changes().await.into_iter().filter_map(|change| change.new) {
            if let Some(node) = claim.annotations().get("volume.kubernetes.io/selected-node") {
                make_volume(&client, &claim, node).await;
            }
        }
    }
}

async fn make_volume(client: &Client, claim: &PersistentVolumeClaim, node: &str) {
    let uid = claim.uid().unwrap();
    let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]});
    let volume = json!({
        "metadata": {"name": format!("pvc-{uid}"), "annotations": {"pv.kubernetes.io/provisioned-by": "steadfast.dev/local"}},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local", "local": {"path": "/none"},
            "persistentVolumeReclaimPolicy": "Delete", "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(), "name": claim.name_any(), "uid": uid},
        },
    });
    match Api::<PersistentVolume>::all(client.clone()).create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        result => drop(result.unwrap()),
    }
}

/// Waits until the objects of a kind are as wanted, looking after every change.
async fn until<K: informer::Watched>(informer: &Informer<K>, what: &str, wanted: impl Fn(&[Arc<K>]) -> bool) {
    let mut subscription = informer.subscribe();
    let reached = async {
        while !wanted(&informer.list()) {
            subscription.changes().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), reached).await.is_err() {
        panic!("not reached: {what}\n{}", informer.list().iter().map(|object| format!("{object:?}\n")).collect::<String>());
    }
}

fn machine(name: &str) -> Value {
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let conditions = json!([{"type": "Ready", "status": "True"}]);
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "status": {"capacity": room, "allocatable": room, "conditions": conditions}})
}

async fn six(cluster: &Cluster) {
    cluster.create::<Namespace>(json!({"metadata": {"name": "shop"}})).await;
    let class = json!({"metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "steadfast.dev/local", "volumeBindingMode": "WaitForFirstConsumer"});
    cluster.create::<StorageClass>(class).await;
    cluster.create::<Node>(machine("n1")).await;
    cluster.create::<Node>(machine("n2")).await;
    let labels = json!({"app": "redis"});
    let service =
        json!({"clusterIP": "None", "selector": labels, "ports": [{"name": "client", "port": 6379}], "publishNotReadyAddresses": true});
    cluster.create::<Service>(json!({"metadata": {"namespace": "shop", "name": "redis"}, "spec": service})).await;
    let claim =
        json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let set = json!({
        "replicas": 6, "serviceName": "redis", "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "redis", "image": "redis"}]}},
        "volumeClaimTemplates": [claim],
    });
    cluster.create::<StatefulSet>(json!({"metadata": {"namespace": "shop", "name": "redis"}, "spec": set})).await;
}

#[tokio::test]
async fn a_set_of_six_comes_up_and_goes_with_its_namespace() {
    let cluster = Cluster::start().await;
    six(&cluster).await;
    let informers = &cluster.informers;
    let ready = |set: &Arc<StatefulSet>| set.status.as_ref().and_then(|status| status.ready_replicas) == Some(6);
    until(&informers.statefulsets, "six ready", |sets| sets.iter().any(ready)).await;
    let hosts = |slices: &[Arc<EndpointSlice>]| {
        slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()).filter(|endpoint| endpoint.hostname.is_some()).count()
    };
    until(&informers.slices, "six published", |slices| hosts(slices) == 6).await;
    let bound = |volume: &Arc<PersistentVolume>| volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    until(&informers.volumes, "six bound", |volumes| volumes.len() == 6 && volumes.iter().all(bound)).await;
    let certificate =
        |maps: &[Arc<ConfigMap>]| maps.iter().any(|map| map.namespace().as_deref() == Some("shop") && map.name_any() == "kube-root-ca.crt");
    until(&informers.config_maps, "the certificate", certificate).await;

    Api::<Namespace>::all(cluster.admin.clone()).delete("shop", &DeleteParams::default()).await.unwrap();
    until(&informers.namespaces, "the namespace gone", |all| all.iter().all(|namespace| namespace.name_any() != "shop")).await;
    let released = |volume: &Arc<PersistentVolume>| volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
    until(&informers.volumes, "released", |volumes| volumes.iter().all(released)).await;
    let secrets = Api::<Secret>::namespaced(cluster.admin.clone(), "shop").list(&Default::default()).await.unwrap();
    assert!(secrets.items.is_empty() && informers.pods.list().is_empty());
}

fn condition(set: &StatefulSet, kind: &str) -> (String, String) {
    let conditions = set.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let found = conditions.into_iter().find(|condition| condition.type_ == kind);
    found.map(|condition| (condition.status.clone(), condition.message.clone().unwrap_or_default())).unwrap_or_default()
}

#[tokio::test]
async fn an_update_that_fits_nowhere_stalls_and_is_taken_back_and_conditions_of_others_stay() {
    let cluster = Cluster::start().await;
    six(&cluster).await;
    let sets = Api::<StatefulSet>::namespaced(cluster.admin.clone(), "shop");
    let informers = &cluster.informers;
    let says =
        |kind: &'static str, status: &'static str| move |all: &[Arc<StatefulSet>]| all.iter().any(|set| condition(set, kind).0 == status);
    until(&informers.statefulsets, "available", says("Available", "True")).await;

    let foreign = json!({"status": {"conditions": [{"type": "BackedUp", "status": "True"}]}});
    sets.patch_status("redis", &PatchParams::default(), &Patch::Strategic(foreign)).await.unwrap();
    let container = json!([{"name": "redis", "resources": {"requests": {"cpu": "1000"}}}]);
    let update = json!({"metadata": {"annotations": {"steadfast.dev/progress-deadline-seconds": "1"}},
        "spec": {"template": {"spec": {"containers": container}}}});
    sets.patch("redis", &PatchParams::default(), &Patch::Strategic(update)).await.unwrap();
    // Why it waits is known when the scheduler has said so, which may be later than the deadline.
    let stalls = |all: &[Arc<StatefulSet>]| {
        let messages = all.iter().map(|set| condition(set, "Stalled").1);
        messages.into_iter().any(|said| said.starts_with("waits for redis-5 to become Ready: ") && said.contains("Insufficient cpu"))
    };
    until(&informers.statefulsets, "stalled", stalls).await;

    let wish = json!({"metadata": {"annotations": {"steadfast.dev/auto-rollback": "true"}}});
    sets.patch("redis", &PatchParams::default(), &Patch::Merge(wish)).await.unwrap();
    let back = |set: &Arc<StatefulSet>| {
        let status = set.status.clone().unwrap_or_default();
        status.current_revision == status.update_revision && status.ready_replicas == Some(6) && condition(set, "Stalled").0 == "False"
    };
    until(&informers.statefulsets, "back", |all| all.iter().any(back)).await;
    let set = sets.get("redis").await.unwrap();
    assert_eq!(
        set.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].resources.as_ref().and_then(|all| all.requests.clone()),
        None
    );
    assert_eq!(condition(&set, "BackedUp").0, "True");
    let events = Api::<k8s_openapi::api::core::v1::Event>::namespaced(cluster.admin.clone(), "shop");
    let told = async {
        while !events.list(&Default::default()).await.unwrap().items.iter().any(|event| event.reason.as_deref() == Some("RolledBack")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("an event tells of it");
}

fn serves(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Keeps the smallest number of pods that served at any revision.
async fn watch_lowest(pods: Informer<Pod>, lowest: Arc<AtomicUsize>) {
    let mut subscription = pods.subscribe();
    loop {
        subscription.changes().await;
        lowest.fetch_min(pods.list().iter().filter(|pod| serves(pod)).count(), Ordering::SeqCst);
    }
}

/// Asks for one pod after another to go until so many have gone, whoever asked.
async fn evict_until(client: Client, first: usize, gone: Arc<AtomicUsize>, enough: usize) {
    let api = Api::<Pod>::namespaced(client, "shop");
    for ordinal in (0..6).cycle().skip(first) {
        if gone.load(Ordering::SeqCst) >= enough {
            return;
        }
        match api.evict(&format!("redis-{ordinal}"), &EvictParams::default()).await {
            Ok(_) => drop(gone.fetch_add(1, Ordering::SeqCst)),
            Err(kube::Error::Api(status)) if [404, 409, 429].contains(&status.code) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn evictions_from_all_sides_never_leave_fewer_than_the_budget_says() {
    let cluster = Cluster::start().await;
    six(&cluster).await;
    let informers = &cluster.informers;
    let all_ready = |pods: &[Arc<Pod>]| pods.iter().filter(|pod| serves(pod)).count() == 6;
    until(&informers.pods, "six ready", all_ready).await;
    let spec = json!({"maxUnavailable": 2, "selector": {"matchLabels": {"app": "redis"}}});
    cluster.create::<PodDisruptionBudget>(json!({"metadata": {"namespace": "shop", "name": "redis"}, "spec": spec})).await;
    let allowed = |budget: &Arc<PodDisruptionBudget>| budget.status.as_ref().and_then(|status| status.disruptions_allowed) == Some(2);
    until(&informers.budgets, "two allowed", |budgets| budgets.iter().any(allowed)).await;

    let (lowest, gone) = (Arc::new(AtomicUsize::new(6)), Arc::new(AtomicUsize::new(0)));
    let mut watching = JoinSet::new();
    watching.spawn(watch_lowest(informers.pods.clone(), lowest.clone()));
    let mut clients = JoinSet::new();
    for first in 0..4 {
        clients.spawn(evict_until(cluster.admin.clone(), first, gone.clone(), 40));
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), clients.join_all()).await;
    assert!(ended.is_ok(), "only {} of 40 evictions", gone.load(Ordering::SeqCst));
    until(&informers.pods, "six ready again", all_ready).await;
    until(&informers.budgets, "two allowed again", |budgets| budgets.iter().any(allowed)).await;
    assert!(lowest.load(Ordering::SeqCst) >= 4, "{} pods served", lowest.load(Ordering::SeqCst));
}
