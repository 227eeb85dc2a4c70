//! How fast whole sets become Ready.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::Failure;
use crate::instance::Instance;
use crate::report::{Report, Sample};

const ROUNDS: usize = 5;

/// Six ordered instances with a claim each and an exec probe, on real containers.
pub async fn measure_real(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&[]).await?;
    instance.load("STEADFAST_BUSYBOX_IMAGE").await?;
    let sets: Api<StatefulSet> = Api::namespaced(instance.client().await?, "default");
    let (mut created, mut updated) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("s{round}");
        created.push(create(&sets, real(&name)).await?);
        updated.push(update(&sets, &name, 6).await?);
        remove(&sets, &name).await?;
    }
    report.add("6 ordered, claim and exec probe: created to all Ready", &Sample::new(created, "s"), "0.4 s");
    report.add("the same: rolling update, one at a time", &Sample::new(updated, "s"), "0.6 s");
    instance.stop().await
}

/// A hundred instances on nodes that only pretend.
pub async fn measure_simulated(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&["--simulated-nodes", "10"]).await?;
    let sets: Api<StatefulSet> = Api::namespaced(instance.client().await?, "default");
    for (policy, target) in [("Parallel", "0.5 s"), ("OrderedReady", "0.4 s")] {
        let mut created = Vec::new();
        for round in 0..ROUNDS {
            let name = format!("{}{round}", policy.to_lowercase());
            created.push(create(&sets, simulated(&name, policy, 100)).await?);
            remove(&sets, &name).await?;
        }
        let figure = format!("100 {policy} on simulated nodes: created to all Ready");
        report.add(&figure, &Sample::new(created, "s"), target);
    }
    instance.stop().await
}

fn real(name: &str) -> Value {
    let mut set = simulated(name, "OrderedReady", 6);
    set["spec"]["template"]["spec"] = json!({
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "enableServiceLinks": false,
        "containers": [{
            "name": "main", "image": "busybox:1", "command": ["sleep", "100000"],
            "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]
        }]
    });
    set["spec"]["volumeClaimTemplates"] = json!([{
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    }]);
    set
}

/// A set of instances that nothing runs in.
pub(crate) fn simulated(name: &str, policy: &str, replicas: i32) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "serviceName": name, "replicas": replicas, "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": "busybox:1"}]}
            }
        }
    })
}

/// From the request to the last replica's readiness, in seconds.
pub(crate) async fn create(sets: &Api<StatefulSet>, set: Value) -> Result<f64, Failure> {
    let name = set["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let replicas = set["spec"]["replicas"].as_i64().unwrap_or_default();
    let begin = Instant::now();
    sets.create(&PostParams::default(), &serde_json::from_value(set)?).await?;
    until(sets, &name, |set| ready(set) == replicas).await?;
    Ok(begin.elapsed().as_secs_f64())
}

/// From a new template to the last replica's readiness at it, in seconds.
pub(crate) async fn update(sets: &Api<StatefulSet>, name: &str, replicas: i64) -> Result<f64, Failure> {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"round": "two"}}}}});
    let begin = Instant::now();
    sets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    let is_done = |set: &StatefulSet| {
        let status = set.status.clone().unwrap_or_default();
        let seen = status.observed_generation == set.metadata.generation;
        seen && i64::from(status.updated_replicas.unwrap_or(0)) == replicas && ready(set) == replicas
    };
    until(sets, name, is_done).await?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Scales to nothing and deletes.
pub(crate) async fn remove(sets: &Api<StatefulSet>, name: &str) -> Result<(), Failure> {
    sets.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 0}}))).await?;
    until(sets, name, |set| {
        set.status.as_ref().is_some_and(|status| status.replicas == 0 && status.observed_generation == set.metadata.generation)
    })
    .await?;
    sets.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

fn ready(set: &StatefulSet) -> i64 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0).into()
}

async fn until(sets: &Api<StatefulSet>, name: &str, holds: impl Fn(&StatefulSet) -> bool) -> Result<(), Failure> {
    let mut events = sets.watch(&WatchParams::default().fields(&format!("metadata.name={name}")), "").await?.boxed();
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Added(set) | WatchEvent::Modified(set) = event
            && holds(&set)
        {
            return Ok(());
        }
    }
    Err(format!("the watch of {name} ended").into())
}
