//! A pod asked to go, if its disruption budget allows it.

use http::StatusCode;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use kinds::{Object, registry};
use serde_json::Value;
use store::{Change, CommitError, Expected, Range};

use super::{success, target};
use crate::context::Context;
use crate::decode::{self, Decoded};
use crate::document::{self, Text};
use crate::error::ApiError;
use crate::query::{self, WriteOptions};
use crate::respond::Response;
use crate::route::Call;
use crate::stored::{self, Current};
use crate::writes::{self, Part, Target};
use crate::{deletion, eviction, keys};

/// How often an eviction is tried when others change the pod or its budget meanwhile.
const ATTEMPTS: usize = 256;
/// Versions whose Eviction says the same.
const VERSIONS: [&str; 2] = ["policy/v1", "policy/v1beta1"];

/// One eviction.
struct Wish<'a> {
    call: &'a Call,
    options: DeleteOptions,
    dry_run: bool,
}

/// How an attempt ended.
enum Attempt {
    Evicted,
    /// Someone else changed what it was decided by.
    Overtaken,
}

pub(super) async fn run(context: &Context<'_>, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    let wish = read(context, call, options, body)?;
    for _ in 0..ATTEMPTS {
        let pod = stored::current(&*context.shared.store, call.resource, &call.namespace, &call.name).await?;
        if let Attempt::Evicted = attempt(context, &wish, &pod).await? {
            return Ok(success(StatusCode::CREATED, None));
        }
    }
    Err(ApiError::Timeout { message: format!("couldn't evict pod {:?} due to conflicts", call.name) })
}

fn read<'a>(context: &Context<'_>, call: &'a Call, options: WriteOptions, body: &[u8]) -> Result<Wish<'a>, ApiError> {
    let Eviction { metadata, delete_options } = eviction(decode::plain_json("Eviction", context.headers, body)?)?;
    if metadata.name.as_deref().is_some_and(|name| name != call.name) {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let delete = delete_options.unwrap_or_default();
    deletion::check_policy(&delete)?;
    let dry_run = query::dry_run(delete.dry_run.iter().flatten().map(String::as_str), "DeleteOptions")? || options.dry_run;
    Ok(Wish { call, options: delete, dry_run })
}

/// Reads a wish of any of the versions.
fn eviction(mut wish: Value) -> Result<Eviction, ApiError> {
    let said = |field: &str| wish.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let (version, kind) = (said("apiVersion"), said("kind"));
    if version.as_deref().is_some_and(|version| !VERSIONS.contains(&version)) || kind.as_deref().is_some_and(|kind| kind != "Eviction") {
        let (version, kind) = (version.unwrap_or_default(), kind.unwrap_or_default());
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as an Eviction: it must be an Eviction of policy/v1"
        )));
    }
    if let (Some(fields), true) = (wish.as_object_mut(), version.is_some()) {
        fields.insert("apiVersion".to_owned(), VERSIONS[0].into());
    }
    serde_json::from_value(wish)
        .map_err(|error| ApiError::bad_request(format!("Eviction in version \"v1\" cannot be handled as an Eviction: json: {error}")))
}

async fn attempt(context: &Context<'_>, wish: &Wish<'_>, current: &Current) -> Result<Attempt, ApiError> {
    let pod = current.object.downcast_ref::<Pod>().ok_or(ApiError::MethodNotAllowed)?;
    if eviction::needs_no_budget(pod) {
        return delete_unchanged(context, wish, pod).await;
    }
    hold_at_gate(context, wish, pod).await?;
    let mut guards = budgets(context, pod).await?;
    match (guards.pop(), guards.is_empty()) {
        (None, _) => delete(context, wish, pod, false).await.map(|()| Attempt::Evicted),
        (Some(_), false) => {
            Err(ApiError::internal("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
        }
        (Some(guard), true) if guard.object.downcast_ref().is_some_and(|budget| eviction::disrupts_nothing(budget, pod)) => {
            delete_unchanged(context, wish, pod).await
        }
        (Some(guard), true) => match take(context, wish, guard).await? {
            Attempt::Evicted => delete(context, wish, pod, false).await.map(|()| Attempt::Evicted),
            Attempt::Overtaken => Ok(Attempt::Overtaken),
        },
    }
}

/// Refuses the eviction while something has to happen first, and says on the pod that it is waited for.
async fn hold_at_gate(context: &Context<'_>, wish: &Wish<'_>, pod: &Pod) -> Result<(), ApiError> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true) && owner.kind == "StatefulSet") else {
        return Ok(());
    };
    let resource = registry::find("apps", "v1", "statefulsets").ok_or(ApiError::NoRoute)?;
    let (entry, _) = context.shared.store.get(&keys::object(resource, &wish.call.namespace, &owner.name)).await?;
    let Some(set) = entry.map(|entry| document::read(resource, entry.document.json())).transpose()? else { return Ok(()) };
    let set = set.downcast_ref::<StatefulSet>().filter(|set| set.metadata.uid.as_deref() == Some(&owner.uid));
    let Some(refusal) = set.and_then(|set| eviction::gate(pod, set)) else { return Ok(()) };
    let make = |current: &Current| {
        let mut object = current.object.clone_object();
        object.meta_mut().resource_version = None;
        if let Some(pod) = object.downcast_mut::<Pod>() {
            eviction::request(pod, deletion::now());
        }
        Ok(Decoded { object, warnings: Vec::new() })
    };
    let target = Target { repeatable: true, ..target(context, wish.call, wish.dry_run) };
    writes::change(context, target, Part::Internal, make).await?;
    Err(refusal)
}

/// The budgets that select the pod.
async fn budgets(context: &Context<'_>, pod: &Pod) -> Result<Vec<Current>, ApiError> {
    let resource = registry::find("policy", "v1", "poddisruptionbudgets").ok_or(ApiError::NoRoute)?;
    let prefix = keys::collection(resource, pod.metadata.namespace.as_deref().unwrap_or_default());
    let page = context.shared.store.range(Range { prefix: &prefix, ..Range::default() }).await?;
    let mut budgets = page.entries.into_iter().map(|entry| Current::new(resource, entry)).collect::<Result<Vec<_>, _>>()?;
    budgets.retain(|budget| budget.object.downcast_ref().is_some_and(|budget| eviction::selects(budget, pod)));
    Ok(budgets)
}

/// Takes the pod from its budget in one write, which fails if anybody else changed the budget.
async fn take(context: &Context<'_>, wish: &Wish<'_>, mut guard: Current) -> Result<Attempt, ApiError> {
    let resource = registry::find("policy", "v1", "poddisruptionbudgets").ok_or(ApiError::NoRoute)?;
    let budget = guard.object.downcast_mut::<PodDisruptionBudget>().ok_or(ApiError::MethodNotAllowed)?;
    eviction::take(budget, &wish.call.name, deletion::now())?;
    if wish.dry_run {
        return Ok(Attempt::Evicted);
    }
    let change = Change::Put(Text::of(resource, budget).draft(&guard.managed));
    match context.shared.store.commit(&guard.entry.key, Expected::At(guard.entry.revision), change).await {
        Ok(_) => Ok(Attempt::Evicted),
        Err(CommitError::Conflict(_)) => Ok(Attempt::Overtaken),
        Err(error) => Err(stored::commit_error(&error)),
    }
}

/// Deletes the pod only as it was judged: one that has become ready since has to be judged again.
async fn delete_unchanged(context: &Context<'_>, wish: &Wish<'_>, pod: &Pod) -> Result<Attempt, ApiError> {
    let insists = wish.options.preconditions.as_ref().is_some_and(|wanted| wanted.resource_version.is_some());
    match delete(context, wish, pod, true).await {
        Err(ApiError::Conflict { .. }) if !insists => Ok(Attempt::Overtaken),
        result => result.map(|()| Attempt::Evicted),
    }
}

/// Deletes this pod and no other of its name.
async fn delete(context: &Context<'_>, wish: &Wish<'_>, pod: &Pod, unchanged: bool) -> Result<(), ApiError> {
    let asked = wish.options.preconditions.clone().unwrap_or_default();
    let version = asked.resource_version.or_else(|| pod.metadata.resource_version.clone().filter(|_| unchanged));
    let preconditions = Preconditions { uid: asked.uid.or_else(|| pod.metadata.uid.clone()), resource_version: version };
    let options = DeleteOptions { preconditions: Some(preconditions), ..wish.options.clone() };
    let explain = |object: &mut dyn Object| {
        if let Some(pod) = object.downcast_mut::<Pod>() {
            eviction::explain(pod, deletion::now());
        }
    };
    deletion::delete_after(context, target(context, wish.call, wish.dry_run), &options, explain).await.map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn evictions_of_older_clients_say_the_same() {
        for version in VERSIONS {
            let wish = json!({"apiVersion": version, "kind": "Eviction", "metadata": {"name": "web-0"}});
            assert_eq!(eviction(wish).unwrap().metadata.name.as_deref(), Some("web-0"));
        }
        for wish in [json!({"apiVersion": "policy/v2", "kind": "Eviction"}), json!({"apiVersion": "policy/v1", "kind": "Pod"}), json!([])] {
            assert!(eviction(wish).is_err());
        }
    }
}
