//! Where the pods of the near future go.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kinds::ObjectKey;

use crate::schedule::{Cluster, Demand, Storage, VolumeDemand, VolumeObstacle, place, volume_demand};

/// The nodes, what is on them, and what claims can be bound to. Other pods stay where they are.
#[derive(Clone, Debug, Default)]
pub struct Places {
    cluster: Cluster,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: BTreeMap<String, Arc<StorageClass>>,
}

impl Places {
    /// The places of a whole cluster.
    pub fn new(
        nodes: &[Node],
        namespaces: &[Namespace],
        pods: &[Arc<Pod>],
        volumes: Vec<PersistentVolume>,
        classes: Vec<StorageClass>,
    ) -> Self {
        let mut cluster = Cluster::default();
        for node in nodes {
            cluster.put_node(node);
        }
        for namespace in namespaces {
            cluster.put_namespace(namespace);
        }
        for pod in pods {
            cluster.put_pod(pod);
        }
        let volumes = volumes.into_iter().map(|volume| (volume.metadata.name.clone().unwrap_or_default(), Arc::new(volume))).collect();
        let classes = classes.into_iter().map(|class| (class.metadata.name.clone().unwrap_or_default(), Arc::new(class))).collect();
        Self { cluster, volumes, classes }
    }

    /// The node a pod goes to, where it is counted from now on; or why there is none.
    pub(super) fn assign(&mut self, pod: &Pod, claims: &BTreeMap<String, Arc<PersistentVolumeClaim>>) -> Result<String, String> {
        let demand = Demand::of(pod);
        let volumes = self.volume_demand(pod, claims)?;
        let placement = place(&self.cluster, &demand, &volumes).map_err(|refusals| refusals.to_string())?;
        self.cluster.assign(Arc::new(demand), &placement.node);
        Ok(placement.node)
    }

    /// Makes room: the pod is gone.
    pub(super) fn remove(&mut self, pod: &Pod) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        self.cluster.remove_pod(&ObjectKey::new(text(&pod.metadata.namespace), text(&pod.metadata.name)));
    }

    /// A claim that is to be bound at once is taken to be, wherever its pod goes.
    fn volume_demand(&self, pod: &Pod, claims: &BTreeMap<String, Arc<PersistentVolumeClaim>>) -> Result<VolumeDemand, String> {
        let storage = Storage {
            claim: &|key| claims.get(&key.name).cloned(),
            volume: &|name| self.volumes.get(name).cloned(),
            class: &|name| self.classes.get(name).cloned(),
            volumes: &|| self.volumes.values().cloned().collect(),
            has_node: &|name| self.cluster.has_node(name),
        };
        match volume_demand(pod, &storage) {
            Err(VolumeObstacle::UnboundImmediate) => Ok(VolumeDemand::default()),
            other => other.map_err(|obstacle| obstacle.to_string()),
        }
    }
}
