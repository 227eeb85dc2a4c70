//! A collection, or a page of it.

use super::form;
use crate::context::Context;
use crate::error::ApiError;
use crate::query::ListOptions;
use crate::respond::{self, Response};
use crate::route::Call;
use crate::{list, present};

pub(super) async fn run(context: &Context<'_>, call: &Call, options: &ListOptions) -> Result<Response, ApiError> {
    let form = form(context, call)?;
    let listed = list::list(&*context.shared.store, call.resource, &call.namespace, options).await?;
    Ok(respond::sent(present::list(call.resource, listed.items, &listed.head, form)?))
}
