//! Makes the namespaces a cluster begins with, and empties those that end.
//!
//! # Guarantees
//! * Pods go first, so that what they depend on outlives them; a namespace is finalized only when the server itself says that
//!   nothing of any served kind is left.

use std::collections::BTreeMap;

use futures::future::join_all;
use informer::Api;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::{ObjectKey, Resource, registry};
use kube::Client;
use kube::api::{DeleteParams, ListParams, PostParams};
use plan::namespaces::{Ending, Remaining, SYSTEM, is_ending, plan_ending};

use crate::inventory::{Inventory, Partial, api_resource};
use crate::runtime::{Controller, Outcome, ReconcileError, Runner, call};
use crate::{Clock, Informers};

/// How many objects of one resource are counted in one request.
const PAGE: u32 = 500;

/// Makes sure that the namespaces a cluster begins with exist.
pub async fn ensure_system(client: &Client) -> Result<(), ReconcileError> {
    let api = Api::<Namespace>::all(client.clone());
    for name in SYSTEM {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let created = call(|| format!("creating namespace {name}"), api.create(&PostParams::default(), &namespace)).await;
        match created {
            Err(ReconcileError::Api { source: kube::Error::Api(status), .. }) if status.is_already_exists() => {}
            result => drop(result?),
        }
    }
    Ok(())
}

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, informers: &Informers, inventory: &Inventory, shutdown: impl Future<Output = ()> + Send) {
    let runner = Runner::new(Undertaker { client, informers: informers.clone() })
        .watch(&informers.namespaces, |change| vec![change.key.name.clone()]);
    inventory.tell_of_namespaces(runner.queue());
    runner.run(shutdown).await;
}

struct Undertaker {
    client: Client,
    informers: Informers,
}

impl Controller for Undertaker {
    type Key = String;

    fn name(&self) -> &'static str {
        "namespaces"
    }

    async fn reconcile(&self, name: &String) -> Result<Outcome, ReconcileError> {
        let Some(namespace) = self.informers.namespaces.get(&ObjectKey::cluster(name)) else { return Ok(Outcome::done()) };
        if !is_ending(&namespace) {
            return Ok(Outcome::done());
        }
        let (pods, others): (Vec<_>, Vec<_>) = contents().partition(|resource| resource.qualified() == "pods");
        let mut emptied = self.empty(name, pods).await;
        if emptied.is_empty() {
            emptied = self.empty(name, others).await;
        }
        self.conclude(&namespace, emptied).await
    }
}

/// What a namespace can hold, each stored object once.
fn contents() -> impl Iterator<Item = &'static Resource> {
    let twice = |resource: &&Resource| resource.group == "events.k8s.io";
    registry::RESOURCES.iter().filter(|resource| resource.is_namespaced()).filter(move |resource| !twice(resource))
}

/// What deleting has left, and what went wrong.
#[derive(Default)]
struct Emptied {
    remaining: Vec<Remaining>,
    failures: Vec<(&'static str, ReconcileError)>,
}

impl Emptied {
    fn is_empty(&self) -> bool {
        self.remaining.is_empty() && self.failures.is_empty()
    }
}

impl Undertaker {
    async fn empty(&self, namespace: &str, resources: Vec<&'static Resource>) -> Emptied {
        let results = join_all(resources.iter().map(|resource| self.empty_of(namespace, resource))).await;
        let mut emptied = Emptied::default();
        for (resource, result) in resources.into_iter().zip(results) {
            match result {
                Ok(remaining) => emptied.remaining.extend(remaining),
                Err(error) => emptied.failures.push((resource.plural, error)),
            }
        }
        emptied
    }

    /// Deletes all objects of one resource, and counts what is left.
    async fn empty_of(&self, namespace: &str, resource: &'static Resource) -> Result<Option<Remaining>, ReconcileError> {
        let api = kube::Api::<Partial>::namespaced_with(self.client.clone(), namespace, &api_resource(resource));
        let counting = || format!("counting {} in {namespace}", resource.qualified());
        let page = ListParams::default().limit(PAGE);
        match call(counting, api.list(&page)).await {
            Ok(present) if present.items.is_empty() => return Ok(None),
            // Not served here.
            Err(error) if error.is_not_found() => return Ok(None),
            other => drop(other?),
        }
        let deleting = || format!("deleting {} in {namespace}", resource.qualified());
        call(deleting, api.delete_collection(&DeleteParams::background(), &ListParams::default())).await?;
        let left = call(counting, api.list(&page)).await?.items;
        Ok((!left.is_empty()).then(|| remaining(resource, &left)))
    }

    async fn conclude(&self, namespace: &Namespace, emptied: Emptied) -> Result<Outcome, ReconcileError> {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let failures: Vec<_> = emptied.failures.iter().map(|(resource, error)| format!("{resource}: {error}")).collect();
        let api = Api::<Namespace>::all(self.client.clone());
        let params = PostParams::default();
        match plan_ending(namespace, &emptied.remaining, &failures, Clock::default().now()) {
            Ending::Nothing | Ending::Wait { conditions: None } => {}
            Ending::Wait { conditions } => {
                let mut told = namespace.clone();
                told.status.get_or_insert_default().conditions = conditions;
                call(|| format!("telling what is left in namespace {name}"), api.replace_status(&name, &params, &told)).await?;
            }
            Ending::Finalize(finalized) => {
                call(|| format!("finalizing namespace {name}"), api.replace_subresource("finalize", &name, &params, &*finalized)).await?;
            }
        }
        // What failed is tried again; what waits for others is looked at when they change.
        emptied.failures.into_iter().next().map_or(Ok(Outcome::done()), |(_, error)| Err(error))
    }
}

fn remaining(resource: &Resource, left: &[Partial]) -> Remaining {
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for finalizer in left.iter().flat_map(|object| object.metadata.finalizers.iter().flatten()) {
        *finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    Remaining { resource: resource.qualified(), count: left.len(), finalizers }
}
