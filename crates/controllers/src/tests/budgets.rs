//! Disruption budgets and quotas, from what changes to what their status says.

use std::future::pending;

use serde_json::{Value, json};

use super::Story;
use super::server::Server;
use crate::Inventory;

impl Story {
    fn with_disruption(mut self) -> Self {
        let (client, informers) = (self.server.client(), self.informers.clone());
        self.tasks.spawn(async move { crate::disruption::run(client, &informers, pending()).await });
        self
    }

    fn with_quotas(mut self) -> Self {
        let (client, informers) = (self.server.client(), self.informers.clone());
        let inventory = Inventory::start(&client);
        self.tasks.spawn(async move { crate::quota::run(client, &informers, &inventory, pending()).await });
        self
    }
}

fn member(name: &str, ready: &str) -> Value {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "web-uid", "controller": true}]);
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
    json!({"metadata": {"name": name, "labels": {"app": "web"}, "ownerReferences": owner}, "spec": {"containers": []}, "status": status})
}

fn set(replicas: i32) -> Value {
    json!({"metadata": {"name": "web", "uid": "web-uid"}, "spec": {"replicas": replicas}})
}

/// What is healthy, what must be, what is allowed.
fn budget(server: &Server) -> (Value, Value, Value) {
    let status = server.find("poddisruptionbudgets", "default", "web").unwrap()["status"].clone();
    (status["currentHealthy"].clone(), status["desiredHealthy"].clone(), status["disruptionsAllowed"].clone())
}

async fn until_budget(server: &Server, what: &str, healthy: i32, wanted: i32, allowed: i32) {
    server.until(what, |server| budget(server) == (json!(healthy), json!(wanted), json!(allowed))).await;
}

#[tokio::test]
async fn a_budget_follows_its_pods_and_the_scale_of_their_set() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_disruption();
    server.create("statefulsets", set(2));
    server.create("pods", member("web-0", "True"));
    server.create("pods", member("web-1", "False"));
    let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    server.create("poddisruptionbudgets", json!({"metadata": {"name": "web"}, "spec": spec}));
    until_budget(&server, "one healthy", 1, 1, 0).await;
    server.merge("pods", "default", "web-1", &json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    until_budget(&server, "two healthy", 2, 1, 1).await;
    server.merge("statefulsets", "default", "web", &json!({"spec": {"replicas": 3}}));
    until_budget(&server, "a third wanted", 2, 2, 0).await;
    server.delete("pods", "default", "web-0", json!({"gracePeriodSeconds": 0}));
    until_budget(&server, "one gone", 1, 2, 0).await;
    server.delete("statefulsets", "default", "web", json!({"propagationPolicy": "Background"}));
    server
        .until("no controller", |server| {
            let status = server.find("poddisruptionbudgets", "default", "web").unwrap()["status"].clone();
            status["conditions"][0]["reason"] == "SyncFailed" && status["disruptionsAllowed"] == 0
        })
        .await;
}

#[tokio::test]
async fn a_quota_says_what_is_used_as_objects_come_and_go_and_end() {
    let Story { server, tasks: _tasks, .. } = Story::new().with_quotas();
    let used = |server: &Server| server.find("resourcequotas", "default", "q").unwrap()["status"]["used"].clone();
    server.create("configmaps", json!({"metadata": {"name": "one"}}));
    let hard = json!({"pods": "5", "requests.memory": "1Gi", "count/configmaps": "9"});
    server.create("resourcequotas", json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}));
    server.until("one counted", |server| used(server) == json!({"pods": "0", "requests.memory": "0", "count/configmaps": "1"})).await;
    let container = json!({"name": "c", "resources": {"requests": {"memory": "512Mi"}}});
    server.create("pods", json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}}));
    server.create("configmaps", json!({"metadata": {"name": "two"}}));
    server.until("both counted", |server| used(server) == json!({"pods": "1", "requests.memory": "512Mi", "count/configmaps": "2"})).await;
    server.merge("pods", "default", "p", &json!({"status": {"phase": "Succeeded"}}));
    server.delete("configmaps", "default", "one", json!({}));
    server.until("released", |server| used(server) == json!({"pods": "0", "requests.memory": "0", "count/configmaps": "1"})).await;
}
