//! One thing goes wrong between the StatefulSet controller and the server: every thing, at every point of every story.
//!
//! The server, the store, the scheduler, the binder and the garbage collector are real; the node is simulated. A story is run
//! once with nothing wrong, which tells how many writes and events it has; then once per perturbation. However it goes, every
//! commit in the store's history has to keep the rules, and the set becomes as desired.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testkit::history::{NAMESPACE, SET, judge};
use testkit::{Cluster, Foundation, Perturbation, Wire, until};

/// How long a story may take. It takes a small part of a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the set may be unfinished while its controller rests, before lost events are made up for.
const QUIET: Duration = Duration::from_millis(60);

/// What is told, and when it has come to its end.
struct Story {
    name: &'static str,
    set: Value,
    /// What the user changes once the set has come up; `None` if coming up is the story.
    change: Option<Value>,
    /// Whether, besides being up to date, the set is as it should be at the end.
    end: fn(&StatefulSet) -> bool,
}

fn stories() -> Vec<Story> {
    let three = |set: &StatefulSet| ready(set) == 3;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "v2"}]}}}});
    vec![
        Story { name: "create", set: set("OrderedReady", 3, 0), change: None, end: three },
        Story {
            name: "scale",
            set: set("OrderedReady", 3, 0),
            change: Some(json!({"spec": {"replicas": 1}})),
            end: |set| ready(set) == 1 && replicas(set) == 1,
        },
        Story {
            name: "partition",
            set: set("OrderedReady", 3, 1),
            change: Some(image.clone()),
            end: |set| ready(set) == 3 && updated(set) == 2,
        },
        Story {
            name: "parallel",
            set: set("Parallel", 3, 0),
            change: Some(image),
            end: |set| ready(set) == 3 && updated(set) == 3 && is_current(set),
        },
    ]
}

/// A set whose claims go when it is scaled down.
fn set(policy: &str, replicas: u32, partition: u32) -> Value {
    let claim =
        json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    json!({"metadata": {"name": SET, "namespace": NAMESPACE}, "spec": {
        "replicas": replicas, "podManagementPolicy": policy, "serviceName": SET, "selector": {"matchLabels": {"app": SET}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"},
        "template": {"metadata": {"labels": {"app": SET}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "v1"}]}},
        "volumeClaimTemplates": [claim]}})
}

fn ready(set: &StatefulSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

fn replicas(set: &StatefulSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn updated(set: &StatefulSet) -> i32 {
    set.status.as_ref().and_then(|status| status.updated_replicas).unwrap_or(0)
}

fn is_current(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| status.current_revision == status.update_revision)
}

fn is_observed(set: &StatefulSet) -> bool {
    set.status.as_ref().and_then(|status| status.observed_generation) == set.metadata.generation
}

/// Writes and events after the wire was armed.
type Counts = (usize, usize);

/// Tells a story while one thing goes wrong.
async fn tell(foundation: &Foundation, story: &Story, perturbation: Perturbation) -> Result<Counts, String> {
    let mut cluster = Cluster::start(foundation).await;
    let wire = Wire::new(perturbation, cluster.store.clone());
    let sets = Api::<StatefulSet>::namespaced(cluster.admin.clone(), NAMESPACE);
    let first: StatefulSet = serde_json::from_value(story.set.clone()).unwrap();
    let mut generation = Some(1);
    cluster.control(wire.clone());
    if story.change.is_none() {
        wire.arm();
    }
    sets.create(&PostParams::default(), &first).await.unwrap();
    if let Some(change) = &story.change {
        reach(&cluster, &wire, |set| ready(set) == 3 && is_current(set)).await?;
        wire.arm();
        generation = sets.patch(SET, &PatchParams::default(), &Patch::Strategic(change)).await.unwrap().metadata.generation;
    }
    reach(&cluster, &wire, |set| set.metadata.generation == generation && (story.end)(set)).await?;
    claims_are_right(&cluster).await?;
    judge(&*cluster.store).await?;
    Ok(wire.counts())
}

/// Waits until the set is up to date and as wanted. When its controller rests before that, lost events are made up for.
async fn reach(cluster: &Cluster, wire: &Wire, wanted: impl Fn(&StatefulSet) -> bool) -> Result<(), String> {
    let done = |sets: &[Arc<StatefulSet>]| sets.iter().any(|set| is_observed(set) && wanted(set));
    let begin = tokio::time::Instant::now();
    while !until(&cluster.informers.statefulsets, QUIET, &done).await {
        wire.make_up_for_lost();
        if begin.elapsed() > PATIENCE {
            return Err(format!("not reached: {:?}", cluster.informers.statefulsets.list()));
        }
    }
    Ok(())
}

/// The claims of the replicas are there, and no others.
async fn claims_are_right(cluster: &Cluster) -> Result<(), String> {
    let wanted = || {
        let sets = cluster.informers.statefulsets.list();
        let count = sets[0].spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        (0..count).map(|ordinal| format!("data-{SET}-{ordinal}")).collect::<Vec<_>>()
    };
    let right = until(&cluster.informers.claims, PATIENCE, |claims| {
        let names: Vec<_> = claims.iter().filter_map(|claim| claim.metadata.name.clone()).collect();
        names == wanted()
    });
    if right.await { Ok(()) } else { Err(format!("claims {:?}", cluster.informers.claims.list())) }
}

/// Everything that can go wrong in a story of so many writes and events. Every older list is shown after the last write, and
/// after each write the one before; `thorough` is every older list after every write.
fn perturbations((writes, events): Counts, thorough: bool) -> Vec<Perturbation> {
    let crashes = (1..=writes).map(|write| Perturbation::Crash { write });
    let pairs = (1..=writes).flat_map(|write| (0..write).map(move |list| (write, list)));
    let old = pairs.filter(|(write, list)| thorough || *write == writes || list + 1 == *write);
    let old = old.map(|(write, list)| Perturbation::OldLists { write, list });
    let missed =
        (1..=events).flat_map(|event| [Perturbation::Broken { event }, Perturbation::Expired { event }, Perturbation::Lost { event }]);
    crashes.chain(old).chain(missed).collect()
}

/// Says something that is seen though the test passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs a story with every perturbation, or with the one that was asked for: `STEADFAST_SIEVE=scale:crash-3`. With
/// `STEADFAST_SIEVE=all`, also with every older list after every write.
fn sift(name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let story = stories().into_iter().find(|story| story.name == name).unwrap();
    let foundation = Foundation::lay();
    let asked = std::env::var("STEADFAST_SIEVE").ok();
    let run = |perturbation: Perturbation| {
        let told = runtime.block_on(tell(&foundation, &story, perturbation));
        told.unwrap_or_else(|broken| {
            panic!("{broken}\nreplay it with:\n  STEADFAST_SIEVE={name}:{perturbation} cargo test -p testkit --test sieve {name}")
        })
    };
    let thorough = asked.as_deref() == Some("all");
    if let Some(asked) = asked.filter(|_| !thorough) {
        let Some(perturbation) = asked.strip_prefix(&format!("{name}:")) else { return };
        run(perturbation.parse().unwrap());
        return;
    }
    let counts = run(Perturbation::Nothing);
    assert!(counts.0 > 0 && counts.1 > 0, "nothing happened in the story {name}");
    let all = perturbations(counts, thorough);
    for perturbation in &all {
        run(*perturbation);
    }
    say(&format!("sieve: {name}: {} writes, {} events, {} perturbations", counts.0, counts.1, all.len()));
}

#[test]
fn a_set_is_created_whatever_goes_wrong_once() {
    sift("create");
}

#[test]
fn a_set_is_scaled_down_whatever_goes_wrong_once() {
    sift("scale");
}

#[test]
fn a_set_is_updated_down_to_its_partition_whatever_goes_wrong_once() {
    sift("partition");
}

#[test]
fn a_parallel_set_is_updated_whatever_goes_wrong_once() {
    sift("parallel");
}
