//! What `kubectl get` prints.

use serde_json::json;

use crate::harness::{CONFIG_MAPS, Harness, PODS, SETS, pod, set};

const TABLE: (&str, &str) = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");

#[tokio::test]
async fn lists_and_objects_become_rows() {
    let harness = Harness::new().await;
    harness.ok("POST", PODS, pod("web-0")).await;
    let table = harness.ask("GET", PODS, &[TABLE], "").await.json();
    let columns: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(columns[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..4], [json!("web-0"), json!("0/1"), json!("Pending"), json!("0")]);
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    harness.ok("POST", SETS, set("web")).await;
    let one = harness.ask("GET", &format!("{SETS}/web?includeObject=Object"), &[TABLE], "").await.json();
    assert_eq!(one["rows"][0]["cells"][1], "0/3");
    assert_eq!(one["rows"][0]["object"]["kind"], "StatefulSet");
}

#[tokio::test]
async fn every_kind_has_a_cell_for_each_column() {
    for row in kinds::registry::RESOURCES {
        let object = (row.stored().codec.from_json)(b"{}").map(|object| (row.printer.cells)(&*object, jiff::Timestamp::UNIX_EPOCH));
        if let Ok(cells) = object {
            assert_eq!(cells.len(), row.printer.columns.len(), "{}", row.kind);
        }
    }
}

#[tokio::test]
async fn metadata_can_be_asked_for_alone() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    let accept = ("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let list = harness.ask("GET", CONFIG_MAPS, &[accept], "").await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert!(list["items"][0]["data"].is_null());
}
