//! How large sets fare, on nodes that only pretend.

use std::time::Instant;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use plan::forecast::World;
use plan::statefulset::{Observed, plan};
use serde_json::json;

use crate::Failure;
use crate::instance::Instance;
use crate::report::{Report, Sample};
use crate::sets::{create, remove, simulated, update};

const ROUNDS: usize = 3;
/// Room for the pods of all sets.
const NODES: [&str; 4] = ["--simulated-nodes", "10", "--pod-cidr", "10.128.0.0/14"];

pub async fn measure(report: &mut Report) -> Result<(), Failure> {
    rounds(report)?;
    let instance = Instance::start(&NODES).await?;
    let sets: Api<StatefulSet> = Api::namespaced(instance.client().await?, "default");
    let (mut thousand, mut updates) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("thousand{round}");
        thousand.push(create(&sets, simulated(&name, "Parallel", 1000)).await?);
        remove(&sets, &name).await?;
        let name = format!("hundred{round}");
        create(&sets, simulated(&name, "OrderedReady", 100)).await?;
        updates.push(update(&sets, &name, 100).await?);
        remove(&sets, &name).await?;
    }
    report.add("1,000 Parallel on simulated nodes: created to all Ready", &Sample::new(thousand, "s"), "1 s");
    report.add("100 OrderedReady on simulated nodes: rolling update, one at a time", &Sample::new(updates, "s"), "0.8 s");
    let begin = Instant::now();
    try_join_all((0..10).map(|set| create(&sets, simulated(&format!("large{set}"), "Parallel", 5000)))).await?;
    let speed = 50_000.0 / begin.elapsed().as_secs_f64();
    report.add("10 sets of 5,000 replicas on simulated nodes: pods Ready", &Sample::new(vec![speed], "per s"), "2,000 per s");
    instance.stop().await
}

/// Planning alone, for a set in which nothing is to be done.
fn rounds(report: &mut Report) -> Result<(), Failure> {
    let world = settled(5000)?;
    let observed = world.observed();
    let mut rounds = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        let planned = plan(&observed, world.now);
        rounds.push(begin.elapsed().as_secs_f64() * 1e3);
        if !planned.actions.is_empty() {
            return Err("a settled set has something to do".into());
        }
    }
    report.add("one planning round for a set of 5,000 in steady state", &Sample::new(rounds, "ms"), "2 ms");
    Ok(())
}

/// A set whose replicas are all ready, as its controller would have made it.
fn settled(replicas: i32) -> Result<World, Failure> {
    let mut set = simulated("large", "Parallel", replicas);
    let metadata = json!({"name": "large", "namespace": "default", "uid": "set", "resourceVersion": "1", "generation": 1});
    set["metadata"] = metadata;
    set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
    let set: StatefulSet = serde_json::from_value(set)?;
    let observed = Observed {
        kind: Default::default(),
        set: set.into(),
        pods: Vec::new(),
        claims: Default::default(),
        revisions: Vec::new(),
        running_hooks: Default::default(),
        hook_pods: Default::default(),
    };
    let mut world = World::new(observed, jiff::Timestamp::now());
    for _ in 0..100 {
        let planned = plan(&world.observed(), world.now);
        planned.actions.iter().try_for_each(|action| world.apply(action))?;
        let wrote = world.write_status(&planned.status);
        let names: Vec<_> = world.pods.keys().cloned().collect();
        let moved = names.iter().filter(|name| world.advance_pod(name, |_| false)).count();
        if planned.actions.is_empty() && !wrote && moved == 0 {
            return Ok(world);
        }
    }
    Err("the set does not settle".into())
}
