//! Carries a plan out: one request per action, guarded by what was observed.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{join, join_all};
use informer::Api;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kinds::ObjectKey;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use plan::statefulset::{Action, Plan, REVISION_LABEL, status_differs};
use serde_json::{Value, json};

use super::batches::steps;
use super::hooks::{Job, annotated};
use super::wire::Sets;
use super::{StatefulSets, Written};
use crate::runtime::{ReconcileError, Writes, call};

impl StatefulSets {
    /// Takes the plan's actions, up to the first failure, and writes the status, failure or not. The status tells of what
    /// was observed, so neither waits for the other, and the server may commit them together.
    pub(super) async fn execute(&self, set: &Arc<StatefulSet>, plan: &Plan) -> (Written, Result<(), ReconcileError>) {
        let execution = Execution::new(self, set);
        let (acted, told) = join(execution.act(&plan.actions), execution.write_status(&plan.status)).await;
        (execution.written.into_inner().unwrap_or_else(PoisonError::into_inner), acted.and(told))
    }
}

struct Execution<'a> {
    shell: &'a StatefulSets,
    set: &'a Arc<StatefulSet>,
    namespace: &'a str,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
    revisions: Api<ControllerRevision>,
    sets: Sets,
    written: Mutex<Written>,
}

impl<'a> Execution<'a> {
    fn new(shell: &'a StatefulSets, set: &'a Arc<StatefulSet>) -> Self {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        Self {
            shell,
            set,
            namespace,
            pods: Api::namespaced(shell.client.clone(), namespace),
            claims: Api::namespaced(shell.client.clone(), namespace),
            revisions: Api::namespaced(shell.client.clone(), namespace),
            sets: Sets::namespaced(shell.client.clone(), shell.kind, namespace),
            written: Mutex::default(),
        }
    }

    async fn act(&self, actions: &[Action]) -> Result<(), ReconcileError> {
        if actions.iter().any(Action::relies_on_set) && !self.is_unchanged().await? {
            return Err(ReconcileError::Behind { kind: "StatefulSet".to_owned() });
        }
        let parallel = self.set.spec.as_ref().is_some_and(|spec| spec.pod_management_policy.as_deref() == Some("Parallel"));
        for step in steps(actions, parallel) {
            let results = join_all(step.into_iter().map(|unit| self.act_in_turn(unit))).await;
            results.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    async fn act_in_turn(&self, unit: &[Action]) -> Result<(), ReconcileError> {
        for action in unit {
            let result = self.request(action).await;
            self.shell.report(self.set, action, &result);
            result?;
        }
        Ok(())
    }

    /// One request per action.
    async fn request(&self, action: &Action) -> Result<(), ReconcileError> {
        let doing = || action.to_string();
        match action {
            Action::CreateRevision(revision) => {
                let answer = call(doing, self.revisions.create(&PostParams::default(), revision)).await?;
                self.note(|written| written.revisions.wrote(&answer));
            }
            Action::AdoptRevision { name, resource_version, owners } => {
                self.patch_revision(doing, name, &owned(None, resource_version, owners)).await?;
            }
            Action::RenumberRevision { name, resource_version, number } => {
                let patch = json!({"metadata": {"resourceVersion": resource_version}, "revision": number});
                self.patch_revision(doing, name, &patch).await?;
            }
            Action::DeleteRevision { name, uid } => {
                gone_is_fine(call(doing, self.revisions.delete(name, &only(uid))).await.map(drop))?;
                self.note_deletion(|written| &mut written.revisions, name, uid);
            }
            Action::RollBack { resource_version, template, .. } => {
                let name = self.set.metadata.name.as_deref().unwrap_or_default();
                let set = with_template(self.set, resource_version, template);
                let answer = call(doing, self.sets.replace(name, &PostParams::default(), &set)).await?;
                self.note(|written| written.sets.wrote(&answer));
            }
            Action::AdoptPod { name, uid, resource_version, owners } | Action::ReleasePod { name, uid, resource_version, owners } => {
                let patch = Patch::Merge(owned(Some(uid), resource_version, owners));
                let answer = call(doing, self.pods.patch(name, &PatchParams::default(), &patch)).await?;
                self.note(|written| written.pods.wrote(&answer));
            }
            Action::CreateClaim { claim, .. } => {
                let answer = call(doing, self.claims.create(&PostParams::default(), claim)).await?;
                self.note(|written| written.claims.wrote(&answer));
            }
            Action::UpdateClaim { name, resource_version, owners, .. } => {
                let patch = Patch::Merge(owned(None, resource_version, owners));
                let answer = call(doing, self.claims.patch(name, &PatchParams::default(), &patch)).await?;
                self.note(|written| written.claims.wrote(&answer));
            }
            Action::CreatePod { pod, .. } | Action::CreateHookPod { pod, .. } => {
                let answer = call(doing, self.pods.create(&PostParams::default(), pod)).await?;
                self.note(|written| written.pods.wrote(&answer));
            }
            Action::UpdatePod { pod, .. } => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let answer = call(doing, self.pods.replace(name, &PostParams::default(), pod)).await?;
                self.note(|written| written.pods.wrote(&answer));
            }
            Action::DeletePod { name, uid, .. } | Action::DeleteHookPod { name, uid, .. } => {
                gone_is_fine(call(doing, self.pods.delete(name, &only(uid))).await.map(drop))?;
                self.note_deletion(|written| &mut written.pods, name, uid);
            }
            Action::MarkPod { name, uid, resource_version, annotations, .. } => {
                self.patch_pod(doing, name, annotated(uid, Some(resource_version), annotations)).await?;
            }
            Action::UpdateInPlace { name, uid, resource_version, revision, images, annotations, .. } => {
                let patch = updated(annotated(uid, Some(resource_version), annotations), revision, images);
                self.patch_pod(doing, name, patch).await?;
            }
            Action::RunGate { name, uid, resource_version, run, .. } => {
                self.patch_pod(doing, name, annotated(uid, Some(resource_version), &run.begun())).await?;
                let job = Job { set: Arc::clone(self.set), pod: name.clone(), uid: uid.clone(), run: (**run).clone() };
                self.shell.hooks.begin(job);
            }
        }
        Ok(())
    }

    /// A strategic merge patch: containers are found by their names.
    async fn patch_pod(&self, doing: impl FnOnce() -> String, name: &str, patch: Value) -> Result<(), ReconcileError> {
        let answer = call(doing, self.pods.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await?;
        self.note(|written| written.pods.wrote(&answer));
        Ok(())
    }

    async fn patch_revision(&self, doing: impl FnOnce() -> String, name: &str, patch: &Value) -> Result<(), ReconcileError> {
        let answer = call(doing, self.revisions.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await?;
        self.note(|written| written.revisions.wrote(&answer));
        Ok(())
    }

    /// Whether the set, asked of the server itself, is still the one that was observed, and stays. Before anything that could
    /// not be taken back.
    async fn is_unchanged(&self) -> Result<bool, ReconcileError> {
        let seen = &self.set.metadata;
        let name = seen.name.as_deref().unwrap_or_default();
        let live = call(|| format!("get statefulset {name}"), self.sets.get_opt(name)).await?;
        // Annotations are wishes too, and no part of the generation.
        let same = |live: &StatefulSet| {
            let live = &live.metadata;
            live.uid == seen.uid && live.generation == seen.generation && live.annotations == seen.annotations
        };
        Ok(live.is_some_and(|live| same(&live) && live.metadata.deletion_timestamp.is_none()))
    }

    /// A conflict is no failure: the set was changed, and the change brings the next round.
    async fn write_status(&self, status: &StatefulSetStatus) -> Result<(), ReconcileError> {
        if !status_differs(self.set.status.as_ref(), status) {
            return Ok(());
        }
        let name = self.set.metadata.name.as_deref().unwrap_or_default();
        let set = StatefulSet { status: Some(status.clone()), ..StatefulSet::clone(self.set) };
        let doing = || format!("write the status of statefulset {name}");
        match call(doing, self.sets.replace_status(name, &PostParams::default(), &set)).await {
            Ok(answer) => self.note(|written| written.sets.wrote(&answer)),
            Err(error) if error.is_stale() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn note(&self, note: impl FnOnce(&mut Written)) {
        note(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn note_deletion(&self, kind: impl FnOnce(&mut Written) -> &mut Writes, name: &str, uid: &str) {
        self.note(|written| kind(written).deleted(ObjectKey::new(self.namespace, name), uid));
    }
}

/// The version of the set that was observed, with another template. Whole, since sets of a custom kind know no patch that
/// replaces a part.
fn with_template(set: &StatefulSet, resource_version: &str, template: &PodTemplateSpec) -> StatefulSet {
    let mut set = set.clone();
    set.metadata.resource_version = Some(resource_version.to_owned());
    set.spec.get_or_insert_default().template = template.clone();
    set
}

/// A patch of the owners of the object that was observed.
fn owned(uid: Option<&String>, resource_version: &str, owners: &[OwnerReference]) -> Value {
    let mut metadata = json!({"resourceVersion": resource_version, "ownerReferences": owners});
    if let Some(uid) = uid {
        metadata["uid"] = uid.as_str().into();
    }
    json!({"metadata": metadata})
}

/// The patch with the images of containers, and the revision that has them.
fn updated(mut patch: Value, revision: &str, images: &[(String, String)]) -> Value {
    let containers: Vec<_> = images.iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
    patch["metadata"]["labels"] = json!({REVISION_LABEL: revision});
    patch["spec"] = json!({"containers": containers});
    patch
}

/// Deletes the object that was observed, not a later one of its name.
fn only(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

fn gone_is_fine(result: Result<(), ReconcileError>) -> Result<(), ReconcileError> {
    match result {
        Err(ReconcileError::Api { source: kube::Error::Api(status), .. }) if status.is_not_found() => Ok(()),
        other => other,
    }
}
