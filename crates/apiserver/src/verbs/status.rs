//! The status of an object, which its controller writes.

use crate::context::Context;
use crate::error::ApiError;
use crate::patch::PatchType;
use crate::query::WriteOptions;
use crate::respond::Response;
use crate::route::Call;
use crate::writes::Part;

pub(super) async fn update(context: &Context<'_>, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    super::update::replace(context, call, options, body, Part::Status).await
}

pub(super) async fn patch(
    context: &Context<'_>,
    call: &Call,
    patch_type: PatchType,
    options: WriteOptions,
    body: &[u8],
) -> Result<Response, ApiError> {
    super::patch::apply(context, call, patch_type, options, body, Part::Status).await
}
