//! Objects that pods refer to. Read from the live views; what a view does not have yet is asked of the API, since a pod may
//! be seen before the ConfigMap that was created before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use informer::{Api, Informer, Watched};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::storage::v1::StorageClass;
use kinds::ObjectKey;
use kube::Client;

use crate::container::environment::{Lookups, service_variables};

/// The live views the node looks at, shared with whoever else is in the process.
#[derive(Clone, Debug)]
pub struct Views {
    pub pods: Informer<Pod>,
    pub nodes: Informer<Node>,
    pub config_maps: Informer<ConfigMap>,
    pub secrets: Informer<Secret>,
    pub services: Informer<Service>,
    pub claims: Informer<PersistentVolumeClaim>,
    pub volumes: Informer<PersistentVolume>,
    pub storage_classes: Informer<StorageClass>,
    pub stateful_sets: Informer<StatefulSet>,
}

/// Keys and values of a ConfigMap or a Secret.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// Views, with the API behind them.
#[derive(Clone)]
pub(crate) struct Sources {
    pub views: Views,
    pub client: Client,
}

impl Sources {
    async fn find<K>(&self, view: &Informer<K>, namespace: &str, name: &str) -> Result<Option<Arc<K>>, kube::Error>
    where
        K: Watched + kube::Resource<Scope = NamespaceResourceScope>,
    {
        match view.get(&ObjectKey::new(namespace, name)) {
            Some(object) => Ok(Some(object)),
            None => Ok(Api::<K>::namespaced(self.client.clone(), namespace).get_opt(name).await?.map(Arc::new)),
        }
    }

    /// What a ConfigMap holds.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Data>, kube::Error> {
        let found = self.find(&self.views.config_maps, namespace, name).await?;
        Ok(found.map(|map| {
            let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
            text.chain(map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()))).collect()
        }))
    }

    /// What a Secret holds.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Data>, kube::Error> {
        let found = self.find(&self.views.secrets, namespace, name).await?;
        Ok(found.map(|secret| secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()))
    }

    /// A claim. Pods are bound after their claims are, so a claim that is not bound yet may only be seen late.
    pub async fn claim(&self, namespace: &str, name: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, kube::Error> {
        let is_bound = |claim: &PersistentVolumeClaim| claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
        match self.views.claims.get(&ObjectKey::new(namespace, name)).filter(|claim| is_bound(claim)) {
            Some(claim) => Ok(Some(claim)),
            None => Ok(Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace).get_opt(name).await?.map(Arc::new)),
        }
    }

    /// A persistent volume.
    pub async fn volume(&self, name: &str) -> Result<Option<Arc<PersistentVolume>>, kube::Error> {
        match self.views.volumes.get(&ObjectKey::cluster(name)) {
            Some(volume) => Ok(Some(volume)),
            None => Ok(Api::<PersistentVolume>::all(self.client.clone()).get_opt(name).await?.map(Arc::new)),
        }
    }

    /// What a container's environment refers to, as far as it exists.
    pub async fn lookups(&self, namespace: &str, container: &Container) -> Result<Lookups, kube::Error> {
        let mut lookups = Lookups::default();
        let (config_maps, secrets) = referred(container);
        for name in config_maps {
            if let Some(data) = self.config_map(namespace, &name).await? {
                lookups.config_maps.insert(name, data);
            }
        }
        for name in secrets {
            if let Some(data) = self.secret(namespace, &name).await? {
                lookups.secrets.insert(name, data);
            }
        }
        Ok(lookups)
    }

    /// What a pod is told of Services: always of the API's own, of those beside it if it wants to know.
    pub fn service_variables(&self, pod: &Pod) -> Vec<(String, String)> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let links = pod.spec.as_ref().is_none_or(|spec| spec.enable_service_links != Some(false));
        let api = self.views.services.get(&ObjectKey::new("default", "kubernetes"));
        let beside = if links { self.views.services.in_namespace(namespace) } else { Vec::new() };
        api.iter().chain(&beside).flat_map(|service| service_variables(service)).collect()
    }
}

/// The names of the ConfigMaps and Secrets that a container's environment refers to.
fn referred(container: &Container) -> (Vec<String>, Vec<String>) {
    let sources = || container.env_from.iter().flatten();
    let references = || container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    let config_maps = sources().filter_map(|source| Some(source.config_map_ref.as_ref()?.name.clone()));
    let secrets = sources().filter_map(|source| Some(source.secret_ref.as_ref()?.name.clone()));
    let config_map_keys = references().filter_map(|source| Some(source.config_map_key_ref.as_ref()?.name.clone()));
    let secret_keys = references().filter_map(|source| Some(source.secret_key_ref.as_ref()?.name.clone()));
    let unique = |names: Vec<String>| names.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    (unique(config_maps.chain(config_map_keys).collect()), unique(secrets.chain(secret_keys).collect()))
}
