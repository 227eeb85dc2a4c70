//! A pod's assignment to a node, which the scheduler makes.

use http::StatusCode;
use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{success, target};
use crate::context::Context;
use crate::decode::{self, Decoded};
use crate::deletion;
use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::query::WriteOptions;
use crate::respond::Response;
use crate::route::Call;
use crate::stored::Current;
use crate::writes::{self, Part, Target};

pub(super) async fn run(context: &Context<'_>, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    let binding: Binding = decode::plain("Binding", context.headers, body)?;
    let node = node(call, &binding)?;
    let make = |current: &Current| {
        let mut object = current.object.clone_object();
        // Whoever changes the pod meanwhile is no reason to refuse: only what `assign` finds is.
        object.meta_mut().resource_version = None;
        let pod = object.downcast_mut::<Pod>().ok_or(ApiError::MethodNotAllowed)?;
        assign(call, pod, &binding, &node)?;
        Ok(Decoded { object, warnings: Vec::new() })
    };
    let target = Target { repeatable: true, ..target(context, call, options.dry_run) };
    writes::change(context, target, Part::Internal, make).await?;
    Ok(success(StatusCode::CREATED, None))
}

fn node(call: &Call, binding: &Binding) -> Result<String, ApiError> {
    let target = Path::new("target");
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    let name = binding.target.name.as_deref().unwrap_or_default();
    let error = if !matches!(kind, "" | "Node") {
        FieldError::not_supported(target.child("kind"), kind, &["Node", "<empty>"])
    } else if name.is_empty() {
        FieldError::required(target.child("name"), "")
    } else {
        return Ok(name.to_owned());
    };
    Err(ApiError::Invalid { resource: call.resource, name: call.name.clone(), errors: vec![error] })
}

fn assign(call: &Call, pod: &mut Pod, binding: &Binding, node: &str) -> Result<(), ApiError> {
    let conflict = |why: String| Err(ApiError::Conflict { resource: call.resource, name: call.name.clone(), why });
    if let Some(uid) = binding.metadata.uid.as_deref().filter(|uid| !uid.is_empty())
        && pod.metadata.uid.as_deref() != Some(uid)
    {
        let found = pod.metadata.uid.as_deref().unwrap_or_default();
        return conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", call.name));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(assigned) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return conflict(format!("pod {} is already assigned to node {assigned:?}", call.name));
    }
    spec.node_name = Some(node.to_owned());
    if let Some(annotations) = &binding.metadata.annotations {
        pod.metadata.annotations.get_or_insert_default().extend(annotations.clone());
    }
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(deletion::now())),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    });
    Ok(())
}
