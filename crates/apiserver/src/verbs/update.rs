//! An object replaced by another state of itself.

use http::StatusCode;

use super::{target, written};
use crate::context::Context;
use crate::decode::{self, Decoded};
use crate::error::ApiError;
use crate::query::WriteOptions;
use crate::respond::Response;
use crate::route::Call;
use crate::writes::{self, Part};

pub(super) async fn run(context: &Context<'_>, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    replace(context, call, options, body, Part::Main).await
}

/// Replaces one part of the object by what the body says.
pub(super) async fn replace(
    context: &Context<'_>,
    call: &Call,
    options: WriteOptions,
    body: &[u8],
    part: Part,
) -> Result<Response, ApiError> {
    let decoded = decode::body(call.resource, context.headers, body, options.field_validation)?;
    let make = |_: &_| Ok(Decoded { object: decoded.object.clone_object(), warnings: decoded.warnings.clone() });
    let done = writes::change(context, target(context, call, options.dry_run), part, make).await?;
    written(context, call, StatusCode::OK, &done)
}
