//! Evictions: what goes, what is held, and that no number of clients at once gets more than the budget.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Answer, Harness, PODS, SETS, pod, set};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}})
}

async fn evict(harness: &Harness, name: &str) -> Answer {
    harness.json("POST", &format!("{PODS}/{name}/eviction"), eviction(name)).await
}

/// A pod with the label `app=web` that runs on a node and says whether it is ready.
async fn running(harness: &Harness, name: &str, ready: &str) {
    let mut wanted = pod(name);
    wanted["metadata"]["labels"] = json!({"app": "web"});
    wanted["spec"]["nodeName"] = json!("n1");
    harness.ok("POST", PODS, wanted).await;
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    harness.ok("PATCH", &format!("{PODS}/{name}/status"), status).await;
}

/// A budget over those pods, whose controller has found this.
async fn budget(harness: &Harness, name: &str, allowed: i32, healthy: i32, wanted: i32) {
    let spec = json!({"minAvailable": wanted, "selector": {"matchLabels": {"app": "web"}}});
    let mut budget = harness.ok("POST", BUDGETS, json!({"metadata": {"name": name}, "spec": spec})).await;
    budget["status"] = json!({"disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": wanted,
        "expectedPods": healthy, "observedGeneration": 1});
    harness.ok("PUT", &format!("{BUDGETS}/{name}/status"), budget).await;
}

async fn is_going(harness: &Harness, name: &str) -> bool {
    let answer = harness.get(&format!("{PODS}/{name}")).await;
    answer.status == 404 || answer.json()["metadata"]["deletionTimestamp"].is_string()
}

#[tokio::test]
async fn an_eviction_takes_from_the_budget_and_marks_the_pod() {
    let harness = Harness::new().await;
    running(&harness, "web-0", "True").await;
    running(&harness, "web-1", "True").await;
    budget(&harness, "web", 1, 2, 1).await;
    let answer = evict(&harness, "web-0").await;
    assert_eq!((answer.status.as_u16(), answer.json()["status"].clone()), (201, json!("Success")), "{}", answer.text());
    let pod = harness.get(&format!("{PODS}/web-0")).await.json();
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    let target = pod["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
    let status = harness.get(&format!("{BUDGETS}/web")).await.json()["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["web-0"].is_string());

    let refused = evict(&harness, "web-1").await;
    assert_eq!((refused.status.as_u16(), refused.headers.get("retry-after")), (429, None));
    let refused = refused.json();
    assert_eq!(refused["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(refused["reason"], "TooManyRequests");
    let cause = &refused["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert_eq!(cause["message"], "The disruption budget web does not allow evicting pods currently");
    assert!(!is_going(&harness, "web-1").await);
    // What goes already may be asked again.
    assert_eq!(evict(&harness, "web-0").await.status, 201);
}

#[tokio::test]
async fn a_budget_that_its_controller_has_not_seen_lets_nothing_go_yet() {
    let harness = Harness::new().await;
    running(&harness, "web-0", "True").await;
    let spec = json!({"minAvailable": 0, "selector": {}});
    harness.ok("POST", BUDGETS, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let refused = evict(&harness, "web-0").await;
    assert_eq!((refused.status.as_u16(), refused.headers["retry-after"].to_str().unwrap()), (429, "1"));
    let why = "The disruption budget web is still being processed by the server.";
    assert_eq!(refused.json()["details"]["causes"][0]["message"], why);
}

#[tokio::test]
async fn pods_that_serve_nobody_go_whatever_the_budget_says() {
    let harness = Harness::new().await;
    budget(&harness, "web", 0, 0, 2).await;
    harness
        .ok("POST", PODS, {
            let mut pod = pod("pending");
            pod["metadata"]["labels"] = json!({"app": "web"});
            pod
        })
        .await;
    assert_eq!(evict(&harness, "pending").await.status, 201);
    assert_eq!(harness.get(&format!("{PODS}/pending")).await.status, 404);
    for (name, phase) in [("done", "Succeeded"), ("broken", "Failed")] {
        running(&harness, name, "False").await;
        harness.ok("PATCH", &format!("{PODS}/{name}/status"), json!({"status": {"phase": phase}})).await;
        assert_eq!(evict(&harness, name).await.status, 201, "{name}");
    }
    // A running pod that is not ready is held by a budget that is short, unless it is told otherwise.
    running(&harness, "unready", "False").await;
    assert_eq!(evict(&harness, "unready").await.status, 429);
    let always = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    harness.ok("PATCH", &format!("{BUDGETS}/web"), always).await;
    assert_eq!(evict(&harness, "unready").await.status, 201);
    assert_eq!(harness.get(&format!("{BUDGETS}/web")).await.json()["status"]["disruptedPods"], json!(null));
}

#[tokio::test]
async fn what_can_not_be_carried_out_is_refused_by_name() {
    let harness = Harness::new().await;
    running(&harness, "web-0", "True").await;
    let path = format!("{PODS}/web-0/eviction");
    let with = |options: Value| json!({"metadata": {"name": "web-0"}, "deleteOptions": options});
    for (body, code, message) in [
        (eviction("other"), 400, "name in URL does not match name in Eviction object"),
        (json!({"apiVersion": "policy/v9", "kind": "Eviction"}), 400, "Eviction in version \"policy/v9\" cannot be handled"),
        (json!({"apiVersion": "v1", "kind": "Binding"}), 400, "Binding in version \"v1\" cannot be handled"),
        (with(json!({"preconditions": {"uid": "other"}})), 409, "Precondition failed: UID in precondition: other"),
        (with(json!({"preconditions": {"resourceVersion": "1"}})), 409, "Precondition failed: ResourceVersion in precondition: 1"),
        (with(json!({"propagationPolicy": "Perhaps"})), 422, "propagationPolicy: Unsupported value"),
        (with(json!({"dryRun": ["Some"]})), 422, "dryRun"),
    ] {
        let refused = harness.json("POST", &path, body.clone()).await;
        assert_eq!(refused.status.as_u16(), code, "{body}: {}", refused.text());
        assert!(refused.text().contains(&message.replace('"', "\\\"")), "{body}: {}", refused.text());
    }
    assert_eq!(evict(&harness, "absent").await.json()["message"], "pods \"absent\" not found");
    assert_eq!(harness.get(&path).await.status, 405);
    budget(&harness, "one", 1, 1, 0).await;
    budget(&harness, "two", 1, 1, 0).await;
    let refused = evict(&harness, "web-0").await;
    assert_eq!(refused.status, 500);
    assert_eq!(
        refused.json()["message"],
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    assert!(!is_going(&harness, "web-0").await);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let harness = Harness::new().await;
    running(&harness, "web-0", "True").await;
    budget(&harness, "web", 1, 1, 0).await;
    let in_body = json!({"metadata": {"name": "web-0"}, "deleteOptions": {"dryRun": ["All"]}});
    for (path, body) in [(format!("{PODS}/web-0/eviction?dryRun=All"), eviction("web-0")), (format!("{PODS}/web-0/eviction"), in_body)] {
        assert_eq!(harness.json("POST", &path, body).await.status, 201);
    }
    assert!(!is_going(&harness, "web-0").await);
    assert_eq!(harness.get(&format!("{BUDGETS}/web")).await.json()["status"]["disruptionsAllowed"], 1);
    harness.ok("PATCH", &format!("{BUDGETS}/web/status"), json!({"status": {"disruptionsAllowed": 0}})).await;
    assert_eq!(harness.json("POST", &format!("{PODS}/web-0/eviction?dryRun=All"), eviction("web-0")).await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_number_of_clients_at_once_gets_as_much_as_the_budget_allows() {
    let harness = Arc::new(Harness::new().await);
    for number in 0..24 {
        running(&harness, &format!("web-{number}"), "True").await;
    }
    budget(&harness, "web", 7, 24, 17).await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..24 {
        let harness = Arc::clone(&harness);
        clients.spawn(async move { evict(&harness, &format!("web-{number}")).await.status.as_u16() });
    }
    let mut answers = clients.join_all().await;
    answers.sort_unstable();
    assert_eq!(answers, [[201; 7].as_slice(), &[429; 17]].concat());
    let status = harness.get(&format!("{BUDGETS}/web")).await.json()["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    let noted: BTreeSet<_> = status["disruptedPods"].as_object().unwrap().keys().cloned().collect();
    let mut going = BTreeSet::new();
    for number in 0..24 {
        if is_going(&harness, &format!("web-{number}")).await {
            going.insert(format!("web-{number}"));
        }
    }
    assert_eq!((going.len(), &going), (7, &noted));
}

#[tokio::test]
async fn a_gate_of_the_set_comes_before_the_budget_and_is_asked_once() {
    let harness = Harness::new().await;
    let mut gated = set("web");
    gated["metadata"]["annotations"] = json!({"steadfast.dev/pre-delete": r#"{"exec":{"command":["leave"]}}"#});
    let uid = harness.ok("POST", SETS, gated).await["metadata"]["uid"].clone();
    running(&harness, "web-0", "True").await;
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": uid, "controller": true}]);
    harness.ok("PATCH", &format!("{PODS}/web-0"), json!({"metadata": {"ownerReferences": owner}})).await;
    budget(&harness, "web", 1, 1, 0).await;
    let requested = async || {
        let pod = harness.get(&format!("{PODS}/web-0")).await.json();
        pod["metadata"]["annotations"]["steadfast.dev/eviction-requested"].clone()
    };
    let dry = harness.json("POST", &format!("{PODS}/web-0/eviction?dryRun=All"), eviction("web-0")).await;
    assert_eq!((dry.status.as_u16(), requested().await), (429, json!(null)));
    let refused = evict(&harness, "web-0").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["details"]["causes"][0]["reason"]), (429, &json!("PreDelete")));
    let first = requested().await;
    assert!(first.is_string());
    assert_eq!(evict(&harness, "web-0").await.status, 429);
    assert_eq!(requested().await, first);
    assert_eq!(harness.get(&format!("{BUDGETS}/web")).await.json()["status"]["disruptionsAllowed"], 1);
    let passed = json!({"metadata": {"annotations": {"steadfast.dev/pre-delete-passed": "yes"}}});
    harness.ok("PATCH", &format!("{PODS}/web-0"), passed).await;
    assert_eq!(evict(&harness, "web-0").await.status, 201);
    assert!(is_going(&harness, "web-0").await);
}

#[tokio::test]
async fn discovery_offers_evictions_of_the_policy_group() {
    let harness = Harness::new().await;
    let resources = harness.get("/api/v1").await.json()["resources"].clone();
    let found = resources.as_array().unwrap().iter().find(|resource| resource["name"] == "pods/eviction").unwrap();
    assert_eq!((&found["group"], &found["version"], &found["kind"]), (&json!("policy"), &json!("v1"), &json!("Eviction")));
    assert_eq!(found["verbs"], json!(["create"]));
}
