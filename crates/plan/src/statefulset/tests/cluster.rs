//! A simulated cluster: applies plans as an API server would, moves pods along, and checks the invariants after every step.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::{Extensions, Ordinals};

use super::super::{Action, DeleteReason, Marking, Observed, Plan, REVISION_LABEL, ordinal_of, plan, status_differs};
use super::builders::{SetBuilder, now};

/// A pod of this image never becomes ready.
pub(super) const BROKEN: &str = "broken";

pub(super) struct Cluster {
    pub(super) set: StatefulSet,
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) claims: BTreeMap<String, PersistentVolumeClaim>,
    pub(super) revisions: BTreeMap<String, ControllerRevision>,
    pub(super) now: Timestamp,
    serial: u64,
    /// The wanted ordinals that have had a pod since they are wanted.
    seen: BTreeSet<u32>,
}

impl Cluster {
    pub(super) fn new(set: SetBuilder) -> Self {
        let (pods, claims, revisions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { set: set.0, pods, claims, revisions, now: now(), serial: 0, seen: BTreeSet::new() }
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut StatefulSetSpec)) {
        change(self.set.spec.as_mut().unwrap());
        self.set.metadata.resource_version = Some(self.serial());
        *self.set.metadata.generation.as_mut().unwrap() += 1;
        self.look();
    }

    /// Sets an annotation, which is no change of the specification.
    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        self.set.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self.set.metadata.resource_version = Some(self.serial());
        self.look();
    }

    /// Notes which of the wanted ordinals have a pod.
    fn look(&mut self) {
        let wanted: BTreeSet<_> = self.wanted().iter().collect();
        self.seen.retain(|ordinal| wanted.contains(ordinal));
        let named = self.pods.keys().filter_map(|name| ordinal_of("web", name)).map(|ordinal| ordinal.0);
        self.seen.extend(named.filter(|ordinal| wanted.contains(ordinal)));
    }

    pub(super) fn image(&mut self, image: &str) {
        self.change(|spec| spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned()));
    }

    pub(super) fn scale(&mut self, replicas: i32) {
        self.change(|spec| spec.replicas = Some(replicas));
    }

    pub(super) fn partition(&mut self, partition: i32) {
        self.change(|spec| {
            let block = spec.update_strategy.as_mut().and_then(|strategy| strategy.rolling_update.as_mut());
            block.into_iter().for_each(|block| block.partition = Some(partition));
        });
    }

    /// One round of the controller.
    pub(super) fn round(&mut self) -> Plan {
        let observed = self.observed();
        let plan = plan(&observed, self.now);
        self.check(&plan);
        for action in &plan.actions {
            assert!(self.apply(action), "refused: {action}");
            self.check_identities();
            self.look();
        }
        self.write_status(&plan);
        self.collect_garbage();
        plan
    }

    /// One round of a controller that looks at an old view and dies after some actions, before it writes a status.
    pub(super) fn interrupted_round(&mut self, view: &Observed, actions: usize) {
        let plan = plan(view, self.now);
        for action in plan.actions.iter().take(actions) {
            if !self.apply(action) {
                break;
            }
            self.check_identities();
            self.look();
        }
        self.collect_garbage();
    }

    fn write_status(&mut self, plan: &Plan) {
        if status_differs(self.set.status.as_ref(), &plan.status) {
            self.set.status = Some(plan.status.clone());
            self.set.metadata.resource_version = Some(self.serial());
        }
    }

    /// Rounds, each followed by a step of every pod, until nothing changes any more. Returns the names of the pods that
    /// were deleted, in order.
    pub(super) fn settle(&mut self) -> Vec<String> {
        let mut deleted = Vec::new();
        for _ in 0..500 {
            let before = self.set.status.clone();
            let plan = self.round();
            deleted.extend(plan.actions.iter().filter_map(|action| match action {
                Action::DeletePod { name, .. } => Some(name.clone()),
                _ => None,
            }));
            let names: Vec<_> = self.pods.keys().cloned().collect();
            let moved = names.iter().filter(|name| self.step(name)).count();
            if moved == 0 && plan.actions.is_empty() && before == self.set.status {
                return deleted;
            }
        }
        panic!("not settled: {:?}", super::builders::lines(&self.round()));
    }

    /// Moves a pod one phase along; whether it could.
    pub(super) fn step(&mut self, name: &str) -> bool {
        self.now += SignedDuration::from_secs(3);
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name) else { return false };
        if pod.metadata.deletion_timestamp.is_some() {
            self.pods.remove(name);
            self.collect_garbage();
            return true;
        }
        let broken = pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some(BROKEN));
        match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Pending") if mounted(pod).all(|claim| self.claims.get(claim).is_some_and(is_staying)) => {
                let status = pod.status.get_or_insert_default();
                (status.phase, status.start_time) = (Some("Running".to_owned()), Some(Time(now)));
                set_ready(pod, false, now);
                true
            }
            Some("Running") if !broken && !is_ready(pod) => {
                set_ready(pod, true, now);
                true
            }
            _ => false,
        }
    }

    pub(super) fn unready(&mut self, name: &str) {
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(name).filter(|pod| is_ready(pod)) {
            set_ready(pod, false, now);
        }
    }

    pub(super) fn fail(&mut self, name: &str) {
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(name) {
            pod.status.get_or_insert_default().phase = Some("Failed".to_owned());
            set_ready(pod, false, now);
        }
    }

    pub(super) fn delete(&mut self, name: &str) {
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(name) {
            pod.metadata.deletion_timestamp.get_or_insert(Time(now));
        }
    }

    /// Status, reason and message of a condition of the set.
    pub(super) fn condition(&self, kind: &str) -> (String, String, String) {
        let conditions = self.set.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let found = conditions.into_iter().find(|condition| condition.type_ == kind).cloned().unwrap();
        (found.status, found.reason.unwrap(), found.message.unwrap_or_default())
    }

    /// `web-0 v1`, for every pod.
    pub(super) fn images(&self) -> Vec<String> {
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        self.pods.iter().map(|(name, pod)| format!("{name} {}", image(pod))).collect()
    }

    fn spec(&self) -> &StatefulSetSpec {
        self.set.spec.as_ref().unwrap()
    }

    pub(super) fn wanted(&self) -> Ordinals {
        let start = self.spec().ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0) as u32;
        Ordinals::new(start, self.spec().replicas.unwrap() as u32, self.extensions().reserved_ordinals)
    }

    /// The names of the pods that are wanted.
    pub(super) fn names(&self) -> Vec<String> {
        self.wanted().iter().map(|ordinal| format!("web-{ordinal}")).collect()
    }

    fn extensions(&self) -> Extensions {
        Extensions::read(self.set.metadata.annotations.as_ref()).0
    }

    fn max_unavailable(&self) -> usize {
        let block = self.spec().update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        match block.and_then(|block| block.max_unavailable.as_ref()) {
            Some(IntOrString::Int(most)) => *most as usize,
            _ => 1,
        }
    }

    fn ordered(&self) -> bool {
        self.spec().pod_management_policy.as_deref() != Some("Parallel")
    }

    /// `None` without an update block.
    fn first_to_update(&self) -> Option<u32> {
        let block = self.spec().update_strategy.as_ref()?.rolling_update.as_ref()?;
        Some(if self.extensions().paused { u32::MAX } else { self.wanted().nth(block.partition.unwrap_or(0) as u32) })
    }

    pub(super) fn observed(&self) -> Observed {
        Observed {
            set: Arc::new(self.set.clone()),
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            claims: self.claims.iter().map(|(name, claim)| (name.clone(), Arc::new(claim.clone()))).collect(),
            revisions: self.revisions.values().cloned().map(Arc::new).collect(),
            running_hooks: HashSet::new(),
        }
    }

    fn is_available(&self, ordinal: u32) -> bool {
        self.pods.get(&format!("web-{ordinal}")).is_some_and(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none())
    }

    /// What must hold of every plan.
    fn check(&self, plan: &Plan) {
        let moves = plan.actions.iter().filter(|action| matches!(action, Action::CreatePod { .. } | Action::DeletePod { .. })).count();
        let lines = super::builders::lines(plan);
        let most = self.max_unavailable();
        assert!(!self.ordered() || moves <= most, "one at a time, or a batch: {lines:?}");
        let structural = plan.actions.iter().filter(|action| is_structural(action)).count();
        assert!(structural == 0 || structural == plan.actions.len(), "structure first: {lines:?}");
        let unavailable = self.wanted().iter().filter(|ordinal| !self.is_available(*ordinal)).count();
        let mut taken_down = 0;
        for action in &plan.actions {
            match action {
                Action::CreatePod { ordinal, pod } => self.check_creation(ordinal.0, pod),
                Action::DeletePod { ordinal, name, reason, .. } => {
                    self.check_deletion(ordinal.0, name, reason);
                    taken_down += usize::from(self.is_available(ordinal.0) && *reason != DeleteReason::ScaledDown);
                }
                _ => {}
            }
        }
        assert!(taken_down == 0 || taken_down + unavailable <= most, "budget: {lines:?}");
    }

    fn check_creation(&self, ordinal: u32, pod: &Pod) {
        assert!(self.wanted().contains(ordinal), "{ordinal} is not wanted");
        let unavailable = self.wanted().iter().take_while(|lower| *lower < ordinal).filter(|lower| !self.is_available(*lower)).count();
        let may_pass = if self.seen.contains(&ordinal) { self.max_unavailable() - 1 } else { 0 };
        assert!(!self.ordered() || unavailable <= may_pass, "{ordinal} out of order");
        let status = self.set.status.clone().unwrap_or_default();
        let current = status.current_revision.filter(|name| self.revisions.contains_key(name));
        if let (Some(first), Some(current)) = (self.first_to_update(), current) {
            let newest = self.revisions.values().max_by_key(|revision| revision.revision).unwrap();
            let update = newest.metadata.name.clone().unwrap();
            let wanted = if ordinal < first { current } else { update };
            assert_eq!(pod.metadata.labels.as_ref().unwrap()["controller-revision-hash"], wanted, "{ordinal} from {first}");
        }
    }

    fn check_deletion(&self, ordinal: u32, name: &str, reason: &DeleteReason) {
        let pod = &self.pods[name];
        assert!(pod.metadata.deletion_timestamp.is_none(), "{name} is already on its way");
        match reason {
            DeleteReason::Ended => assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Failed")),
            DeleteReason::ScaledDown => assert!(!self.wanted().contains(ordinal)),
            DeleteReason::Outdated { revision, wanted } => {
                assert!(revision != wanted && ordinal >= self.first_to_update().unwrap_or(0), "{name} is below the partition");
            }
            DeleteReason::Stuck { revision, wanted } => assert!(revision != wanted && !is_ready(pod), "{name} is ready"),
        }
    }

    fn check_identities(&self) {
        for (name, pod) in &self.pods {
            assert!(ordinal_of("web", name).is_some());
            assert_eq!(pod.metadata.labels.as_ref().unwrap()["statefulset.kubernetes.io/pod-name"], *name);
            for claim in mounted(pod) {
                let is_there = is_pending(pod) || self.claims.contains_key(claim);
                assert!(*claim == format!("data-{name}") && is_there, "{name} without {claim}");
            }
        }
    }

    /// As the API server would, preconditions included: whether it did.
    fn apply(&mut self, action: &Action) -> bool {
        let serial = self.serial();
        match action {
            Action::CreateRevision(revision) => insert(&mut self.revisions, ControllerRevision::clone(revision), serial),
            Action::CreateClaim { claim, .. } => insert(&mut self.claims, PersistentVolumeClaim::clone(claim), serial),
            Action::CreatePod { pod, .. } => {
                let mut pod = Pod::clone(pod);
                pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
                insert(&mut self.pods, pod, serial)
            }
            Action::RenumberRevision { name, resource_version, number } => {
                update(&mut self.revisions, name, resource_version, serial, |revision| revision.revision = *number)
            }
            Action::RollBack { template, .. } => {
                let template = (**template).clone();
                self.change(|spec| spec.template = template);
                true
            }
            Action::DeleteRevision { name, uid } => {
                let is_same = self.revisions.get(name).is_none_or(|revision| revision.metadata.uid.as_ref() == Some(uid));
                is_same && self.revisions.remove(name).is_none_or(|_| true)
            }
            Action::UpdateClaim { name, resource_version, owners, .. } => {
                let owned = |claim: &mut PersistentVolumeClaim| claim.metadata.owner_references = Some(owners.clone());
                update(&mut self.claims, name, resource_version, serial, owned)
            }
            Action::DeletePod { name, uid, .. } => {
                let is_same = self.pods.get(name).is_none_or(|pod| pod.metadata.uid.as_ref() == Some(uid));
                if is_same {
                    self.delete(name);
                }
                is_same
            }
            Action::MarkPod { name, resource_version, annotations, .. } => {
                update(&mut self.pods, name, resource_version, serial, |pod| annotate(pod, annotations))
            }
            // The hook succeeds at once.
            Action::RunGate { name, resource_version, run, .. } => {
                let marks = run.marks(Ok(()), self.now);
                update(&mut self.pods, name, resource_version, serial, |pod| annotate(pod, &marks))
            }
            Action::UpdateInPlace { name, resource_version, revision, images, annotations, .. } => {
                let now = self.now;
                update(&mut self.pods, name, resource_version, serial, |pod| {
                    annotate(pod, annotations);
                    pod.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_owned(), revision.clone());
                    pod.spec.iter_mut().for_each(|spec| spec.containers[0].image = images.first().map(|(_, image)| image.clone()));
                    set_ready(pod, false, now);
                })
            }
            Action::UpdatePod { .. } | Action::AdoptRevision { .. } | Action::AdoptPod { .. } | Action::ReleasePod { .. } => {
                panic!("nothing in this cluster asks for it: {action}");
            }
        }
    }

    fn serial(&mut self) -> String {
        self.serial += 1;
        self.serial.to_string()
    }

    /// Claims whose controlling pod is gone go, but not while a running pod mounts them.
    fn collect_garbage(&mut self) {
        let uids: BTreeSet<_> = self.pods.values().filter_map(|pod| pod.metadata.uid.clone()).collect();
        let dangling = |owner: &OwnerReference| owner.kind == "Pod" && !uids.contains(&owner.uid);
        let gone = |claim: &PersistentVolumeClaim| claim.metadata.owner_references.iter().flatten().any(dangling);
        let now = self.now;
        for claim in self.claims.values_mut().filter(|claim| gone(claim)) {
            claim.metadata.deletion_timestamp.get_or_insert(Time(now));
        }
        let pods = &self.pods;
        let in_use = |name: &str| pods.get(&name["data-".len()..]).is_some_and(|pod| !is_pending(pod));
        self.claims.retain(|name, claim| is_staying(claim) || in_use(name));
    }
}

/// Whether it is about what the set consists of, not about its pods.
fn is_structural(action: &Action) -> bool {
    matches!(
        action,
        Action::AdoptRevision { .. }
            | Action::CreateRevision(_)
            | Action::RenumberRevision { .. }
            | Action::AdoptPod { .. }
            | Action::ReleasePod { .. }
    )
}

pub(super) fn annotate(pod: &mut Pod, annotations: &[Marking]) {
    let all = pod.metadata.annotations.get_or_insert_default();
    for (name, value) in annotations {
        all.remove(*name);
        all.extend(value.clone().map(|value| ((*name).to_owned(), value)));
    }
}

fn insert<K: k8s_openapi::Metadata<Ty = ObjectMeta>>(objects: &mut BTreeMap<String, K>, mut object: K, serial: String) -> bool {
    let meta = object.metadata_mut();
    (meta.uid, meta.resource_version) = (Some(format!("uid-{serial}")), Some(serial));
    let name = meta.name.clone().unwrap();
    let is_free = !objects.contains_key(&name);
    if is_free {
        objects.insert(name, object);
    }
    is_free
}

fn update<K: k8s_openapi::Metadata<Ty = ObjectMeta>>(
    objects: &mut BTreeMap<String, K>,
    name: &str,
    version: &str,
    serial: String,
    change: impl FnOnce(&mut K),
) -> bool {
    let Some(object) = objects.get_mut(name).filter(|object| object.metadata().resource_version.as_deref() == Some(version)) else {
        return false;
    };
    change(object);
    object.metadata_mut().resource_version = Some(serial);
    true
}

fn mounted(pod: &Pod) -> impl Iterator<Item = &String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).map(|source| &source.claim_name)
}

fn is_staying(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_none()
}

fn is_pending(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending")
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn set_ready(pod: &mut Pod, ready: bool, now: Timestamp) {
    let status = if ready { "True" } else { "False" };
    let condition = PodCondition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    };
    pod.status.get_or_insert_default().conditions = Some(vec![condition]);
}
