//! The number of replicas alone, as `autoscaling/v1` Scale.

use http::StatusCode;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use kinds::{Object, Selector};
use serde_json::{Value, json};

use super::apply::Configuration;
use super::{form, target};
use crate::apply::Outlined;
use crate::context::Context;
use crate::decode::{self, Decoded};
use crate::document;
use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::patch::{self, PatchType};
use crate::present;
use crate::query::{ApplyOptions, FieldValidation, WriteOptions};
use crate::respond::{self, Response};
use crate::route::Call;
use crate::stored::{self, Current};
use crate::writes::{self, Part, Target};

/// The version of the API that Scale belongs to.
const SCALE_VERSION: &str = "autoscaling/v1";

pub(super) async fn get(context: &Context<'_>, call: &Call) -> Result<Response, ApiError> {
    let current = stored::current(&*context.shared.store, call.resource, &call.namespace, &call.name).await?;
    Ok(match present::scale(call.resource, current.entry.document.json(), form(context, call)?)? {
        Some(table) => respond::json(StatusCode::OK, table),
        None => respond::value(StatusCode::OK, &scale_of(&*current.object)?),
    })
}

pub(super) async fn update(context: &Context<'_>, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    let wanted: Scale = decode::plain("Scale", context.headers, body)?;
    run(context, call, options, |_| Ok(wanted.clone())).await
}

pub(super) async fn patch(
    context: &Context<'_>,
    call: &Call,
    patch_type: PatchType,
    options: WriteOptions,
    body: &[u8],
) -> Result<Response, ApiError> {
    let make = |current: &Current| {
        let mut scale = scale_of(&*current.object)?;
        scale.metadata.resource_version = None;
        let value = serde_json::to_value(scale).unwrap_or(Value::Null);
        let patched = patch::apply(patch_type, call.resource, &value, body)?;
        serde_json::from_value(patched)
            .map_err(|error| ApiError::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: json: {error}")))
    };
    run(context, call, options, make).await
}

/// Applies a Scale: whoever does owns the number of replicas of the object behind it.
pub(super) async fn apply(context: &Context<'_>, call: &Call, options: &ApplyOptions, body: &[u8]) -> Result<Response, ApiError> {
    let decode::Read { text, warnings, .. } = decode::configuration(call.resource, body, FieldValidation::Ignore)?;
    let scale: Value = serde_json::from_str(text.text()).map_err(|error| ApiError::internal(error.to_string()))?;
    let version = scale.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != SCALE_VERSION || scale.get("kind").is_none_or(|kind| kind != "Scale") {
        let message = format!("Incorrect version specified in apply patch. Specified patch version: {version}, expected: {SCALE_VERSION}");
        return Err(ApiError::bad_request(message));
    }
    let metadata = scale.get("metadata").cloned().unwrap_or_default();
    let mut value = json!({
        "apiVersion": call.resource.api_version(), "kind": call.resource.kind,
        "metadata": {"name": metadata.get("name"), "uid": metadata.get("uid"), "resourceVersion": metadata.get("resourceVersion")},
    });
    if let Some(replicas) = scale.pointer("/spec/replicas") {
        value["spec"] = json!({ "replicas": replicas });
    }
    let text = Outlined::of(value.to_string()).ok_or_else(|| ApiError::bad_request("the Scale is too large"))?;
    let configuration = Configuration::of(decode::Read { text, warnings, bad_quantity: None }, options.force);
    let target = Target { repeatable: true, ..target(context, call, options.write.dry_run) };
    let make = |current: &Current| configuration.proposal(target, Part::Main, Some(current)).map_err(|error| in_scale_version(call, error));
    let done = writes::change(context, target, Part::Main, make).await?;
    let object = document::read(call.resource, &done.json)?;
    Ok(respond::value(StatusCode::OK, &scale_of(&*object)?))
}

/// A conflict as one of the Scale's own field.
fn in_scale_version(call: &Call, error: ApiError) -> ApiError {
    let using = format!(" using {}", call.resource.api_version());
    match error {
        ApiError::ApplyConflict { mut conflicts } => {
            for conflict in &mut conflicts {
                conflict.owner = conflict.owner.replace(&using, &format!(" using {SCALE_VERSION}"));
            }
            ApiError::ApplyConflict { conflicts }
        }
        other => other,
    }
}

async fn run(
    context: &Context<'_>,
    call: &Call,
    options: WriteOptions,
    wanted: impl Fn(&Current) -> Result<Scale, ApiError> + Send + Sync,
) -> Result<Response, ApiError> {
    let make = |current: &Current| {
        let wanted = wanted(current)?;
        let mut object = current.object.clone_object();
        object.meta_mut().resource_version = wanted.metadata.resource_version;
        set_replicas(call, &mut *object, wanted.spec.and_then(|spec| spec.replicas).unwrap_or(0))?;
        Ok(Decoded { object, warnings: Vec::new() })
    };
    let done = writes::change(context, target(context, call, options.dry_run), Part::Main, make).await?;
    let object = document::read(call.resource, &done.json)?;
    Ok(respond::value(StatusCode::OK, &scale_of(&*object)?))
}

fn set_replicas(call: &Call, object: &mut dyn Object, replicas: i32) -> Result<(), ApiError> {
    if replicas < 0 {
        let path = Path::new("spec").child("replicas");
        let error = FieldError::invalid(path, replicas, "must be greater than or equal to 0");
        return Err(ApiError::InvalidScale { name: call.name.clone(), errors: vec![error] });
    }
    let set = object.downcast_mut::<StatefulSet>().ok_or(ApiError::MethodNotAllowed)?;
    set.spec.get_or_insert_default().replicas = Some(replicas);
    Ok(())
}

fn scale_of(object: &dyn Object) -> Result<Scale, ApiError> {
    let set = object.downcast_ref::<StatefulSet>().ok_or(ApiError::MethodNotAllowed)?;
    let spec = set.spec.clone().unwrap_or_default();
    let selector = Selector::from_label_selector(&spec.selector).map_err(|error| ApiError::internal(error.to_string()))?;
    let meta = set.metadata.clone();
    Ok(Scale {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            creation_timestamp: meta.creation_timestamp,
            ..Default::default()
        },
        spec: Some(ScaleSpec { replicas: spec.replicas }),
        status: Some(ScaleStatus {
            replicas: set.status.as_ref().map_or(0, |status| status.replicas),
            selector: Some(selector.to_string()),
        }),
    })
}
