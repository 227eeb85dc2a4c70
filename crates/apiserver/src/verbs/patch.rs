//! An object changed field by field.

use http::StatusCode;

use super::{target, written};
use crate::context::Context;
use crate::decode;
use crate::error::ApiError;
use crate::patch::{self, PatchType};
use crate::query::WriteOptions;
use crate::respond::Response;
use crate::route::Call;
use crate::stored::Current;
use crate::writes::{self, Part, Target};

pub(super) async fn run(
    context: &Context<'_>,
    call: &Call,
    patch_type: PatchType,
    options: WriteOptions,
    body: &[u8],
) -> Result<Response, ApiError> {
    apply(context, call, patch_type, options, body, Part::Main).await
}

/// Patches one part of the object.
pub(super) async fn apply(
    context: &Context<'_>,
    call: &Call,
    patch_type: PatchType,
    options: WriteOptions,
    body: &[u8],
    part: Part,
) -> Result<Response, ApiError> {
    let resource = call.resource;
    let make = |current: &Current| {
        let mut value = patch::apply(patch_type, resource, &before(current, patch_type, body), body)?;
        forget_revision(&mut value, current);
        decode::json(resource, value.to_string().as_bytes(), options.field_validation)
    };
    let done = writes::change(context, Target { repeatable: true, ..target(context, call, options.dry_run) }, part, make).await?;
    written(context, call, StatusCode::OK, &done)
}

/// The object to patch. Who owns what is in it only if the patch can be about that: it is much, and rarely meant.
fn before(current: &Current, patch_type: PatchType, body: &[u8]) -> serde_json::Value {
    let named = b"managedFields";
    let is_named = patch_type == PatchType::Json || body.windows(named.len()).any(|window| window == named);
    if is_named { current.value() } else { current.object.to_value() }
}

/// A patch that says nothing of the resource version does not insist on the one it happened to meet.
fn forget_revision(value: &mut serde_json::Value, current: &Current) {
    let met = current.object.meta().resource_version.as_deref();
    if let Some(meta) = value.get_mut("metadata").and_then(serde_json::Value::as_object_mut)
        && meta.get("resourceVersion").and_then(serde_json::Value::as_str) == met
    {
        meta.remove("resourceVersion");
    }
}
