//! The planner, run forward until nothing changes any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde_json::Value;

use super::budgets::{BudgetOutlook, Ledger};
use super::changes::{FieldChange, changes};
use super::claims::{self, ClaimOutlook};
use super::places::Places;
use super::pods::{is_pending, is_ready, set_unscheduled, unscheduled_because};
use super::presumption::stays_unready;
use super::steps::{Reason, Step};
use super::{Verdict, World};
use crate::statefulset::{Action, Plan, may_claim, plan};

/// How far ahead is looked.
const MOST_ROUNDS: usize = 50_000;
const REVISION_LABEL: &str = "controller-revision-hash";

/// What a forecast starts from.
#[derive(Clone, Debug)]
pub struct Present {
    /// The set as it would be stored, and everything else as it is; all claims of its namespace among it.
    pub world: World,
    /// The set as it is; `None` if it would be created.
    pub before: Option<Arc<StatefulSet>>,
    /// The claims as they are, where they differ from those in `world`.
    pub claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// The other pods of the namespace.
    pub neighbours: Vec<Arc<Pod>>,
    pub budgets: Vec<PodDisruptionBudget>,
    /// `None` if the nodes are not known: then every pod finds one.
    pub places: Option<Places>,
    pub new_pods: NewPods,
}

/// What is supposed of pods at a new revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewPods {
    #[default]
    BecomeReady,
    NeverReady,
}

/// What would become of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    pub namespace: String,
    pub name: String,
    /// Whether it would be created.
    pub is_new: bool,
    /// What would change in the set itself.
    pub changes: Vec<FieldChange>,
    pub steps: Vec<Step>,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Pods that are not ready today and are taken to stay so.
    pub presumed_unready: Vec<String>,
    pub new_pods: NewPods,
    pub claims: Vec<ClaimOutlook>,
    pub budgets: Vec<BudgetOutlook>,
    pub totals: Totals,
}

/// How many pods it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Pods that go and come back.
    pub restarts: usize,
    pub created: usize,
    pub removed: usize,
}

/// Tells what would become of a set.
pub fn foresee(present: Present) -> Forecast {
    let mut run = Run::new(&present);
    let verdict = run.until_the_end();
    run.finish(present, verdict)
}

struct Run {
    world: World,
    places: Option<Places>,
    neighbours: Vec<Arc<Pod>>,
    ledgers: Vec<Ledger>,
    steps: Vec<Step>,
    /// By uid.
    presumed_unready: BTreeSet<String>,
    /// The pods that are there today, by uid.
    of_today: BTreeSet<String>,
    new_pods: NewPods,
    is_new: bool,
}

impl Run {
    fn new(present: &Present) -> Self {
        let world = present.world.clone();
        // Where the nodes are known, one is looked for.
        let looks = |pod: &Pod| present.places.is_some() && !has_node(pod);
        let unready = world.pods.values().filter(|pod| is_own(pod, &world) && !looks(pod) && stays_unready(pod, world.now));
        Self {
            presumed_unready: unready.map(|pod| uid(pod).to_owned()).collect(),
            of_today: world.pods.values().map(|pod| uid(pod).to_owned()).collect(),
            places: present.places.clone(),
            neighbours: present.neighbours.clone(),
            ledgers: present.budgets.iter().filter_map(Ledger::of).collect(),
            steps: Vec::new(),
            new_pods: present.new_pods,
            is_new: present.before.is_none(),
            world,
        }
    }

    fn until_the_end(&mut self) -> Verdict {
        for _ in 0..MOST_ROUNDS {
            let plan = plan(&self.world.observed(), self.world.now);
            self.look_at_budgets(&plan);
            for action in &plan.actions {
                self.steps.extend(Step::of(action, &self.world));
                if let Err(refused) = self.apply(action) {
                    return Verdict::refused(&refused);
                }
            }
            let wrote = self.world.write_status(&plan.status);
            let collected = self.collect_garbage();
            let acted = wrote || collected || !plan.actions.is_empty();
            // The controller is faster than any pod.
            if !acted && !self.advance_pods() && !self.pass_time(plan.recheck_at) {
                return Verdict::of(plan.waiting_on);
            }
        }
        Verdict::BeyondSight { rounds: MOST_ROUNDS }
    }

    fn apply(&mut self, action: &Action) -> Result<(), super::Refused> {
        let before = match action {
            Action::DeletePod { name, .. } => self.world.pods.get(name).cloned(),
            _ => None,
        };
        self.world.apply(action)?;
        if let Some(pod) = before.filter(|pod| !self.world.pods.contains_key(name_of(pod))) {
            self.gone(&pod);
        }
        Ok(())
    }

    fn look_at_budgets(&mut self, plan: &Plan) {
        if self.ledgers.is_empty() {
            return;
        }
        let taken_down = plan.actions.iter().filter_map(|action| match action {
            Action::DeletePod { name, .. } => Some(name.as_str()),
            _ => None,
        });
        let taken_down: Vec<_> = taken_down.collect();
        let wanted = self.world.set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let wanted = usize::try_from(wanted).unwrap_or(0);
        let own: Vec<_> = self.world.pods.values().filter(|pod| is_own(pod, &self.world)).cloned().collect();
        self.ledgers.iter_mut().for_each(|ledger| ledger.look(&own, &self.neighbours, wanted, &taken_down));
    }

    fn collect_garbage(&mut self) -> bool {
        let before: Vec<String> = self.world.claims.keys().cloned().collect();
        let changed = self.world.collect_garbage();
        let lost = before.into_iter().filter(|name| !self.world.claims.contains_key(name));
        self.steps.extend(lost.map(|claim| Step::LoseClaim { claim }));
        changed
    }

    /// Every pod of the set goes one phase along, if it can.
    fn advance_pods(&mut self) -> bool {
        let pods: Vec<_> = self.world.pods.values().filter(|pod| is_own(pod, &self.world)).cloned().collect();
        pods.iter().filter(|pod| self.advance(pod)).count() > 0
    }

    fn advance(&mut self, pod: &Pod) -> bool {
        let name = name_of(pod);
        let leaves = pod.metadata.deletion_timestamp.is_some();
        if !leaves && self.presumed_unready.contains(uid(pod)) {
            return false;
        }
        if !leaves && let Err(is_news) = self.find_place(pod) {
            return is_news;
        }
        let never_ready = self.new_pods == NewPods::NeverReady && self.is_new_at_new_revision(pod);
        if !self.world.advance_pod(name, |_| never_ready) {
            return false;
        }
        match self.world.pods.get(name) {
            None => {
                self.gone(pod);
                self.steps.push(Step::AwaitGone { pod: name.to_owned() });
                self.collect_garbage();
            }
            Some(now) if is_ready(now) && !is_ready(pod) => self.steps.push(Step::AwaitReady { pod: name.to_owned() }),
            Some(_) => {}
        }
        true
    }

    /// Gives a pod a node, if it needs one. If there is none: whether that, or the reason, is news.
    fn find_place(&mut self, pod: &Pod) -> Result<(), bool> {
        let Some(places) = self.places.as_mut().filter(|_| !has_node(pod) && is_pending(pod)) else { return Ok(()) };
        let (now, name) = (self.world.now, name_of(pod));
        match places.assign(pod, &self.world.claims) {
            Ok(node) => {
                self.world.change_pod(name, |pod| pod.spec.get_or_insert_default().node_name = Some(node));
                Ok(())
            }
            Err(why) if unscheduled_because(pod, &why) => Err(false),
            Err(why) => Err(self.world.change_pod(name, |pod| set_unscheduled(pod, why, now))),
        }
    }

    fn gone(&mut self, pod: &Pod) {
        self.presumed_unready.remove(uid(pod));
        self.places.iter_mut().for_each(|places| places.remove(pod));
    }

    fn is_new_at_new_revision(&self, pod: &Pod) -> bool {
        let revision = pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL));
        let status = self.world.set.status.as_ref();
        let update = status.and_then(|status| status.update_revision.as_ref());
        let changes = self.is_new || update != status.and_then(|status| status.current_revision.as_ref());
        !self.of_today.contains(uid(pod)) && changes && revision == update
    }

    /// Goes on to the moment when time alone changes what to do.
    fn pass_time(&mut self, until: Option<Timestamp>) -> bool {
        let Some(until) = until.filter(|until| *until > self.world.now) else { return false };
        let seconds = until.duration_since(self.world.now).as_secs().max(1);
        self.steps.push(Step::AwaitTime { seconds });
        self.world.now = until;
        true
    }

    fn finish(self, present: Present, verdict: Verdict) -> Forecast {
        let set = &self.world.set;
        let spec = |set: &StatefulSet| kinds::object::to_tree(&set.spec).unwrap_or(Value::Null);
        let before = present.before.as_deref().map(spec);
        let own_claims = |claims: &BTreeMap<String, Arc<PersistentVolumeClaim>>| -> BTreeMap<_, _> {
            claims.iter().filter(|(name, _)| may_claim(set, name)).map(|(name, claim)| (name.clone(), claim.clone())).collect()
        };
        let mut claims_before = own_claims(&present.world.claims);
        claims_before.extend(own_claims(&present.claims));
        let pods: Vec<_> = self.world.pods.values().cloned().collect();
        let unready = self.world.pods.values().filter(|pod| self.presumed_unready.contains(uid(pod)));
        Forecast {
            namespace: set.metadata.namespace.clone().unwrap_or_default(),
            name: set.metadata.name.clone().unwrap_or_default(),
            is_new: self.is_new,
            changes: before.map(|before| changes("spec", &before, &spec(set))).unwrap_or_default(),
            totals: totals(&self.steps),
            verdict,
            presumed_unready: unready.map(|pod| name_of(pod).to_owned()).collect(),
            new_pods: self.new_pods,
            claims: claims::fates(&claims_before, &own_claims(&self.world.claims), &pods),
            budgets: self.ledgers.into_iter().filter_map(Ledger::into_outlook).collect(),
            steps: self.steps,
        }
    }
}

fn totals(steps: &[Step]) -> Totals {
    let count = |wanted: &dyn Fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
    let removed = count(&|step| matches!(step, Step::DeletePod { reason: Reason::ScaledDown, .. }));
    let restarts = count(&|step| matches!(step, Step::DeletePod { .. })) - removed;
    let created = count(&|step| matches!(step, Step::CreatePod { .. })).saturating_sub(restarts);
    Totals { restarts, created, removed }
}

fn is_own(pod: &Pod, world: &World) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true) && Some(&owner.uid) == world.set.metadata.uid.as_ref())
}

fn has_node(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty())
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
