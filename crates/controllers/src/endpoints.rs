//! Keeps EndpointSlices and Endpoints as the Services and pods say.
//!
//! # Guarantees
//! * A pod's change is published without delay, and writes only the slice the pod is in.
//! * A round begins when the views show the last round's writes, so no endpoint is published twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::try_join_all;
use informer::{Api, Change};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kinds::{ObjectKey, Selector};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use plan::endpoints::{MANAGED_BY, MANAGER, SERVICE_NAME, SliceChange, has_selector, plan_endpoints, plan_slices};

use crate::Informers;
use crate::gone::gone_is_fine;
use crate::runtime::{Controller, Outcome, ReconcileError, Runner, Writes, call};

/// Which zone a node is in.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, informers: &Informers, shutdown: impl Future<Output = ()> + Send) {
    let controller = EndpointsController { client, informers: informers.clone(), writes: Mutex::default() };
    let services = informers.services.clone();
    Runner::new(controller)
        .watch(&informers.services, |change| vec![change.key.clone()])
        .watch(&informers.pods, move |change| selecting(&services.in_namespace(&change.key.namespace), change))
        .watch(&informers.slices, service_of_slice)
        .watch(&informers.endpoints, |change| vec![change.key.clone()])
        .needs(&informers.nodes)
        .run(shutdown)
        .await;
}

/// The Services that selected the pod before, or do now.
fn selecting(services: &[Arc<Service>], change: &Change<Pod>) -> Vec<ObjectKey> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && looks_the_same(old, new)
    {
        return Vec::new();
    }
    let pods: Vec<_> = change.old.iter().chain(&change.new).collect();
    let selected = services.iter().filter(|service| pods.iter().any(|pod| selects(service, pod)));
    selected.map(|service| ObjectKey::new(change.key.namespace.clone(), service.name_any())).collect()
}

/// Whether nothing changed that an endpoint shows.
fn looks_the_same(old: &Pod, new: &Pod) -> bool {
    let status = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let ready =
            status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready").map(|condition| condition.status.clone());
        (status.pod_ip, status.pod_ips, ready, matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")))
    };
    let identity = |pod: &Pod| (pod.metadata.uid.clone(), pod.metadata.deletion_timestamp.is_some(), pod.metadata.labels.clone());
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    identity(old) == identity(new) && status(old) == status(new) && node(old) == node(new)
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.iter().flat_map(|spec| spec.selector.iter().flatten());
    has_selector(service) && Selector::from_labels(selector).matches(pod.metadata.labels.as_ref())
}

fn service_of_slice(change: &Change<EndpointSlice>) -> Vec<ObjectKey> {
    let names = change.old.iter().chain(&change.new).filter(|slice| is_ours(slice)).filter_map(|slice| slice.labels().get(SERVICE_NAME));
    names.map(|name| ObjectKey::new(change.key.namespace.clone(), name.clone())).collect()
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

struct EndpointsController {
    client: Client,
    informers: Informers,
    /// What each Service's last round wrote and the views may not show yet.
    writes: Mutex<HashMap<ObjectKey, RoundWrites>>,
}

#[derive(Clone, Default)]
struct RoundWrites {
    slices: Writes,
    endpoints: Writes,
}

impl Controller for EndpointsController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpoints"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let mut written = self.writes().get(key).cloned().unwrap_or_default();
        written.slices.seen_by(&self.informers.slices).await?;
        written.endpoints.seen_by(&self.informers.endpoints).await?;
        self.writes().remove(key);
        match self.informers.services.get(key) {
            Some(service) if has_selector(&service) => self.publish(key, &service).await?,
            Some(_) => {}
            None => self.withdraw(key).await?,
        }
        Ok(Outcome::done())
    }
}

impl EndpointsController {
    fn writes(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, RoundWrites>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn publish(&self, key: &ObjectKey, service: &Service) -> Result<(), ReconcileError> {
        let mut pods = self.informers.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selects(service, pod));
        let slices = self.slices_of(key);
        let changes = plan_slices(service, &pods, &slices, &|node| self.zone(node));
        try_join_all(changes.into_iter().map(|change| self.write_slice(key, change))).await?;
        let current = self.informers.endpoints.get(key);
        match plan_endpoints(service, &pods, current.as_deref()) {
            Some(endpoints) => self.write_endpoints(key, &endpoints, current.is_some()).await,
            None => Ok(()),
        }
    }

    fn slices_of(&self, key: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
        let mut slices = self.informers.slices.in_namespace(&key.namespace);
        slices.retain(|slice| is_ours(slice) && slice.labels().get(SERVICE_NAME) == Some(&key.name));
        slices
    }

    fn zone(&self, node: &str) -> Option<String> {
        self.informers.nodes.get(&ObjectKey::cluster(node))?.labels().get(ZONE).cloned()
    }

    async fn write_slice(&self, key: &ObjectKey, change: SliceChange) -> Result<(), ReconcileError> {
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.namespace);
        let doing = || format!("writing an endpoint slice of {key}");
        let answer = match change {
            SliceChange::Create(slice) => call(doing, api.create(&PostParams::default(), &slice)).await?,
            SliceChange::Update(slice) => call(doing, api.replace(&slice.name_any(), &PostParams::default(), &slice)).await?,
            SliceChange::Delete(slice) => return self.delete_slice(key, &api, &slice).await,
        };
        self.writes().entry(key.clone()).or_default().slices.wrote(&answer);
        Ok(())
    }

    async fn delete_slice(&self, key: &ObjectKey, api: &Api<EndpointSlice>, slice: &EndpointSlice) -> Result<(), ReconcileError> {
        let uid = slice.uid().unwrap_or_default();
        let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let doing = || format!("deleting an endpoint slice of {key}");
        gone_is_fine(call(doing, api.delete(&slice.name_any(), &params)).await.map(drop))?;
        let deleted = ObjectKey::new(key.namespace.clone(), slice.name_any());
        self.writes().entry(key.clone()).or_default().slices.deleted(deleted, uid);
        Ok(())
    }

    async fn write_endpoints(&self, key: &ObjectKey, endpoints: &Endpoints, exists: bool) -> Result<(), ReconcileError> {
        let api = Api::<Endpoints>::namespaced(self.client.clone(), &key.namespace);
        let doing = || format!("writing the endpoints of {key}");
        let answer = if exists {
            call(doing, api.replace(&key.name, &PostParams::default(), endpoints)).await?
        } else {
            call(doing, api.create(&PostParams::default(), endpoints)).await?
        };
        self.writes().entry(key.clone()).or_default().endpoints.wrote(&answer);
        Ok(())
    }

    /// The Service is gone. Its slices go by their owner; the classic object has none.
    async fn withdraw(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let Some(endpoints) = self.informers.endpoints.get(key) else { return Ok(()) };
        if !endpoints.labels().contains_key("endpoints.kubernetes.io/managed-by") {
            return Ok(());
        }
        let preconditions = Preconditions { uid: endpoints.uid(), resource_version: endpoints.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api = Api::<Endpoints>::namespaced(self.client.clone(), &key.namespace);
        gone_is_fine(call(|| format!("deleting the endpoints of {key}"), api.delete(&key.name, &params)).await.map(drop))
    }
}
