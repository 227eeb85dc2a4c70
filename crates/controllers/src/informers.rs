//! The live views that all controllers share.

use informer::{Informer, Watched};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client};

/// One live view of every kind that controllers look at. Started once per process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Informers {
    pub statefulsets: Informer<StatefulSet>,
    pub revisions: Informer<ControllerRevision>,
    pub pods: Informer<Pod>,
    pub claims: Informer<PersistentVolumeClaim>,
    pub volumes: Informer<PersistentVolume>,
    pub storage_classes: Informer<StorageClass>,
    pub services: Informer<Service>,
    pub slices: Informer<EndpointSlice>,
    pub endpoints: Informer<Endpoints>,
    pub nodes: Informer<Node>,
    pub leases: Informer<Lease>,
    pub namespaces: Informer<Namespace>,
    pub service_accounts: Informer<ServiceAccount>,
    pub config_maps: Informer<ConfigMap>,
    pub budgets: Informer<PodDisruptionBudget>,
    pub quotas: Informer<ResourceQuota>,
}

impl Informers {
    /// Begins to watch every kind, in all namespaces.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(client: &Client) -> Self {
        Self {
            statefulsets: everywhere(client),
            revisions: everywhere(client),
            pods: everywhere(client),
            claims: everywhere(client),
            volumes: everywhere(client),
            storage_classes: everywhere(client),
            services: everywhere(client),
            slices: everywhere(client),
            endpoints: everywhere(client),
            nodes: everywhere(client),
            leases: everywhere(client),
            namespaces: everywhere(client),
            service_accounts: everywhere(client),
            config_maps: everywhere(client),
            budgets: everywhere(client),
            quotas: everywhere(client),
        }
    }
}

fn everywhere<K: Watched>(client: &Client) -> Informer<K> {
    Informer::start(Api::all(client.clone()))
}
