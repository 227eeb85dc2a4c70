//! What the store went through, commit by commit, and whether every commit keeps the rules.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::invariants::Judge;
use plan::statefulset::{Observed, ordinal_of};
use serde::de::DeserializeOwned;
use store::{Event, FIRST_REVISION, Revision, Store, WatchMessage};

/// The name of the set whose history is judged.
pub const SET: &str = "web";
/// Its namespace.
pub const NAMESPACE: &str = "default";

/// An object of one kind, as a commit left it, and as it was before.
struct Step<K> {
    name: String,
    before: Option<Arc<K>>,
    after: Option<Arc<K>>,
}

/// What is there at one revision.
#[derive(Default)]
struct Objects {
    set: Option<Arc<StatefulSet>>,
    pods: BTreeMap<String, Arc<Pod>>,
    claims: HashMap<String, Arc<PersistentVolumeClaim>>,
    revisions: BTreeMap<String, Arc<ControllerRevision>>,
}

/// Judges every commit by what was there before it. How many there were.
///
/// # Errors
/// With the first commit that breaks a rule, and what led to it.
pub async fn judge(store: &dyn Store) -> Result<usize, String> {
    let mut objects = Objects::default();
    let mut told = Vec::new();
    for event in events(store).await {
        told.push(describe(&event));
        objects.take(&event).map_err(|broken| format!("{broken}\n  {}", told.join("\n  ")))?;
    }
    Ok(told.len())
}

/// All that happened to the kinds a set consists of, in order.
async fn events(store: &dyn Store) -> Vec<Arc<Event>> {
    let mut all = Vec::new();
    for kind in ["statefulsets", "pods", "persistentvolumeclaims", "controllerrevisions"] {
        let mut watch = store.watch(&format!("/{kind}/{NAMESPACE}/"), FIRST_REVISION).unwrap();
        while let WatchMessage::Event(event) = watch.next().await.unwrap() {
            all.push(event);
        }
    }
    all.sort_by_key(|event| event.revision);
    all
}

fn describe(event: &Event) -> String {
    let what = match (&event.previous, &event.document) {
        (None, _) => "created",
        (_, None) => "gone",
        _ => "changed",
    };
    let Revision(number) = event.revision;
    format!("{number}: {} {what}", event.key)
}

impl Objects {
    fn take(&mut self, event: &Event) -> Result<(), String> {
        let kind = event.key.split('/').nth(1).unwrap_or_default();
        let before = self.observed();
        let judge = before.as_ref().and_then(|before| Judge::of(before, Timestamp::now()));
        let verdict = match (kind, judge) {
            ("statefulsets", judge) => self.take_set(step(event), judge.as_ref()),
            ("pods", Some(judge)) => self.take_pod(step(event), &judge),
            ("persistentvolumeclaims", Some(judge)) => self.take_claim(step(event), &judge),
            ("controllerrevisions", Some(judge)) => self.take_revision(step(event), &judge),
            _ => Err(format!("{} without a set", event.key)),
        };
        verdict.map_err(|broken| format!("{}: {broken}", describe(event)))
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            kind: Default::default(),
            set: self.set.clone()?,
            pods: self.pods.values().cloned().collect(),
            claims: self.claims.clone(),
            revisions: self.revisions.values().cloned().collect(),
            running_hooks: Default::default(),
            hook_pods: Default::default(),
        })
    }

    fn take_set(&mut self, step: Step<StatefulSet>, judge: Option<&Judge<'_>>) -> Result<(), String> {
        let status = step.after.as_ref().and_then(|set| set.status.as_ref());
        let same_spec = step.before.as_ref().map(|set| &set.spec) == step.after.as_ref().map(|set| &set.spec);
        if let (Some(judge), Some(status), true) = (judge, status, same_spec) {
            judge.status(status).map_err(|broken| broken.to_string())?;
        }
        self.set = step.after;
        Ok(())
    }

    fn take_pod(&mut self, step: Step<Pod>, judge: &Judge<'_>) -> Result<(), String> {
        let verdict = match (&step.before, &step.after) {
            (None, Some(pod)) => judge.creation(pod),
            (Some(pod), after) if !is_going(&pod.metadata) && after.as_ref().is_none_or(|after| is_going(&after.metadata)) => {
                let ordinal = ordinal_of(SET, &step.name).map_or(0, |ordinal| ordinal.0);
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                judge.deletion(&step.name, uid).and_then(|()| judge.disruption(&[ordinal]))
            }
            _ => Ok(()),
        };
        put(&mut self.pods, step);
        verdict.map_err(|broken| broken.to_string())
    }

    /// A claim goes only with the pod it was given to.
    fn take_claim(&mut self, step: Step<PersistentVolumeClaim>, judge: &Judge<'_>) -> Result<(), String> {
        let owners = |claim: &Option<Arc<PersistentVolumeClaim>>| claim.as_ref().and_then(|claim| claim.metadata.owner_references.clone());
        let was_there = step.before.as_ref().is_some_and(|claim| !is_going(&claim.metadata));
        let goes = was_there && step.after.as_ref().is_none_or(|claim| is_going(&claim.metadata));
        let is_given = owners(&step.before).iter().flatten().any(|owner| owner.kind == "Pod");
        let before = step.before.as_ref().map(|claim| claim.metadata.clone());
        let after = owners(&step.after);
        let name = step.name.clone();
        match step.after {
            Some(claim) => drop(self.claims.insert(step.name, claim)),
            None => drop(self.claims.remove(&step.name)),
        }
        if goes && !is_given {
            return Err(format!("{name} goes though no policy asks for it"));
        }
        let meta = before.unwrap_or_else(|| ObjectMeta { name: Some(name), ..ObjectMeta::default() });
        judge.owners_of_claim(&meta, after.as_deref()).map_err(|broken| broken.to_string())
    }

    fn take_revision(&mut self, step: Step<ControllerRevision>, judge: &Judge<'_>) -> Result<(), String> {
        let verdict = match (&step.before, &step.after) {
            (None, Some(revision)) => judge.new_revision(revision),
            (Some(_), None) => judge.revision_deletion(&step.name),
            _ => Ok(()),
        };
        put(&mut self.revisions, step);
        verdict.map_err(|broken| broken.to_string())
    }
}

fn put<K>(objects: &mut BTreeMap<String, Arc<K>>, step: Step<K>) {
    match step.after {
        Some(object) => drop(objects.insert(step.name, object)),
        None => drop(objects.remove(&step.name)),
    }
}

fn step<K: DeserializeOwned>(event: &Event) -> Step<K> {
    let read = |document: &store::Document| Arc::new(serde_json::from_slice(document.json()).unwrap());
    let name = event.key.rsplit('/').next().unwrap_or_default().to_owned();
    Step { name, before: event.previous.as_ref().map(read), after: event.document.as_ref().map(read) }
}

fn is_going(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}
