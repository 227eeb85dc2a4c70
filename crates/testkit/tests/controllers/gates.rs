//! The pre-delete gate and updates in place on the real API server: the hook goes through `pods/exec`.

use k8s_openapi::api::core::v1::Event;
use kube::api::EvictParams;

use super::*;

const GATE: &str = r#"{"exec":{"command":["leave","$(REASON)"]}}"#;

async fn two(annotation: (&str, &str)) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.create::<Namespace>(json!({"metadata": {"name": "shop"}})).await;
    cluster.create::<Node>(machine("n1")).await;
    let labels = json!({"app": "web"});
    let set = json!({
        "replicas": 2, "serviceName": "web", "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "v1"}]}},
    });
    let metadata = json!({"namespace": "shop", "name": "web", "annotations": {annotation.0: annotation.1}});
    cluster.create::<StatefulSet>(json!({"metadata": metadata, "spec": set})).await;
    until(&cluster.informers.statefulsets, "both ready", |sets| sets.iter().any(|set| is_complete(set))).await;
    cluster
}

/// Whether all replicas are ready at the newest revision.
fn is_complete(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.observed_generation == set.metadata.generation
        && status.ready_replicas == Some(2)
        && status.updated_replicas == Some(2)
        && status.current_revision == status.update_revision
}

async fn update(cluster: &Cluster) {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "v2"}]}}}});
    let sets = Api::<StatefulSet>::namespaced(cluster.admin.clone(), "shop");
    let generation = sets.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap().metadata.generation;
    let updated = |set: &Arc<StatefulSet>| set.metadata.generation >= generation && is_complete(set);
    until(&cluster.informers.statefulsets, "both updated", |sets| sets.iter().any(updated)).await;
}

fn uids(cluster: &Cluster) -> Vec<Option<String>> {
    let mut pods = cluster.informers.pods.list();
    pods.sort_by_key(|pod| pod.name_any());
    pods.iter().map(|pod| pod.uid()).collect()
}

#[tokio::test]
async fn an_update_runs_the_hook_in_each_pod_until_it_succeeds() {
    let cluster = two(("steadfast.dev/pre-delete", GATE)).await;
    let before = uids(&cluster);
    cluster.commands.fail(1);
    update(&cluster).await;
    assert_eq!(cluster.commands.run(), ["web-1 leave Update", "web-1 leave Update", "web-0 leave Update"]);
    assert!(before.iter().zip(uids(&cluster)).all(|(before, after)| *before != after));
    until_told(&cluster, "The pre-delete hook of Pod web-1 for Update failed, and is tried again: exit status 1: no replica").await;
}

async fn until_told(cluster: &Cluster, text: &str) {
    let told = |events: &[Event]| events.iter().any(|event| event.message.as_deref() == Some(text));
    let events = Api::<Event>::namespaced(cluster.admin.clone(), "shop");
    while !told(&events.list(&Default::default()).await.unwrap().items) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_hook_that_is_a_pod_is_tried_until_it_succeeds_and_leaves_nothing_behind() {
    let container = json!({"name": "leave", "image": "tools"});
    let gate = json!({"job": {"template": {"metadata": {"labels": {"job": "leave"}}, "spec": {"containers": [container]}}}});
    let cluster = two(("steadfast.dev/pre-delete", &gate.to_string())).await;
    let before = uids(&cluster);
    cluster.commands.fail(1);
    update(&cluster).await;
    let tries = ["web-1 10.0.0.1 1 Update 2", "web-1 10.0.0.1 1 Update 2", "web-0 10.0.0.0 0 Update 2"];
    assert_eq!(cluster.commands.run(), tries);
    until(&cluster.informers.pods, "only the set's pods are left", |pods| pods.len() == 2).await;
    assert!(before.iter().zip(uids(&cluster)).all(|(before, after)| *before != after));
    let why = "container leave ended with exit code 1: no replica";
    until_told(&cluster, &format!("The pre-delete hook of Pod web-1 for Update failed, and is tried again: {why}")).await;
    until_told(&cluster, "The pre-delete hook of Pod web-0 for Update succeeded").await;
}

#[tokio::test]
async fn an_eviction_is_held_until_the_hook_has_succeeded() {
    let cluster = two(("steadfast.dev/pre-delete", GATE)).await;
    let pods = Api::<Pod>::namespaced(cluster.admin.clone(), "shop");
    let before = uids(&cluster);
    let refused = pods.evict("web-0", &EvictParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 429), "{refused}");
    let passed = |pod: &Arc<Pod>| pod.annotations().contains_key("steadfast.dev/pre-delete-passed");
    until(&cluster.informers.pods, "passed", |pods| pods.iter().any(passed)).await;
    pods.evict("web-0", &EvictParams::default()).await.unwrap();
    until(&cluster.informers.pods, "web-0 replaced", |all| all.len() == 2 && all.iter().all(|pod| pod.uid() != before[0])).await;
    assert_eq!(cluster.commands.run(), ["web-0 leave Eviction"]);
}

#[tokio::test]
async fn where_only_the_image_differs_pods_stay() {
    let cluster = two(("steadfast.dev/in-place-update", "true")).await;
    let before = uids(&cluster);
    update(&cluster).await;
    assert_eq!(uids(&cluster), before);
    let images = |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    assert!(cluster.informers.pods.list().iter().all(|pod| images(pod) == "v2"));
    let is_marked = |pod: &Arc<Pod>| pod.annotations().keys().any(|name| name.contains("in-place"));
    until(&cluster.informers.pods, "no marks left", |pods| !pods.iter().any(is_marked)).await;
}
