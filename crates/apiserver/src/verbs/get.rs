//! One object.

use http::StatusCode;

use super::form;
use crate::context::Context;
use crate::error::ApiError;
use crate::respond::{self, Response};
use crate::route::Call;
use crate::{present, stored};

pub(super) async fn run(context: &Context<'_>, call: &Call) -> Result<Response, ApiError> {
    let form = form(context, call)?;
    let json = stored::json(&*context.shared.store, call.resource, &call.namespace, &call.name).await?;
    Ok(respond::json(StatusCode::OK, present::object(call.resource, &json, form, true)?))
}
