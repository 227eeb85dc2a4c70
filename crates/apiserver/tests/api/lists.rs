//! Lists, pages, selectors, discovery.

use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Harness};

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_are_of_one_revision_whatever_happens_between() {
    let harness = Harness::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        harness.config_map(name, json!({})).await;
    }
    let first = harness.get(&format!("{CONFIG_MAPS}?limit=2")).await.json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!((&first["kind"], &first["metadata"]["remainingItemCount"]), (&json!("ConfigMapList"), &json!(3)));
    harness.config_map("bb", json!({})).await;
    harness.ok("DELETE", &format!("{CONFIG_MAPS}/d"), json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = harness.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = harness.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.json();
    assert_eq!(names(&last), ["e"]);
    assert!(last["metadata"]["continue"].is_null());
}

#[tokio::test]
async fn a_page_after_compaction_offers_to_go_on_inconsistently() {
    use store::Store;
    let harness = Harness::new().await;
    for name in ["a", "b", "c"] {
        harness.config_map(name, json!({})).await;
    }
    let first = harness.get(&format!("{CONFIG_MAPS}?limit=1")).await.json();
    harness.config_map("d", json!({})).await;
    harness.store.compact(harness.store.revision()).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = harness.get(&format!("{CONFIG_MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.status.as_u16(), &expired.json()["reason"]), (410, &json!("Expired")));
    let status = expired.json();
    let token = status["metadata"]["continue"].as_str().unwrap();
    let rest = harness.get(&format!("{CONFIG_MAPS}?continue={token}")).await.json();
    assert_eq!(names(&rest), ["b", "c", "d"]);
    let exact = harness.get(&format!("{CONFIG_MAPS}?resourceVersion=2&resourceVersionMatch=Exact")).await;
    assert_eq!(exact.status, 410);
}

#[tokio::test]
async fn resource_versions_select_the_state_that_is_listed() {
    let harness = Harness::new().await;
    let a = harness.config_map("a", json!({})).await;
    harness.config_map("b", json!({})).await;
    let version = a["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = harness.get(&format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact")).await.json();
    assert_eq!((names(&exact), exact["metadata"]["resourceVersion"].as_str()), (vec!["a"], Some(version)));
    for query in ["resourceVersion=0".to_owned(), format!("resourceVersion={version}&resourceVersionMatch=NotOlderThan"), format!("resourceVersion={version}")] {
        assert_eq!(names(&harness.get(&format!("{CONFIG_MAPS}?{query}")).await.json()), ["a", "b"], "{query}");
    }
    let future = harness.get(&format!("{CONFIG_MAPS}?resourceVersion=999999")).await;
    assert_eq!((future.status.as_u16(), &future.json()["details"]["causes"][0]["reason"]), (504, &json!("ResourceVersionTooLarge")));
    assert_eq!(harness.get(&format!("{CONFIG_MAPS}?resourceVersionMatch=Exact")).await.status, 422);
}

#[tokio::test]
async fn selectors_select_across_pages() {
    let harness = Harness::new().await;
    for number in 0..30 {
        harness.config_map(&format!("m{number:02}"), json!({"odd": (number % 2 == 1).to_string()})).await;
    }
    let first = harness.get(&format!("{CONFIG_MAPS}?labelSelector=odd%3Dtrue&limit=10")).await.json();
    assert_eq!(names(&first).len(), 10);
    assert!(first["metadata"]["remainingItemCount"].is_null());
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = harness.get(&format!("{CONFIG_MAPS}?labelSelector=odd%3Dtrue&limit=10&continue={token}")).await.json();
    assert_eq!(names(&second), ["m21", "m23", "m25", "m27", "m29"]);
    let one = harness.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dm07")).await.json();
    assert_eq!(names(&one), ["m07"]);
}

#[tokio::test]
async fn discovery_tells_all_resources_in_both_forms() {
    let harness = Harness::new().await;
    let aggregated = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let groups = harness.ask("GET", "/apis", &aggregated, "").await;
    assert!(groups.headers["content-type"].to_str().unwrap().contains("as=APIGroupDiscoveryList"));
    let apps = groups.json()["items"].as_array().unwrap().iter().find(|group| group["metadata"]["name"] == "apps").unwrap().clone();
    assert_eq!(apps["versions"][0]["resources"][0]["responseKind"]["kind"], "StatefulSet");
    let tag = groups.headers["etag"].to_str().unwrap();
    let again = harness.ask("GET", "/apis", &[aggregated[0], ("if-none-match", tag)], "").await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));

    assert_eq!(harness.get("/api").await.json()["versions"], json!(["v1"]));
    assert_eq!(harness.get("/apis/apps").await.json()["preferredVersion"]["groupVersion"], "apps/v1");
    let core = harness.get("/api/v1").await.json();
    let names: Vec<_> = core["resources"].as_array().unwrap().iter().map(|resource| resource["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"pods") && names.contains(&"pods/exec"));
    let index = harness.get("/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(harness.get(url).await.json()["openapi"], "3.0.0");
    assert_eq!(harness.get("/readyz").await.text(), "ok");
    assert!(harness.get("/version").await.json()["gitVersion"].as_str().unwrap().starts_with("v1.36"));
}
