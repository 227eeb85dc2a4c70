//! Deletes what has lost its owners, and lets owners go in the order that was asked for.
//!
//! # Guarantees
//! * Nothing is deleted because an owner is not in view: the server itself is asked for it by name, and compared by uid.
//! * Each write carries the uid and the resource version that was judged.

use events::{Recorder, Severity};
use kinds::{Resource, Uid, registry};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};
use plan::garbage::{Action, FOREGROUND, Item, Owner, Verdict};
use serde_json::{Value, json};

use crate::Clock;
use crate::gone::gone_is_fine;
use crate::inventory::{Inventory, Partial, api_resource};
use crate::runtime::{Controller, Outcome, ReconcileError, Runner, call};

/// How many objects are judged side by side.
const WORKERS: usize = 20;
/// More looks than a verdict needs.
const LOOKS: usize = 3;

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, inventory: &Inventory, shutdown: impl Future<Output = ()> + Send) {
    let recorder = crate::recorder(client.clone(), "garbage-collector-controller", Clock::default());
    let runner = Runner::new(Collector { client, inventory: inventory.clone(), recorder }).workers(WORKERS);
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => return,
        () = inventory.synced() => inventory.tell_judge(runner.queue()),
    }
    runner.run(shutdown).await;
}

struct Collector {
    client: Client,
    inventory: Inventory,
    recorder: Recorder,
}

impl Controller for Collector {
    type Key = Uid;

    fn name(&self) -> &'static str {
        "garbage"
    }

    async fn reconcile(&self, uid: &Uid) -> Result<Outcome, ReconcileError> {
        for _ in 0..LOOKS {
            let verdict = self.inventory.with(|graph| graph.judge(uid));
            self.tell_of_foreign(uid, &verdict);
            if verdict.unknown_owners.is_empty() {
                return self.carry_out(verdict).await;
            }
            if !self.look_for(uid, &verdict.unknown_owners).await? {
                break;
            }
        }
        Ok(Outcome::done())
    }
}

impl Collector {
    async fn carry_out(&self, verdict: Verdict) -> Result<Outcome, ReconcileError> {
        for action in verdict.actions {
            self.execute(action).await?;
        }
        Ok(Outcome::done())
    }

    /// Asks the server for owners that are not in view. Whether the object can be judged now.
    async fn look_for(&self, uid: &Uid, owners: &[Owner]) -> Result<bool, ReconcileError> {
        let Some(item) = self.item(uid) else { return Ok(false) };
        for owner in owners {
            if !self.is_gone(&item, owner).await? {
                // It will come into view, and the object be judged then.
                return Ok(false);
            }
            self.inventory.with(|graph| graph.confirm_gone(owner.uid.clone()));
        }
        Ok(true)
    }

    /// Whether the server has no such object as the owner. One of a kind that is not served is never said to be gone.
    async fn is_gone(&self, item: &Item, owner: &Owner) -> Result<bool, ReconcileError> {
        let reference = &owner.reference;
        let (group, version) = reference.api_version.split_once('/').unwrap_or(("", &reference.api_version));
        let Some(resource) = registry::find_kind(group, version, &reference.kind) else { return Ok(false) };
        let api = self.api(resource, &item.key.namespace);
        let doing = || format!("looking for owner {} {}", reference.kind, reference.name);
        let live = call(doing, api.get_opt(&reference.name)).await?;
        Ok(live.is_none_or(|live| live.metadata.uid.as_deref() != Some(owner.uid.0.as_str())))
    }

    async fn execute(&self, action: Action) -> Result<(), ReconcileError> {
        match action {
            Action::Delete { uid, foreground } => self.delete(&uid, foreground).await,
            Action::RemoveOwners { uid, owners } => {
                let Some(item) = self.item(&uid) else { return Ok(()) };
                let left: Vec<_> = item.owners.iter().filter(|owner| !owners.contains(&owner.uid)).map(|owner| &owner.reference).collect();
                self.patch(&item, json!({"ownerReferences": left})).await
            }
            Action::RemoveFinalizer { uid, finalizer } => {
                let Some(item) = self.item(&uid) else { return Ok(()) };
                let left: Vec<_> = item.finalizers.iter().filter(|known| *known != finalizer).collect();
                self.patch(&item, json!({"finalizers": left})).await
            }
        }
    }

    /// Deletes with the policy that its finalizers already ask for, or else the one that was decided.
    async fn delete(&self, uid: &Uid, foreground: bool) -> Result<(), ReconcileError> {
        let Some(item) = self.item(uid) else { return Ok(()) };
        let has = |finalizer: &str| item.finalizers.iter().any(|known| known == finalizer);
        let policy = match foreground || has(FOREGROUND) {
            true => PropagationPolicy::Foreground,
            false if has(plan::garbage::ORPHAN) => PropagationPolicy::Orphan,
            false => PropagationPolicy::Background,
        };
        let preconditions = Preconditions { uid: Some(uid.0.clone()), resource_version: Some(item.resource_version.clone()) };
        let params = DeleteParams { propagation_policy: Some(policy), preconditions: Some(preconditions), ..DeleteParams::default() };
        let api = self.api(item.resource, &item.key.namespace);
        let doing = || format!("deleting {} {}", item.resource.qualified(), item.key);
        gone_is_fine(call(doing, api.delete(&item.key.name, &params)).await.map(drop))
    }

    async fn patch(&self, item: &Item, mut metadata: Value) -> Result<(), ReconcileError> {
        metadata["uid"] = json!(item.uid);
        metadata["resourceVersion"] = json!(item.resource_version);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let api = self.api(item.resource, &item.key.namespace);
        let doing = || format!("changing the owners or finalizers of {} {}", item.resource.qualified(), item.key);
        gone_is_fine(call(doing, api.patch(&item.key.name, &PatchParams::default(), &patch)).await.map(drop))
    }

    fn item(&self, uid: &Uid) -> Option<Item> {
        self.inventory.with(|graph| graph.get(uid).cloned())
    }

    fn api(&self, resource: &'static Resource, namespace: &str) -> Api<Partial> {
        let kind = api_resource(resource);
        match resource.is_namespaced() {
            true => Api::namespaced_with(self.client.clone(), namespace, &kind),
            false => Api::all_with(self.client.clone(), &kind),
        }
    }

    fn tell_of_foreign(&self, uid: &Uid, verdict: &Verdict) {
        let Some(item) = self.item(uid).filter(|_| !verdict.foreign_owners.is_empty()) else { return };
        for Owner { reference, uid } in &verdict.foreign_owners {
            let message = format!(
                "ownerRef [{}/{}, namespace: {}, name: {}, uid: {uid}] does not exist in namespace {:?}",
                reference.api_version, reference.kind, item.key.namespace, reference.name, item.key.namespace
            );
            self.recorder.record_about(&about(&item), Severity::Warning, "OwnerRefInvalidNamespace", message);
        }
    }
}

fn about(item: &Item) -> k8s_openapi::api::core::v1::ObjectReference {
    k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(item.resource.api_version()),
        kind: Some(item.resource.kind.to_owned()),
        namespace: Some(item.key.namespace.clone()),
        name: Some(item.key.name.clone()),
        uid: Some(item.uid.0.clone()),
        resource_version: Some(item.resource_version.clone()),
        field_path: None,
    }
}
