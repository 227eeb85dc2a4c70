//! Server-side apply and managedFields, as clients see them. The engine's rules have tests of their own, beside it.

use serde_json::{Value, json};

use crate::harness::{Answer, CONFIG_MAPS, Harness, PODS, SETS, pod, set};

impl Harness {
    async fn apply(&self, path: &str, options: &str, body: &Value) -> Answer {
        let path = format!("{path}?fieldManager={options}");
        self.ask("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], body.to_string()).await
    }

    /// Applies what must succeed.
    async fn applied(&self, path: &str, options: &str, body: &Value) -> Value {
        let answer = self.apply(path, options, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        answer.json()
    }

    async fn object(&self, path: &str) -> Value {
        self.get(path).await.json()
    }
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn full_set(name: &str) -> Value {
    let mut set = set(name);
    set["apiVersion"] = json!("apps/v1");
    set["kind"] = json!("StatefulSet");
    set
}

fn set_with(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": spec})
}

/// `managedFields` in short: manager, operation and subresource of each entry, sorted, as their order depends on the second.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let short = |entry: &Value| format!("{} {} {}", text(entry, "manager"), text(entry, "operation"), text(entry, "subresource"));
    let mut managers: Vec<_> = entries.iter().map(short).collect();
    managers.sort();
    managers
}

/// The fields of one manager.
fn fields<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    &entries.iter().find(|entry| entry["manager"] == manager).unwrap()["fieldsV1"]
}

fn revision(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

const A: &str = "/api/v1/namespaces/default/configmaps/a";
const WEB: &str = "/apis/apps/v1/namespaces/default/statefulsets/web";

#[tokio::test]
async fn applying_creates_changes_and_does_nothing_the_second_time() {
    let harness = Harness::new().await;
    let created = harness.apply(A, "me", &map(json!({"x": "1", "y": "2"}))).await;
    assert_eq!(created.status, 201);
    let created = created.json();
    assert_eq!(fields(&created, "me"), &json!({"f:data": {"f:x": {}, "f:y": {}}}));
    let entry = &created["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], &entry["fieldsType"], &entry["operation"]), (&json!("v1"), &json!("FieldsV1"), &json!("Apply")));
    assert!(entry["time"].is_string());
    assert_eq!(harness.object(A).await, created);

    let again = harness.apply(A, "me", &map(json!({"x": "1", "y": "2"}))).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, created.clone()));
    let changed = harness.applied(A, "me", &map(json!({"x": "3"}))).await;
    assert_eq!(changed["data"], json!({"x": "3"}));
    assert_ne!(revision(&changed), revision(&created));
}

#[tokio::test]
async fn a_set_is_applied_with_defaults_that_nobody_owns() {
    let harness = Harness::new().await;
    let created = harness.applied(WEB, "me", &full_set("web")).await;
    assert_eq!(created["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        fields(&created, "me")["f:spec"]["f:template"]["f:spec"],
        json!({"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}, "f:name": {}, "f:ports": {
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}},
        }}}})
    );
    assert_eq!(harness.applied(WEB, "me", &full_set("web")).await, created);
    let mut less = full_set("web");
    less["spec"].as_object_mut().unwrap().remove("replicas");
    assert_eq!(harness.applied(WEB, "me", &less).await["spec"]["replicas"], 1, "the default again");
    let broken = harness.apply(WEB, "me&force=true", &set_with(json!({"serviceName": "web"}))).await;
    assert_eq!((broken.status.as_u16(), broken.json()["reason"].clone()), (422, json!("Invalid")), "{}", broken.text());
}

#[tokio::test]
async fn conflicts_are_told_as_upstream_tells_them() {
    let harness = Harness::new().await;
    harness.ok("POST", &format!("{SETS}?fieldManager=creator"), set("web")).await;
    harness.applied(WEB, "other", &set_with(json!({"serviceName": "web", "updateStrategy": {"type": "RollingUpdate"}}))).await;
    let one = harness.apply(WEB, "me", &set_with(json!({"replicas": 5}))).await;
    assert_eq!(
        one.json(),
        json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 1 conflict: conflict with \"creator\" using apps/v1: .spec.replicas",
            "details": {"causes": [{
                "field": ".spec.replicas", "message": "conflict with \"creator\" using apps/v1", "reason": "FieldManagerConflict",
            }]},
        })
    );
    let two = harness.apply(WEB, "me", &set_with(json!({"replicas": 5, "updateStrategy": {"type": "OnDelete"}}))).await;
    assert_eq!(
        two.json()["message"],
        "Apply failed with 3 conflicts: conflicts with \"creator\" using apps/v1:\n- .spec.replicas\n- .spec.updateStrategy.type\n\
         conflicts with \"other\":\n- .spec.updateStrategy.type"
    );
    let forced = harness.applied(WEB, "me&force=true", &set_with(json!({"replicas": 5}))).await;
    assert_eq!((&forced["spec"]["replicas"], managers(&forced).len()), (&json!(5), 3));
    assert!(fields(&forced, "creator")["f:spec"]["f:replicas"].is_null());
}

#[tokio::test]
async fn every_write_is_kept_under_its_name() {
    let harness = Harness::new().await;
    let agent = |method: &'static str, path: String, kind: &'static str, body: Value| {
        let harness = &harness;
        async move {
            let headers = [("user-agent", "kubectl-edit/v1.30 (linux)"), ("content-type", kind)];
            harness.ask(method, &path, &headers, body.to_string()).await.json()
        }
    };
    let created = agent("POST", PODS.to_owned(), "application/json", pod("p")).await;
    assert_eq!(managers(&created), ["kubectl-edit Update "]);
    let spec = &fields(&created, "kubectl-edit")["f:spec"];
    assert_eq!(spec["f:containers"]["k:{\"name\":\"main\"}"]["f:imagePullPolicy"], json!({}), "a default is the creator's: {spec}");
    assert!(spec["f:serviceAccountName"].is_null(), "what admission adds is nobody's: {spec}");

    let path = format!("{PODS}/p");
    let patched = agent("PATCH", path.clone(), "application/merge-patch+json", json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(fields(&patched, "kubectl-edit")["f:metadata"], json!({"f:labels": {".": {}, "f:a": {}}}));
    harness.ok("PATCH", &format!("{path}/status?fieldManager=kubelet"), json!({"status": {"phase": "Running"}})).await;
    harness.ok("PATCH", &format!("{path}?fieldManager=labels"), json!([{"op": "add", "path": "/metadata/labels/c", "value": "d"}])).await;
    let mut now = harness.object(&path).await;
    assert_eq!(managers(&now), ["kubectl-edit Update ", "kubelet Update status", "labels Update "], "{now}");
    assert_eq!(fields(&now, "kubelet"), &json!({"f:status": {"f:phase": {}}}));
    assert_eq!(fields(&now, "labels"), &json!({"f:metadata": {"f:labels": {"f:c": {}}}}));

    let unchanged = harness.ok("PUT", &format!("{path}?fieldManager=idle"), now.clone()).await;
    assert_eq!(unchanged, now);
    now["metadata"]["labels"] = json!({"a": "z"});
    let replaced = harness.ok("PUT", &format!("{path}?fieldManager=editor"), now).await;
    assert_eq!(managers(&replaced), ["editor Update ", "kubectl-edit Update ", "kubelet Update status"]);
    assert!(fields(&replaced, "kubectl-edit")["f:metadata"]["f:labels"]["f:a"].is_null());
}

#[tokio::test]
async fn a_part_of_the_system_is_known_without_saying_its_name() {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, Patch, PatchParams, PostParams};
    let harness = Harness::new().await;
    for (user, expected) in [("system:kube-controller-manager", "kube-controller-manager"), ("system:kube-scheduler", "kube-scheduler")] {
        let maps: Api<ConfigMap> = Api::default_namespaced(harness.server.client(user, &["system:masters"]));
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": expected}, "data": {"x": "1"}})).unwrap();
        let created = maps.create(&PostParams::default(), &map).await.unwrap();
        assert_eq!(created.metadata.managed_fields.unwrap()[0].manager.as_deref(), Some(expected));
        let applied = Patch::Apply(map_of(expected));
        let applied = maps.patch(expected, &PatchParams::apply("test").force(), &applied).await.unwrap();
        assert_eq!(applied.metadata.managed_fields.unwrap().len(), 2);
    }
}

fn map_of(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"y": "1"}})
}

#[tokio::test]
async fn what_can_not_be_applied_is_refused() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    let long = "m".repeat(129);
    for (options, body, code, message) in [
        ("", map(json!({})), 422, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"),
        (long.as_str(), map(json!({})), 422, "fieldManager: Too long"),
        ("me", json!({"kind": "ConfigMap"}), 400, "Incorrect version specified in apply patch. Specified patch version: , expected: v1"),
        ("me", json!({"apiVersion": "v1"}), 500, "no corresponding type for v1, Kind="),
        ("me", json!({"apiVersion": "v1", "kind": "Secret"}), 400, "does not match the expected kind (ConfigMap)"),
        ("me", json!([]), 400, "error decoding YAML"),
        (
            "me",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            "me",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "date": {}}),
            500,
            "failed to create typed patch object (/a; v1, Kind=ConfigMap): .date: field not declared in schema",
        ),
        (
            "me",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            "me",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "other"}}),
            400,
            "the namespace of the object (other) does not match the namespace on the URL (default)",
        ),
        (
            "me",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "1"}}),
            409,
            "has been modified",
        ),
        ("me", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "x"}}), 409, "UID in precondition: x"),
    ] {
        let answer = harness.apply(A, options, &body).await;
        let found = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == code && found.contains(message), "{body}: {} {found}", answer.status);
    }
    let cbor = harness.ask("PATCH", &format!("{A}?fieldManager=me"), &[("content-type", "application/apply-patch+cbor")], "x").await;
    assert!(cbor.status == 415 && cbor.text().contains("application/apply-patch+cbor"), "{}", cbor.text());
    let forced = harness.json("PATCH", &format!("{A}?force=true"), json!({"data": {}})).await;
    assert_eq!(forced.json()["details"]["causes"][0]["message"], "Forbidden: may not be specified for non-apply patch");
    let absent = format!("{CONFIG_MAPS}/none");
    for (metadata, code) in
        [(json!({"name": "none", "uid": "x"}), 409), (json!({"name": "none", "resourceVersion": "5"}), 409), (json!({}), 400)]
    {
        let answer = harness.apply(&absent, "me", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
        assert_eq!(answer.status, code, "{}", answer.text());
    }
}

#[tokio::test]
async fn yaml_is_applied_and_repeated_fields_are_told() {
    let harness = Harness::new().await;
    let headers = [("content-type", "application/apply-patch+yaml")];
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: \"1\"\n";
    let answer = harness.ask("PATCH", &format!("{A}?fieldManager=me"), &headers, yaml).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["data"]["x"]), (201, &json!("1")), "{}", answer.text());
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"1","x":"2"}}"#;
    let warned = harness.ask("PATCH", &format!("{A}?fieldManager=me"), &headers, twice).await;
    assert_eq!(warned.warnings(), [r#"299 - "duplicate field \"data.x\"""#]);
    let strict = harness.ask("PATCH", &format!("{A}?fieldManager=me&fieldValidation=Strict"), &headers, twice).await;
    assert_eq!(strict.status, 400, "{}", strict.text());
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_and_stores_nothing() {
    let harness = Harness::new().await;
    let shown = harness.applied(A, "me&dryRun=All", &map(json!({"x": "1"}))).await;
    assert_eq!(managers(&shown), ["me Apply "]);
    assert_eq!(harness.get(A).await.status, 404);
    let created = harness.applied(A, "me", &map(json!({"x": "1"}))).await;
    let shown = harness.applied(A, "you&dryRun=All&force=true", &map(json!({"x": "2"}))).await;
    assert_eq!((shown["data"]["x"].clone(), managers(&shown)), (json!("2"), vec!["you Apply ".to_owned()]));
    assert_eq!(harness.object(A).await, created);
}

#[tokio::test]
async fn the_status_and_the_scale_have_owners_of_their_own() {
    let harness = Harness::new().await;
    harness.applied(WEB, "me", &full_set("web")).await;
    let status = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {"replicas": 9},
        "status": {"replicas": 2, "conditions": [{"type": "Good", "status": "True"}]}});
    let applied = harness.applied(&format!("{WEB}/status"), "watcher", &status).await;
    assert_eq!((&applied["spec"]["replicas"], &applied["status"]["replicas"]), (&json!(3), &json!(2)));
    assert_eq!(
        fields(&applied, "watcher"),
        &json!({"f:status": {"f:conditions": {"k:{\"type\":\"Good\"}": {".": {}, "f:status": {}, "f:type": {}}}, "f:replicas": {}}})
    );
    let main = harness.applied(WEB, "writer", &status_of_main()).await;
    assert_eq!(main["status"]["replicas"], 2, "the object itself has no say in its status");
    assert!(!managers(&main).iter().any(|manager| manager.starts_with("writer")), "{main}");

    let scale = |replicas: i32| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": replicas}});
    let path = format!("{WEB}/scale");
    let conflict = harness.apply(&path, "scaler", &scale(5)).await.json();
    assert_eq!(conflict["message"], "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas");
    let scaled = harness.applied(&path, "scaler&force=true", &scale(5)).await;
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    let now = harness.object(WEB).await;
    let entry = now["metadata"]["managedFields"].as_array().unwrap().iter().find(|entry| entry["manager"] == "scaler").unwrap().clone();
    assert_eq!((&entry["subresource"], &entry["apiVersion"]), (&json!("scale"), &json!("apps/v1")));
    assert_eq!(entry["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    harness.ok("PUT", &format!("{path}?fieldManager=autoscaler"), scale(7)).await;
    let now = harness.object(WEB).await;
    assert!(managers(&now).contains(&"autoscaler Update scale".to_owned()) && !managers(&now).iter().any(|one| one.starts_with("scaler")));
    let conflict = harness.apply(&path, "scaler", &scale(5)).await.json();
    let expected =
        "Apply failed with 1 conflict: conflict with \"autoscaler\" with subresource \"scale\" using autoscaling/v1: .spec.replicas";
    assert_eq!(conflict["message"], expected);
    let wrong = harness.apply(&path, "scaler", &full_set("web")).await;
    assert_eq!(wrong.status, 400);
}

fn status_of_main() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "status": {"replicas": 77}})
}

#[tokio::test]
async fn an_account_can_be_ended_and_begins_again_with_the_next_apply() {
    let harness = Harness::new().await;
    harness.applied(A, "me", &map(json!({"x": "1"}))).await;
    let kept = harness.ok("PATCH", A, json!([{"op": "replace", "path": "/metadata/managedFields", "value": []}])).await;
    assert_eq!(managers(&kept), ["me Apply "], "an empty list ends nothing");
    let ended = harness.ok("PATCH", A, json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])).await;
    assert!(managers(&ended).is_empty(), "{ended}");
    let updated = harness.ok("PATCH", &format!("{A}?fieldManager=editor"), json!({"data": {"x": "2"}})).await;
    assert!(managers(&updated).is_empty(), "{updated}");
    let conflict = harness.apply(A, "me", &map(json!({"x": "3"}))).await.json();
    assert_eq!(conflict["message"], "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.x");
    let applied = harness.applied(A, "me", &map(json!({"y": "1"}))).await;
    assert_eq!(managers(&applied), ["before-first-apply Update ", "me Apply "]);
}

#[tokio::test]
async fn who_applied_with_the_annotation_takes_over_what_nobody_changed_since() {
    let harness = Harness::new().await;
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let last = map(json!({"x": "1", "y": "1"})).to_string();
    let mut old = map(json!({"x": "1", "y": "1"}));
    old["metadata"]["annotations"] = json!({annotation: last});
    harness.ok("POST", &format!("{CONFIG_MAPS}?fieldManager=kubectl-client-side-apply"), old).await;
    harness.ok("PATCH", &format!("{A}?fieldManager=editor"), json!({"data": {"y": "2"}})).await;
    let stranger = harness.apply(A, "stranger", &map(json!({"x": "5"}))).await.json();
    assert_eq!(stranger["message"], "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.x");
    let both = harness.apply(A, "kubectl", &map(json!({"x": "5", "y": "5"}))).await.json();
    assert_eq!(both["message"], "Apply failed with 1 conflict: conflict with \"editor\" using v1: .data.y");
    let taken = harness.applied(A, "kubectl", &map(json!({"x": "5"}))).await;
    assert_eq!(taken["data"], json!({"x": "5", "y": "2"}));
    let kept: Value = serde_json::from_str(taken["metadata"]["annotations"][annotation].as_str().unwrap()).unwrap();
    assert_eq!(kept, map(json!({"x": "5"})));
}

#[tokio::test]
async fn ownership_survives_restatement_by_clients_and_deletion() {
    let harness = Harness::new().await;
    let mut held = map(json!({"x": "1"}));
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    let created = harness.applied(A, "me", &held).await;
    let mut given = created.clone();
    given["metadata"]["managedFields"][0]["manager"] = json!("heir");
    given["metadata"]["managedFields"][0]["fieldsV1"] =
        json!({"f:data": {"f:x": {}}, "f:metadata": {"f:finalizers": {"v: \"example.com/held\"": {}}}});
    let renamed = harness.ok("PUT", A, given).await;
    assert_eq!(managers(&renamed), ["heir Apply "]);
    assert_eq!(fields(&renamed, "heir")["f:metadata"]["f:finalizers"], json!({"v:\"example.com/held\"": {}}));
    harness.ok("DELETE", A, Value::Null).await;
    let ending = harness.object(A).await;
    assert_eq!((managers(&ending), ending["metadata"]["deletionTimestamp"].is_string()), (vec!["heir Apply ".to_owned()], true));
    let table = harness.ask("GET", A, &[("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")], "").await;
    assert_eq!(managers(&table.json()), ["heir Apply "]);
}

#[tokio::test]
async fn many_who_apply_at_once_all_succeed() {
    let harness = Harness::new().await;
    let apply = |number: usize| {
        let harness = &harness;
        async move { harness.applied(A, &format!("m{number}"), &map(json!({format!("k{number}"): "v"}))).await }
    };
    futures::future::join_all((0..16).map(apply)).await;
    let object = harness.object(A).await;
    assert_eq!((object["data"].as_object().unwrap().len(), managers(&object).len()), (16, 16));
}

#[tokio::test]
async fn events_are_applied_through_either_view() {
    let harness = Harness::new().await;
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "note": "n", "reason": "R", "type": "Normal", "action": "A", "reportingController": "example.com/c", "reportingInstance": "i",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}});
    let path = "/apis/events.k8s.io/v1/namespaces/default/events/e";
    let created = harness.applied(path, "me", &event).await;
    assert_eq!(harness.applied(path, "me", &event).await, created);
    let stored = harness.object("/api/v1/namespaces/default/events/e").await;
    assert_eq!(stored["message"], "n");
}
