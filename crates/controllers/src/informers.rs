//! The live views that all controllers share.

use informer::{Api, Informer, Watched};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kinds::SetKind;
use kube::Client;

use crate::statefulset::wire;

/// One live view of every kind that controllers look at. Started once per process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Informers {
    /// Which sets `statefulsets` shows.
    pub set_kind: SetKind,
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
        Self::start_some(client, SetKind::default(), |_| true)
    }

    /// Begins to watch the resources that are chosen by their plural names, in all namespaces. The others stay empty for ever,
    /// and whoever waits for them to be listed waits for ever.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_some(client: &Client, set_kind: SetKind, chosen: impl Fn(&str) -> bool) -> Self {
        let views = Chosen { client, chosen: &chosen };
        Self {
            set_kind,
            statefulsets: match chosen("statefulsets") {
                true => wire::everywhere(client, set_kind),
                false => Informer::idle(),
            },
            revisions: views.view(),
            pods: views.view(),
            claims: views.view(),
            volumes: views.view(),
            storage_classes: views.view(),
            services: views.view(),
            slices: views.view(),
            endpoints: views.view(),
            nodes: views.view(),
            leases: views.view(),
            namespaces: views.view(),
            service_accounts: views.view(),
            config_maps: views.view(),
            budgets: views.view(),
            quotas: views.view(),
        }
    }
}

/// Starts those views that are chosen.
struct Chosen<'a> {
    client: &'a Client,
    chosen: &'a dyn Fn(&str) -> bool,
}

impl Chosen<'_> {
    fn view<K: Watched>(&self) -> Informer<K> {
        match (self.chosen)(&K::plural(&())) {
            true => Informer::start(Api::all(self.client.clone())),
            false => Informer::idle(),
        }
    }
}
