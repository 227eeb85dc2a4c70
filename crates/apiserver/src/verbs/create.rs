//! A new object.

use http::StatusCode;

use super::{target, written};
use crate::context::Context;
use crate::error::ApiError;
use crate::query::WriteOptions;
use crate::respond::Response;
use crate::route::Call;
use crate::{decode, writes};

pub(super) async fn run(context: &Context<'_>, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    let decoded = decode::body(call.resource, context.headers, body, options.field_validation)?;
    let done = writes::create(context, target(context, call, options.dry_run), decoded.into()).await?;
    written(context, call, StatusCode::CREATED, &done)
}
