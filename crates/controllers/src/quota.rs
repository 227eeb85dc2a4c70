//! Keeps in the status of each ResourceQuota what its namespace uses of it.
//!
//! The status is for people: the API server counts for itself before it lets an object in.
//!
//! # Guarantees
//! * An object that comes, goes or ends is counted without delay, but for events, which are counted along with others.

use std::sync::Arc;

use informer::{Api, Change};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kinds::{Object, ObjectKey, Resource, registry};
use kube::api::{ListParams, PostParams};
use kube::{Client, ResourceExt};
use plan::quota::{self, Usage};

use crate::inventory::{Partial, api_resource};
use crate::runtime::{Controller, Outcome, ReconcileError, Runner, call};
use crate::{Clock, Informers, Inventory};

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, informers: &Informers, inventory: &Inventory, shutdown: impl Future<Output = ()> + Send) {
    let runner = Runner::new(Quotas { client, informers: informers.clone(), clock: Clock::Wall });
    inventory.tell_of_residents(runner.queue());
    runner
        .watch(&informers.quotas, |change| vec![change.key.namespace.clone()])
        .watch(&informers.pods, |change| if uses_the_same(change) { Vec::new() } else { vec![change.key.namespace.clone()] })
        .watch(&informers.claims, |change| vec![change.key.namespace.clone()])
        .watch(&informers.services, |change| vec![change.key.namespace.clone()])
        .run(shutdown)
        .await;
}

/// Whether a pod is charged as before. What it asks for never changes.
fn uses_the_same(change: &Change<Pod>) -> bool {
    let charged = |pod: &Pod| {
        let ended = pod.status.as_ref().is_some_and(|status| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")));
        (pod.metadata.uid.clone(), ended)
    };
    matches!((&change.old, &change.new), (Some(old), Some(new)) if charged(old) == charged(new))
}

struct Quotas {
    client: Client,
    informers: Informers,
    clock: Clock,
}

impl Controller for Quotas {
    type Key = String;

    fn name(&self) -> &'static str {
        "quota"
    }

    async fn reconcile(&self, namespace: &String) -> Result<Outcome, ReconcileError> {
        for quota in self.informers.quotas.in_namespace(namespace) {
            let used = self.used(namespace, &quota, self.clock.now()).await?;
            let Some(status) = quota::status(&quota, &used) else { continue };
            let changed = ResourceQuota { status: Some(status), ..(*quota).clone() };
            let api = Api::<ResourceQuota>::namespaced(self.client.clone(), namespace);
            let key = ObjectKey::new(namespace.clone(), quota.name_any());
            let doing = || format!("writing the status of quota {key}");
            call(doing, api.replace_status(&key.name, &PostParams::default(), &changed)).await?;
        }
        Ok(Outcome::done())
    }
}

impl Quotas {
    async fn used(&self, namespace: &str, quota: &ResourceQuota, now: Timestamp) -> Result<Usage, ReconcileError> {
        let mut sum = Usage::new();
        for resource in registry::RESOURCES.iter().filter(|resource| resource.is_namespaced() && is_limited(quota, resource)) {
            let used = match resource.plural {
                "pods" => used(quota, resource, &self.informers.pods.in_namespace(namespace), now),
                "persistentvolumeclaims" => used(quota, resource, &self.informers.claims.in_namespace(namespace), now),
                "services" => used(quota, resource, &self.informers.services.in_namespace(namespace), now),
                _ => quota::counted(quota, resource, self.count(namespace, resource).await?),
            };
            quota::add(&mut sum, &used);
        }
        Ok(sum)
    }

    async fn count(&self, namespace: &str, resource: &Resource) -> Result<usize, ReconcileError> {
        let api = kube::Api::<Partial>::namespaced_with(self.client.clone(), namespace, &api_resource(resource));
        let doing = || format!("counting the {} of {namespace}", resource.qualified());
        Ok(call(doing, api.list_metadata(&ListParams::default())).await?.items.len())
    }
}

/// Whether the quota may limit such objects.
fn is_limited(quota: &ResourceQuota, resource: &Resource) -> bool {
    let looked_into = matches!(resource.plural, "pods" | "persistentvolumeclaims" | "services");
    let count = quota::counted(quota, resource, 0);
    looked_into || quota.spec.iter().flat_map(|spec| spec.hard.iter().flatten()).any(|(name, _)| count.contains_key(name))
}

fn used<K: Object>(quota: &ResourceQuota, resource: &Resource, objects: &[Arc<K>], now: Timestamp) -> Usage {
    quota::used(quota, resource, objects.iter().map(|object| &**object as &dyn Object), now)
}
