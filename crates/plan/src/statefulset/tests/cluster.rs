//! A simulated cluster: applies plans as an API server would, moves pods along, and checks the invariants after every step.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::{Extensions, Ordinals};

use super::super::{Action, DeleteReason, Observed, Plan, ordinal_of, plan};
use super::builders::{SetBuilder, now};
use crate::forecast::{World, is_pending, is_ready};

/// A pod of this image never becomes ready.
pub(super) const BROKEN: &str = "broken";

pub(super) struct Cluster {
    pub(super) world: World,
    /// The wanted ordinals that have had a pod since they are wanted.
    seen: BTreeSet<u32>,
}

impl Cluster {
    pub(super) fn new(set: SetBuilder) -> Self {
        let observed = Observed {
            kind: Default::default(),
            set: Arc::new(set.0),
            pods: Vec::new(),
            claims: HashMap::new(),
            revisions: Vec::new(),
            running_hooks: Default::default(),
            hook_pods: Default::default(),
        };
        Self { world: World::new(observed, now()), seen: BTreeSet::new() }
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut StatefulSetSpec)) {
        self.world.change_spec(change);
        self.look();
    }

    /// Sets an annotation, which is no change of the specification.
    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        self.world.annotate(key, value);
        self.look();
    }

    /// Notes which of the wanted ordinals have a pod.
    fn look(&mut self) {
        let wanted: BTreeSet<_> = self.wanted().iter().collect();
        self.seen.retain(|ordinal| wanted.contains(ordinal));
        let named = self.world.pods.keys().filter_map(|name| ordinal_of("web", name)).map(|ordinal| ordinal.0);
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
        let plan = plan(&self.world.observed(), self.world.now);
        self.check(&plan);
        for action in &plan.actions {
            self.world.apply(action).unwrap();
            self.check_identities();
            self.look();
        }
        self.world.write_status(&plan.status);
        self.world.collect_garbage();
        plan
    }

    /// One round of a controller that looks at an old view and dies after some actions, before it writes a status.
    pub(super) fn interrupted_round(&mut self, view: &Observed, actions: usize) {
        let plan = plan(view, self.world.now);
        for action in plan.actions.iter().take(actions) {
            if self.world.apply(action).is_err() {
                break;
            }
            self.check_identities();
            self.look();
        }
        self.world.collect_garbage();
    }

    /// Rounds, each followed by a step of every pod, until nothing changes any more. Returns the names of the pods that
    /// were deleted, in order.
    pub(super) fn settle(&mut self) -> Vec<String> {
        let mut deleted = Vec::new();
        for _ in 0..500 {
            let before = self.world.set.status.clone();
            let plan = self.round();
            deleted.extend(plan.actions.iter().filter_map(|action| match action {
                Action::DeletePod { name, .. } => Some(name.clone()),
                _ => None,
            }));
            let names: Vec<_> = self.world.pods.keys().cloned().collect();
            let moved = names.iter().filter(|name| self.step(name)).count();
            if moved == 0
                && let Some(at) = plan.recheck_at
            {
                self.world.now = at;
                continue;
            }
            if moved == 0 && plan.actions.is_empty() && before == self.world.set.status {
                return deleted;
            }
        }
        panic!("not settled: {:?}", super::builders::lines(&self.round()));
    }

    /// Moves a pod one phase along; whether it could.
    pub(super) fn step(&mut self, name: &str) -> bool {
        let moved = self.world.advance_pod(name, |pod| image_of(pod) == BROKEN);
        self.world.collect_garbage();
        moved
    }

    pub(super) fn unready(&mut self, name: &str) {
        let now = self.world.now;
        if self.world.pods.get(name).is_some_and(|pod| is_ready(pod)) {
            self.world.change_pod(name, |pod| set_unready(pod, Time(now)));
        }
    }

    pub(super) fn fail(&mut self, name: &str) {
        let now = self.world.now;
        self.world.change_pod(name, |pod| {
            pod.status.get_or_insert_default().phase = Some("Failed".to_owned());
            set_unready(pod, Time(now));
        });
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.world.delete_pod(name);
    }

    /// Status, reason and message of a condition of the set.
    pub(super) fn condition(&self, kind: &str) -> (String, String, String) {
        let conditions = self.world.set.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let found = conditions.into_iter().find(|condition| condition.type_ == kind).cloned().unwrap();
        (found.status, found.reason.unwrap(), found.message.unwrap_or_default())
    }

    /// `web-0 v1`, for every pod.
    pub(super) fn images(&self) -> Vec<String> {
        self.world.pods.iter().map(|(name, pod)| format!("{name} {}", image_of(pod))).collect()
    }

    fn spec(&self) -> &StatefulSetSpec {
        self.world.set.spec.as_ref().unwrap()
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
        Extensions::read(self.world.set.metadata.annotations.as_ref()).0
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

    fn is_available(&self, ordinal: u32) -> bool {
        self.world.pods.get(&format!("web-{ordinal}")).is_some_and(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none())
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
        let status = self.world.set.status.clone().unwrap_or_default();
        let current = status.current_revision.filter(|name| self.world.revisions.contains_key(name));
        if let (Some(first), Some(current)) = (self.first_to_update(), current) {
            let newest = self.world.revisions.values().max_by_key(|revision| revision.revision).unwrap();
            let update = newest.metadata.name.clone().unwrap();
            let wanted = if ordinal < first { current } else { update };
            assert_eq!(pod.metadata.labels.as_ref().unwrap()["controller-revision-hash"], wanted, "{ordinal} from {first}");
        }
    }

    fn check_deletion(&self, ordinal: u32, name: &str, reason: &DeleteReason) {
        let pod = &self.world.pods[name];
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
        for (name, pod) in &self.world.pods {
            assert!(ordinal_of("web", name).is_some());
            assert_eq!(pod.metadata.labels.as_ref().unwrap()["statefulset.kubernetes.io/pod-name"], *name);
            for claim in mounted(pod) {
                let is_there = is_pending(pod) || self.world.claims.contains_key(claim);
                assert!(*claim == format!("data-{name}") && is_there, "{name} without {claim}");
            }
        }
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

fn image_of(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

fn mounted(pod: &Pod) -> impl Iterator<Item = &String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).map(|source| &source.claim_name)
}

fn set_unready(pod: &mut Pod, since: Time) {
    let condition =
        PodCondition { type_: "Ready".to_owned(), status: "False".to_owned(), last_transition_time: Some(since), ..Default::default() };
    pod.status.get_or_insert_default().conditions = Some(vec![condition]);
}
