//! The controller against a server that keeps objects and nothing more, and a node that makes pods ready.

mod server;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kinds::ObjectKey;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::run;
use crate::Informers;
use server::Server;

/// A controller at work, which ends with the test.
struct Bench {
    server: Server,
    informers: Informers,
    tasks: tokio::task::JoinSet<()>,
}

impl Bench {
    fn start() -> Self {
        let server = Server::default();
        let mut bench = Self::without_controller(server.clone());
        let (client, shared) = (server.client(), bench.informers.clone());
        bench.tasks.spawn(async move { run(client, &shared, std::future::pending()).await });
        bench
    }

    fn without_controller(server: Server) -> Self {
        let informers = Informers::start(&server.client());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(node(server.clone(), informers.clone()));
        Self { server, informers, tasks }
    }

    /// Waits until the set is as described.
    async fn until(&self, wanted: impl Fn(&StatefulSet) -> bool) -> Arc<StatefulSet> {
        let key = ObjectKey::new("default", "web");
        let reached = self.informers.statefulsets.until(&key, |set| set.is_some_and(&wanted));
        if timeout(Duration::from_secs(20), reached).await.is_err() {
            panic!("{:#?}", self.informers.statefulsets.get(&key).map(|set| set.status.clone()));
        }
        self.informers.statefulsets.get(&key).unwrap()
    }
}

/// Makes pending pods run and ready, and terminating ones go.
async fn node(server: Server, informers: Informers) {
    let mut subscription = informers.pods.subscribe();
    loop {
        for change in subscription.changes().await {
            let Some(pod) = &change.new else { continue };
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
            if pod.metadata.deletion_timestamp.is_some() {
                server.remove("pods", &pod.name_any());
            } else if phase.as_deref() == Some("Pending") {
                let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}]);
                server.merge("pods", &pod.name_any(), &json!({"status": {"phase": "Running", "conditions": ready}}));
            }
        }
    }
}

fn set(replicas: u32, policy: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web", "namespace": "default"}, "spec": {
        "replicas": replicas, "podManagementPolicy": policy, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "v1"}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]}})
}

/// Whether all replicas are updated and ready, as of the newest generation.
fn complete(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
    status.observed_generation == set.metadata.generation
        && status.ready_replicas == replicas
        && status.updated_replicas == replicas
        && status.current_revision == status.update_revision
}

#[tokio::test]
async fn a_set_comes_up_in_order_with_claims_events_and_a_revision() {
    let bench = Bench::start();
    bench.server.create("statefulsets", set(3, "OrderedReady"));
    let set = bench.until(complete).await;

    assert_eq!(bench.server.log("pods", "ADDED"), ["web-0", "web-1", "web-2"]);
    assert_eq!(bench.server.log("persistentvolumeclaims", "ADDED"), ["data-web-0", "data-web-1", "data-web-2"]);
    assert_eq!(bench.server.log("controllerrevisions", "ADDED"), [set.status.clone().unwrap().update_revision.unwrap()]);
    while bench.server.events().len() < 6 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        bench.server.events()[..2],
        [
            "Normal SuccessfulCreate Create Claim data-web-0 Pod web-0 in StatefulSet web success",
            "Normal SuccessfulCreate Create Pod web-0 in StatefulSet web successful"
        ]
    );
}

#[tokio::test]
async fn an_update_replaces_all_pods_in_reverse_and_a_rollback_finds_its_revision_again() {
    let bench = Bench::start();
    bench.server.create("statefulsets", set(3, "OrderedReady"));
    let first = bench.until(complete).await.status.clone().unwrap().update_revision;
    let image = |image| json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}});

    bench.server.merge("statefulsets", "web", &image("v2"));
    let updated = |set: &StatefulSet| complete(set) && set.status.as_ref().unwrap().update_revision != first;
    bench.until(updated).await;
    assert_eq!(bench.server.log("pods", "DELETED"), ["web-2", "web-1", "web-0"]);

    bench.server.merge("statefulsets", "web", &image("v1"));
    bench.until(|set| complete(set) && set.status.as_ref().unwrap().update_revision == first).await;
    assert_eq!(bench.server.names("controllerrevisions").len(), 2);
}

#[tokio::test]
async fn a_parallel_set_of_many_comes_up_and_goes_down_again() {
    let bench = Bench::start();
    bench.server.create("statefulsets", set(100, "Parallel"));
    bench.until(complete).await;
    bench.server.merge("statefulsets", "web", &json!({"spec": {"replicas": 0}}));
    bench.until(|set| set.status.as_ref().is_some_and(|status| status.replicas == 0)).await;
    assert_eq!((bench.server.names("pods").len(), bench.server.names("persistentvolumeclaims").len()), (0, 100));
}

#[tokio::test]
async fn pods_without_an_owner_are_adopted_and_those_that_stop_matching_are_released() {
    let bench = Bench::start();
    bench.server.create("statefulsets", set(1, "OrderedReady"));
    bench.until(complete).await;

    bench.server.merge("pods", "web-0", &json!({"metadata": {"labels": {"app": "other"}}}));
    bench.until(|set| set.status.as_ref().is_some_and(|status| status.replicas == 0)).await;
    assert_eq!(bench.server.get("pods", "web-0")["metadata"]["ownerReferences"], json!([]));

    bench.server.merge("pods", "web-0", &json!({"metadata": {"labels": {"app": "web"}}}));
    bench.until(complete).await;
    assert_eq!(bench.server.get("pods", "web-0")["metadata"]["ownerReferences"][0]["name"], "web");
    assert_eq!(bench.server.log("pods", "ADDED"), ["web-0"]);
}

#[tokio::test]
async fn a_refused_pod_is_told_of_and_tried_again() {
    let bench = Bench::start();
    bench.server.refuse("pods", 2);
    bench.server.create("statefulsets", set(1, "OrderedReady"));
    bench.until(complete).await;
    while bench.server.events().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let failed = "Warning FailedCreate Create Pod web-0 in StatefulSet web failed error: ";
    while !bench.server.events().iter().any(|event| event.starts_with(failed)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_controller_that_is_killed_again_and_again_gets_there_without_doing_anything_twice() {
    let bench = Bench::without_controller(Server::default());
    bench.server.create("statefulsets", set(12, "OrderedReady"));
    let key = ObjectKey::new("default", "web");
    let is_complete = || bench.informers.statefulsets.get(&key).is_some_and(|set| complete(&set));
    let mut life = Duration::from_millis(1);
    while !is_complete() {
        // Each life begins with views of its own.
        let informers = Informers::start(&bench.server.client());
        let killed = timeout(life, run(bench.server.client(), &informers, std::future::pending()));
        let _ = killed.await;
        life += Duration::from_micros(500);
    }
    let names: Vec<_> = (0..12).map(|ordinal| format!("web-{ordinal}")).collect();
    assert_eq!(bench.server.log("pods", "ADDED"), names);
    assert_eq!((bench.server.log("pods", "DELETED").len(), bench.server.log("controllerrevisions", "ADDED").len()), (0, 1));
}
