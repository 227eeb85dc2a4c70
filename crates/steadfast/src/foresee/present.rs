//! The live objects that the future of a set depends on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use plan::forecast::{NewPods, Places, Present, World};
use plan::statefulset::{Observed, is_hook_pod, ordinal_of};

use crate::connect::{ConnectError, Server};

/// What is in a namespace.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub pods: Vec<Arc<Pod>>,
    pub claims: HashMap<String, Arc<PersistentVolumeClaim>>,
    pub revisions: Vec<Arc<ControllerRevision>>,
}

impl Surroundings {
    /// Asks for all that sets of a namespace depend on.
    pub async fn fetch(server: &Server, namespace: &str) -> Result<Self, ConnectError> {
        let there = Some(namespace);
        let (pods, claims, revisions): (Vec<Pod>, Vec<PersistentVolumeClaim>, Vec<ControllerRevision>) =
            futures::try_join!(server.list(there), server.list(there), server.list(there))?;
        let named = |claim: PersistentVolumeClaim| (claim.metadata.name.clone().unwrap_or_default(), Arc::new(claim));
        Ok(Self {
            pods: pods.into_iter().map(Arc::new).collect(),
            claims: claims.into_iter().map(named).collect(),
            revisions: revisions.into_iter().map(Arc::new).collect(),
        })
    }

    /// What a controller would see of a set.
    pub fn observed(&self, set: Arc<StatefulSet>) -> Observed {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let prefix = plan::statefulset::revision_prefix(name);
        let is_of = |meta: &ObjectMeta| controller(meta).is_none_or(|owner| owner == uid);
        let named = |meta: &ObjectMeta| meta.name.as_deref().is_some_and(|name| name.starts_with(&prefix));
        let revisions = self.revisions.iter().filter(|revision| is_of(&revision.metadata) || named(&revision.metadata));
        Observed {
            kind: Default::default(),
            running_hooks: Default::default(),
            hook_pods: self.pods.iter().filter(|pod| is_hook_pod(name, pod)).cloned().collect(),
            pods: self.pods.iter().filter(|pod| is_of(&pod.metadata)).cloned().collect(),
            revisions: revisions.cloned().collect(),
            claims: self.claims.clone(),
            set,
        }
    }

    /// The pods that are none of a set's.
    fn neighbours(&self, set: &StatefulSet) -> Vec<Arc<Pod>> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let own = |pod: &Pod| {
            let is_member = controller(&pod.metadata) == set.metadata.uid.as_deref()
                && ordinal_of(name, pod.metadata.name.as_deref().unwrap_or_default()).is_some();
            is_member || is_hook_pod(name, pod)
        };
        self.pods.iter().filter(|pod| !own(pod)).cloned().collect()
    }
}

fn controller(meta: &ObjectMeta) -> Option<&str> {
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    Some(owner.uid.as_str())
}

/// What is the same for all sets, and what is known of each namespace.
#[derive(Debug, Default)]
pub struct Scene {
    namespaces: BTreeMap<String, (Surroundings, Vec<PodDisruptionBudget>)>,
    places: Option<Places>,
    /// What could not be seen, and what that means.
    pub blind_spots: Vec<String>,
}

impl Scene {
    /// Looks at these namespaces and at the nodes.
    pub async fn of(server: &Server, namespaces: impl IntoIterator<Item = &str>) -> Result<Self, ConnectError> {
        let mut scene = Self::default();
        for namespace in namespaces {
            let surroundings = Surroundings::fetch(server, namespace).await?;
            let budgets = server.list::<PodDisruptionBudget>(Some(namespace)).await;
            let budgets = scene.if_visible(budgets, "PodDisruptionBudgets are not looked at")?.unwrap_or_default();
            scene.namespaces.insert(namespace.to_owned(), (surroundings, budgets));
        }
        let places = places(server).await;
        scene.places = scene.if_visible(places, "every pod is taken to find a node")?;
        Ok(scene)
    }

    /// Leaves out what may not be seen, or is not served.
    fn if_visible<T>(&mut self, answer: Result<T, ConnectError>, consequence: &str) -> Result<Option<T>, ConnectError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.refusal().is_some_and(|status| matches!(status.code, 403 | 404)) => {
                self.blind_spots.push(format!("{consequence}: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What a forecast starts from. `claims` and `budgets` are what other manifests would make of them.
    pub fn present(&self, set: StatefulSet, before: Option<StatefulSet>, changes: &Changes, new_pods: NewPods) -> Present {
        let namespace = set.metadata.namespace.clone().unwrap_or_default();
        let nothing = Default::default();
        let (surroundings, live_budgets) = self.namespaces.get(&namespace).unwrap_or(&nothing);
        let neighbours = surroundings.neighbours(&set);
        let mut observed = surroundings.observed(Arc::new(set));
        let mut claims_before = BTreeMap::new();
        for (name, claim) in changes.claims.iter().filter(|claim| claim.metadata.namespace.as_ref() == Some(&namespace)).map(named) {
            if let Some(before) = observed.claims.insert(name.clone(), Arc::new(claim.clone())) {
                claims_before.insert(name, before);
            }
        }
        let mut budgets: BTreeMap<_, _> = live_budgets.iter().map(named_budget).collect();
        budgets.extend(changes.budgets.iter().filter(|budget| budget.metadata.namespace.as_ref() == Some(&namespace)).map(named_budget));
        Present {
            world: World::new(observed, Timestamp::now()),
            before: before.map(Arc::new),
            claims: claims_before,
            neighbours,
            budgets: budgets.into_values().cloned().collect(),
            places: self.places.clone(),
            new_pods,
        }
    }
}

/// What the manifests make of other objects that matter to sets.
#[derive(Debug, Default)]
pub struct Changes {
    pub claims: Vec<PersistentVolumeClaim>,
    pub budgets: Vec<PodDisruptionBudget>,
}

fn named(claim: &PersistentVolumeClaim) -> (String, &PersistentVolumeClaim) {
    (claim.metadata.name.clone().unwrap_or_default(), claim)
}

fn named_budget(budget: &PodDisruptionBudget) -> (String, &PodDisruptionBudget) {
    (budget.metadata.name.clone().unwrap_or_default(), budget)
}

async fn places(server: &Server) -> Result<Places, ConnectError> {
    let (nodes, namespaces, pods, volumes, classes) = futures::try_join!(
        server.list::<Node>(None),
        server.list::<Namespace>(None),
        server.list::<Pod>(None),
        server.list::<PersistentVolume>(None),
        server.list::<StorageClass>(None)
    )?;
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    Ok(Places::new(&nodes, &namespaces, &pods, volumes, classes))
}
