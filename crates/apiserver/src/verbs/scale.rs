//! The number of replicas alone, as `autoscaling/v1` Scale.

use http::StatusCode;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use kinds::{Object, Selector};
use serde_json::Value;

use super::target;
use crate::context::Context;
use crate::decode::{self, Decoded};
use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::patch::{self, PatchType};
use crate::query::WriteOptions;
use crate::respond::{self, Response};
use crate::route::Call;
use crate::stored::{self, Current};
use crate::writes::{self, Part};
use crate::document;

pub(super) async fn get(context: &Context<'_>, call: &Call) -> Result<Response, ApiError> {
    let current = stored::current(&*context.shared.store, call.resource, &call.namespace, &call.name).await?;
    Ok(respond::value(StatusCode::OK, &scale_of(&*current.object)?))
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
        serde_json::from_value(patched).map_err(|error| ApiError::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: json: {error}")))
    };
    run(context, call, options, make).await
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
    let done = writes::change(context, target(call, options.dry_run), Part::Main, make).await?;
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
