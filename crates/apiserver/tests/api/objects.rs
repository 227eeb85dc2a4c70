//! The life of an object.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Harness, PODS, SETS, pod, set};

#[tokio::test]
async fn a_client_in_the_process_creates_reads_changes_and_deletes() {
    let harness = Harness::new().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(harness.client());
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"x": "1"}})).unwrap();
    let created = maps.create(&PostParams::default(), &map).await.unwrap();
    assert_eq!(created.metadata.uid.as_ref().unwrap().len(), 36);
    assert!(created.metadata.creation_timestamp.is_some() && created.metadata.managed_fields.is_some());
    assert_eq!(maps.get("a").await.unwrap(), created);

    let patched = maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"y": "2"}}))).await.unwrap();
    assert_eq!(patched.data.as_ref().unwrap().len(), 2);
    let stale = maps.replace("a", &PostParams::default(), &created).await.unwrap_err();
    assert!(stale.to_string().contains("the object has been modified; please apply your changes to the latest version and try again"));
    let mut newest = patched.clone();
    newest.data = None;
    let replaced = maps.replace("a", &PostParams::default(), &newest).await.unwrap();
    assert_ne!(replaced.metadata.resource_version, patched.metadata.resource_version);

    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let status = maps.delete("a", &DeleteParams::default()).await.unwrap().right().unwrap();
    assert!(status.is_success());
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_served_is_what_is_stored() {
    use store::Store;
    let harness = Harness::new().await;
    harness.config_map("a", json!({"app": "x"})).await;
    let served = harness.get(&format!("{CONFIG_MAPS}/a")).await;
    let (entry, _) = harness.store.get("/configmaps/default/a").await.unwrap();
    let entry = entry.unwrap();
    assert_eq!(&served.body, entry.document.json());
    assert_eq!(served.json()["metadata"]["resourceVersion"], entry.revision.to_string());
}

#[tokio::test]
async fn a_change_that_changes_nothing_keeps_the_resource_version() {
    let harness = Harness::new().await;
    let created = harness.config_map("a", json!({})).await;
    let patched = harness.ok("PATCH", &format!("{CONFIG_MAPS}/a"), json!({"data": {"k": "v"}})).await;
    assert_eq!(created["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn names_are_generated() {
    let harness = Harness::new().await;
    let created = harness.ok("POST", CONFIG_MAPS, json!({"metadata": {"generateName": "web-"}})).await;
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_behind() {
    let harness = Harness::new().await;
    harness.ok("POST", &format!("{CONFIG_MAPS}?dryRun=All"), json!({"metadata": {"name": "a"}})).await;
    assert_eq!(harness.get(&format!("{CONFIG_MAPS}/a")).await.status, 404);
    let before = harness.config_map("b", json!({})).await;
    let patched = harness.ok("PATCH", &format!("{CONFIG_MAPS}/b?dryRun=All"), json!({"data": {"x": "y"}})).await;
    assert_eq!(patched["data"]["x"], "y");
    harness.ok("DELETE", &format!("{CONFIG_MAPS}/b?dryRun=All"), json!({})).await;
    assert_eq!(harness.get(&format!("{CONFIG_MAPS}/b")).await.json(), before);
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_specification_only() {
    let harness = Harness::new().await;
    let created = harness.ok("POST", SETS, set("web")).await;
    assert_eq!(created["metadata"]["generation"], 1);
    let path = format!("{SETS}/web");
    let labelled = harness.ok("PATCH", &path, json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled["metadata"]["generation"], 1);
    let status = harness.ok("PATCH", &format!("{path}/status"), json!({"status": {"replicas": 2}, "spec": {"replicas": 9}})).await;
    assert_eq!((&status["metadata"]["generation"], &status["spec"]["replicas"]), (&json!(1), &json!(3)));
    let scaled = harness.ok("PATCH", &path, json!({"spec": {"replicas": 5}, "status": {"replicas": 9}})).await;
    assert_eq!((&scaled["metadata"]["generation"], &scaled["status"]["replicas"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn scale_reads_and_sets_the_replicas() {
    let harness = Harness::new().await;
    harness.ok("POST", SETS, set("web")).await;
    let path = format!("{SETS}/web/scale");
    let scale = harness.get(&path).await.json();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!("Scale"), &json!(3), &json!("app=web")));
    let patched = harness.ask("PATCH", &path, &[("content-type", "application/merge-patch+json")], r#"{"spec":{"replicas":7}}"#).await;
    assert_eq!(patched.json()["spec"]["replicas"], 7);
    let mut scale = patched.json();
    scale["spec"]["replicas"] = json!(1);
    harness.ok("PUT", &path, scale.clone()).await;
    assert_eq!(harness.json("PUT", &path, scale).await.status, 409);
    assert_eq!(harness.get(&format!("{SETS}/web")).await.json()["spec"]["replicas"], 1);
}

#[tokio::test]
async fn a_pod_ends_when_its_node_says_so() {
    let harness = Harness::new().await;
    harness.ok("POST", PODS, pod("web-0")).await;
    let binding = json!({"metadata": {"name": "web-0"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = harness.ok("POST", &format!("{PODS}/web-0/binding"), binding.clone()).await;
    assert_eq!(bound["status"], "Success");
    let again = harness.json("POST", &format!("{PODS}/web-0/binding"), binding).await;
    assert_eq!(again.status, 409);
    assert!(again.text().contains(r#"pod web-0 is already assigned to node \"n1\""#), "{}", again.text());

    let path = format!("{PODS}/web-0");
    let marked = harness.ok("DELETE", &path, json!({"gracePeriodSeconds": 20})).await;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 20);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let uid = marked["metadata"]["uid"].clone();
    let wrong = harness.json("DELETE", &path, json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}})).await;
    assert_eq!(wrong.status, 409);
    let gone = harness.ok("DELETE", &path, json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})).await;
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(harness.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_pod_without_a_node_ends_at_once() {
    let harness = Harness::new().await;
    harness.ok("POST", PODS, pod("web-0")).await;
    harness.ok("DELETE", &format!("{PODS}/web-0"), json!({})).await;
    assert_eq!(harness.get(&format!("{PODS}/web-0")).await.status, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_removed() {
    let harness = Harness::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    harness.ok("POST", CONFIG_MAPS, json!({"metadata": {"name": "a", "finalizers": ["example.com/held"]}})).await;
    let marked = harness.ok("DELETE", &path, json!({})).await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let added = harness.json("PATCH", &path, json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/new"}])).await;
    assert_eq!(added.status, 422, "{}", added.text());
    harness.ok("PATCH", &path, json!([{"op": "remove", "path": "/metadata/finalizers"}])).await;
    assert_eq!(harness.get(&path).await.status, 404);
}

#[tokio::test]
async fn propagation_policies_become_finalizers() {
    let harness = Harness::new().await;
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        harness.ok("POST", SETS, set("web")).await;
        let path = format!("{SETS}/web");
        let marked = harness.ok("DELETE", &format!("{path}?propagationPolicy={policy}"), Value::Null).await;
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]), "{policy}");
        harness.ok("PATCH", &path, json!([{"op": "remove", "path": "/metadata/finalizers"}])).await;
    }
}

#[tokio::test]
async fn a_namespace_ends_when_it_is_finalized() {
    let harness = Harness::new().await;
    harness.ok("POST", "/api/v1/namespaces", json!({"metadata": {"name": "extra"}})).await;
    let marked = harness.ok("DELETE", "/api/v1/namespaces/extra", json!({})).await;
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = harness.json("POST", "/api/v1/namespaces/extra/configmaps", json!({"metadata": {"name": "a"}})).await;
    assert_eq!(refused.status, 403);
    let mut finalized = marked.clone();
    finalized["spec"]["finalizers"] = json!([]);
    harness.ok("PUT", "/api/v1/namespaces/extra/finalize", finalized).await;
    assert_eq!(harness.get("/api/v1/namespaces/extra").await.status, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selection() {
    let harness = Harness::new().await;
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        harness.config_map(name, json!({"app": app})).await;
    }
    let deleted = harness.ok("DELETE", &format!("{CONFIG_MAPS}?labelSelector=app%3Dx"), json!({})).await;
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let left = harness.get(CONFIG_MAPS).await.json();
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn events_are_one_set_of_objects_in_two_forms() {
    let harness = Harness::new().await;
    let event = json!({
        "metadata": {"name": "e", "namespace": "default"}, "regarding": {"kind": "Pod", "name": "web-0", "namespace": "default"},
        "note": "it happened", "reason": "Happened", "type": "Normal", "action": "Acting", "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "c", "reportingInstance": "i",
    });
    let created = harness.ok("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event).await;
    assert_eq!((&created["apiVersion"], &created["note"]), (&json!("events.k8s.io/v1"), &json!("it happened")));
    let core = harness.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dweb-0").await.json();
    assert_eq!((&core["items"][0]["apiVersion"], &core["items"][0]["message"]), (&json!("v1"), &json!("it happened")));
    let viewed = harness.get("/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dweb-0").await.json();
    assert_eq!(viewed["items"][0]["note"], "it happened");
    assert_eq!(viewed["items"][0]["metadata"], core["items"][0]["metadata"]);
}

#[tokio::test]
async fn writers_that_meet_lose_nothing() {
    let harness = std::sync::Arc::new(Harness::new().await);
    harness.config_map("a", json!({})).await;
    let patches = (0..20).map(|number| {
        let harness = harness.clone();
        tokio::spawn(async move {
            harness.ok("PATCH", &format!("{CONFIG_MAPS}/a"), json!({"data": {format!("k{number}"): "v"}})).await;
        })
    });
    for patch in patches.collect::<Vec<_>>() {
        patch.await.unwrap();
    }
    assert_eq!(harness.get(&format!("{CONFIG_MAPS}/a")).await.json()["data"].as_object().unwrap().len(), 21);
}

#[tokio::test]
async fn a_pod_is_bound_once_whoever_writes_to_it_meanwhile() {
    let harness = std::sync::Arc::new(Harness::new().await);
    for round in 0..8 {
        let path = format!("{PODS}/p-{round}");
        harness.ok("POST", PODS, pod(&format!("p-{round}"))).await;
        let bindings = (0..4).map(|node| {
            let (harness, path) = (harness.clone(), path.clone());
            let target = json!({"kind": "Node", "name": format!("node-{node}")});
            let body = json!({"metadata": {"name": format!("p-{round}")}, "target": target});
            tokio::spawn(async move { harness.json("POST", &format!("{path}/binding"), body).await })
        });
        let patches = (0..16).map(|number| {
            let (harness, path) = (harness.clone(), path.clone());
            let patch = json!({"metadata": {"labels": {format!("k{number}"): "v"}}});
            tokio::spawn(async move { harness.json("PATCH", &path, patch).await })
        });
        let tasks: Vec<_> = bindings.chain(patches).collect();
        let mut statuses = Vec::new();
        for task in tasks {
            let answer = task.await.unwrap();
            if answer.status == 409 {
                assert!(answer.text().contains("is already assigned to node"), "{}", answer.text());
            }
            statuses.push(answer.status.as_u16());
        }
        let count = |status: u16| statuses.iter().filter(|own| **own == status).count();
        assert_eq!((count(201), count(409), count(200)), (1, 3, 16), "{statuses:?}");
        let bound = harness.get(&path).await.json();
        assert_eq!(bound["metadata"]["labels"].as_object().unwrap().len(), 16);
        assert!(bound["spec"]["nodeName"].as_str().unwrap().starts_with("node-"));
    }
}
