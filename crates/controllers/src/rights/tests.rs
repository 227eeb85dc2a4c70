//! Whether what a controller asks for and what the table says is the same. That no more is asked for, all stories check.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::pending;

use informer::Change;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::election::{self, Candidacy, News};
use crate::tests::guard::{Guard, spelled};
use crate::tests::server::Server;
use crate::{Informers, roster::Parts};

/// Makes pods ready as they come, and ends those that are to go.
async fn run_pods(server: Server, informers: Informers) {
    let mut pods = informers.pods.subscribe();
    loop {
        pods.changes().await.into_iter().for_each(|change| run_pod(&server, &change));
    }
}

fn run_pod(server: &Server, change: &Change<Pod>) {
    let Some(pod) = &change.new else { return };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if server.find("pods", "default", &pod.name_any()).is_none() {
    } else if pod.metadata.deletion_timestamp.is_some() {
        server.delete("pods", "default", &pod.name_any(), json!({"gracePeriodSeconds": 0}));
    } else if phase != Some("Running") {
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        server.merge("pods", "default", &pod.name_any(), &json!({"status": {"phase": "Running", "conditions": ready}}));
    }
}

fn set(api_version: &str) -> Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": api_version, "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
        "replicas": 1, "serviceName": "web", "selector": {"matchLabels": labels},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "v1"}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]}})
}

/// Leads a set through all that can happen to it.
async fn lead_through_life(server: &Server, guard: &Guard, kind: SetKind) {
    let generation = Cell::new(1);
    let change = |spec: Value| {
        generation.set(generation.get() + 1);
        server.merge("statefulsets", "default", "web", &json!({"metadata": {"generation": generation.get()}, "spec": spec}));
    };
    let image = |image: &str| json!({"template": {"spec": {"containers": [{"name": "main", "image": image}]}}});
    let label = |labels: Value| server.merge("pods", "default", "web-0", &json!({"metadata": {"labels": labels}}));
    let done = |what: &'static str, verb: &'static str, resource: &'static str| {
        server.until(what, move |server| {
            let pod = server.find("pods", "default", "web-0");
            guard.has(verb, resource) && pod.is_some_and(|pod| pod["status"]["phase"] == "Running")
        })
    };
    server.create("statefulsets", set(kind.api_version()));
    done("it comes up", "create", "pods").await;
    label(json!({"app": "other"}));
    done("the pod is let go", "patch", "pods").await;
    label(json!({"app": "web"}));
    done("it is taken in again", "get", "statefulsets").await;
    label(json!({"statefulset.kubernetes.io/pod-name": "other"}));
    done("its label is repaired", "update", "pods").await;
    change(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"}}));
    done("its claim is owned", "patch", "persistentvolumeclaims").await;
    change(image("v2"));
    done("it is updated, with events that were told before", "patch", "events").await;
    server.until("it has two revisions", |server| server.all("controllerrevisions").len() == 2).await;
    change(image("v1"));
    done("it is rolled back", "patch", "controllerrevisions").await;
    change(json!({"revisionHistoryLimit": 0}));
    done("it forgets", "delete", "controllerrevisions").await;
    done("its status is told", "update", "statefulsets/status").await;
}

#[tokio::test]
async fn the_statefulset_controller_asks_for_what_the_table_says_for_either_kind_of_sets() {
    for kind in SetKind::ALL {
        let (server, guard) = (Server::default(), Guard::default());
        let rights = Controller::StatefulSet.rights(kind);
        let client = guard.client(server.client(), &rights);
        let parts = Parts::start_for(&[Controller::StatefulSet], &client, kind, "".into());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(run_pods(server.clone(), parts.informers.clone()));
        tasks.spawn(async move { Controller::StatefulSet.run(client, &parts, pending()).await });
        lead_through_life(&server, &guard, kind).await;
        // What is asked for by hooks and rollbacks is shown by their own tests.
        let mut asked = guard.asked();
        let elsewhere = [("get", "", "pods/exec"), ("create", "", "pods/exec"), ("update", kind.group(), "statefulsets")];
        asked.extend(elsewhere.map(|(verb, group, resource)| (verb.to_owned(), group.to_owned(), resource.to_owned())));
        assert_eq!(asked, spelled(&rights));

        let told = server.all("events");
        let about: BTreeSet<_> = told.iter().map(|event| event["involvedObject"]["apiVersion"].as_str().unwrap()).collect();
        assert_eq!(about, [kind.api_version()].into());
        for resource in ["pods", "controllerrevisions", "persistentvolumeclaims"] {
            for object in server.all(resource) {
                assert_eq!(object["metadata"]["ownerReferences"][0]["apiVersion"], kind.api_version(), "{object}");
            }
        }
    }
}

#[tokio::test]
async fn a_candidate_asks_for_what_the_table_says() {
    let (server, guard) = (Server::default(), Guard::default());
    let client = guard.client(server.client(), &[ELECTION]);
    let candidacy = Candidacy {
        namespace: "ops".to_owned(),
        name: "steadfast".to_owned(),
        identity: "first".to_owned(),
        timing: plan::election::Timing::of_lease(1),
    };
    let (leads, leading) = oneshot::channel();
    let leads = std::sync::Mutex::new(Some(leads));
    let tell = move |news| {
        if matches!(news, News::Leading(_)) {
            leads.lock().unwrap().take().map(|leads| leads.send(()));
        }
    };
    let done = async {
        leading.await.unwrap();
        let renewed = |_: &Server| guard.has("update", "leases") && guard.has("watch", "leases");
        server.until("the lease is renewed", renewed).await;
    };
    let work = |_, mut end: tokio::sync::watch::Receiver<bool>| async move { drop(end.wait_for(|end| *end).await) };
    election::run(client, candidacy, tell, work, done).await;
    assert_eq!(guard.asked(), spelled(&[ELECTION]));
}
