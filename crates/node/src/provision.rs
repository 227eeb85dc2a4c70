//! Makes local volumes for claims whose pod is to run here, and removes them when they are released.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use informer::Api;
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::ObjectKey;
use kube::Client;
use kube::api::{DeleteParams, PostParams, Preconditions};

use crate::sources::Views;
use crate::volumes::blocking;

/// The name by which a StorageClass asks for local volumes.
pub const PROVISIONER: &str = "steadfast.dev/local";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// After a failure everything is looked at again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Follows claims and volumes for ever.
pub(crate) async fn run(client: Client, views: Views, node: String, root: PathBuf) {
    views.claims.synced().await;
    views.volumes.synced().await;
    views.storage_classes.synced().await;
    let provisioner = Provisioner { client, views: views.clone(), node, root };
    let mut claims = views.claims.subscribe();
    let mut volumes = views.volumes.subscribe();
    let mut classes = views.storage_classes.subscribe();
    let mut failed = false;
    loop {
        tokio::select! {
            changes = claims.changes() => {
                for claim in changes.into_iter().filter_map(|change| change.new) {
                    failed |= !provisioner.provision_or_warn(&claim).await;
                }
            }
            changes = volumes.changes() => {
                for volume in changes.into_iter().filter_map(|change| change.new) {
                    failed |= !provisioner.reclaim_or_warn(&volume).await;
                }
            }
            _ = classes.changes() => failed = !provisioner.look_at_all().await,
            () = tokio::time::sleep(RETRY), if failed => failed = !provisioner.look_at_all().await,
        }
    }
}

struct Provisioner {
    client: Client,
    views: Views,
    node: String,
    root: PathBuf,
}

/// Why a volume was not made or removed.
#[derive(Debug, thiserror::Error)]
enum ProvisionError {
    #[error("{0}")]
    Directory(#[from] std::io::Error),
    #[error("{0}")]
    Api(#[from] Box<kube::Error>),
}

impl From<kube::Error> for ProvisionError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl Provisioner {
    async fn look_at_all(&self) -> bool {
        let mut well = true;
        for claim in self.views.claims.list() {
            well &= self.provision_or_warn(&claim).await;
        }
        for volume in self.views.volumes.list() {
            well &= self.reclaim_or_warn(&volume).await;
        }
        well
    }

    async fn provision_or_warn(&self, claim: &PersistentVolumeClaim) -> bool {
        match self.provision(claim).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(claim = claim.metadata.name, %error, "its volume was not made; it is tried again");
                false
            }
        }
    }

    async fn reclaim_or_warn(&self, volume: &PersistentVolume) -> bool {
        match self.reclaim(volume).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(volume = volume.metadata.name, %error, "it was not removed; it is tried again");
                false
            }
        }
    }

    /// The directory first, so that a volume that exists can be mounted.
    async fn provision(&self, claim: &PersistentVolumeClaim) -> Result<(), ProvisionError> {
        let Some(policy) = self.asks_here(claim) else { return Ok(()) };
        let name = volume_name(claim);
        if self.views.volumes.get(&ObjectKey::cluster(&name)).is_some() {
            return Ok(());
        }
        let (root, directory) = (self.root.clone(), name.clone());
        let path = blocking(move || volume::local::create(&root, &directory)).await?;
        let volume = volume_for(claim, &name, &path, &self.node, policy);
        match Api::<PersistentVolume>::all(self.client.clone()).create(&PostParams::default(), &volume).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// The reclaim policy, if the claim waits for a local volume on this node.
    fn asks_here(&self, claim: &PersistentVolumeClaim) -> Option<Option<String>> {
        let spec = claim.spec.as_ref()?;
        let selected = claim.metadata.annotations.as_ref()?.get(SELECTED_NODE)?;
        let waits = spec.volume_name.as_deref().is_none_or(str::is_empty) && claim.metadata.deletion_timestamp.is_none();
        let class = self.views.storage_classes.get(&ObjectKey::cluster(spec.storage_class_name.as_deref()?))?;
        let ours = class.provisioner == PROVISIONER && *selected == self.node && waits;
        ours.then(|| class.reclaim_policy.clone())
    }

    /// A released volume with policy Delete goes with its data.
    async fn reclaim(&self, volume: &PersistentVolume) -> Result<(), ProvisionError> {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let released = phase == Some("Released") && volume.metadata.deletion_timestamp.is_none();
        let (Some(name), true) = (volume.metadata.name.clone(), released && is_ours(volume, &self.node)) else { return Ok(()) };
        let (root, directory) = (self.root.clone(), name.clone());
        blocking(move || volume::local::remove(&root, &directory)).await?;
        let preconditions = Preconditions { uid: volume.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match Api::<PersistentVolume>::all(self.client.clone()).delete(&name, &parameters).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// It was made by this provisioner on this node, and is to be deleted with its claim.
fn is_ours(volume: &PersistentVolume, node: &str) -> bool {
    let made_by = volume.metadata.annotations.as_ref().and_then(|annotations| annotations.get(PROVISIONED_BY));
    let Some(spec) = &volume.spec else { return false };
    let terms = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref()).map(|required| &required.node_selector_terms);
    let here = |requirement: &NodeSelectorRequirement| {
        requirement.key == HOSTNAME && requirement.values.as_deref().unwrap_or_default() == [node.to_owned()]
    };
    let is_here = terms.is_some_and(|terms| terms.iter().flat_map(|term| term.match_expressions.iter().flatten()).any(here));
    made_by.is_some_and(|name| name == PROVISIONER) && is_here && spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete")
}

fn volume_for(claim: &PersistentVolumeClaim, name: &str, path: &Path, node: &str, policy: Option<String>) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    let here = NodeSelectorRequirement { key: HOSTNAME.to_owned(), operator: "In".to_owned(), values: Some(vec![node.to_owned()]) };
    let term = NodeSelectorTerm { match_expressions: Some(vec![here]), match_fields: None };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: spec.resources.and_then(|resources| resources.requests),
            access_modes: spec.access_modes,
            persistent_volume_reclaim_policy: Some(policy.unwrap_or_else(|| "Delete".to_owned())),
            storage_class_name: spec.storage_class_name,
            volume_mode: Some(spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned())),
            local: Some(LocalVolumeSource { path: path.display().to_string(), fs_type: None }),
            node_affinity: Some(VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                name: claim.metadata.name.clone(),
                namespace: claim.metadata.namespace.clone(),
                uid: claim.metadata.uid.clone(),
                ..ObjectReference::default()
            }),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_belongs_to_its_claim_and_its_node() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": { "name": "data-web-0", "namespace": "shop", "uid": "u1" },
            "spec": { "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        }))
        .unwrap();
        let volume = volume_for(&claim, &volume_name(&claim), Path::new("/data/volumes/pvc-u1"), "n", None);
        assert_eq!(volume.metadata.name.as_deref(), Some("pvc-u1"));
        assert!(is_ours(&volume, "n") && !is_ours(&volume, "other"));
        let spec = volume.spec.clone().unwrap();
        assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("u1"));
        assert_eq!(spec.capacity.unwrap()["storage"].0, "1Gi");
        let kept = volume_for(&claim, "pvc-u1", Path::new("/x"), "n", Some("Retain".to_owned()));
        assert!(!is_ours(&kept, "n"));
    }
}
