//! The end of all objects that are selected.

use super::form;
use crate::context::Context;
use crate::deletion;
use crate::error::ApiError;
use crate::query::{ListOptions, WriteOptions};
use crate::respond::{self, Response};
use crate::route::Call;
use crate::writes::Target;
use crate::{keys, list, present};

pub(super) async fn run(
    context: &Context<'_>,
    call: &Call,
    selected: &ListOptions,
    write: WriteOptions,
    body: &[u8],
) -> Result<Response, ApiError> {
    let form = form(context, call)?;
    let (options, dry_run) = super::delete::options(context, call, write, body)?;
    let resource = call.resource;
    let listed = list::list(&*context.shared.store, resource, &call.namespace, selected).await?;
    for key in &listed.keys {
        let key = keys::parse(resource, key);
        let target = Target { namespace: &key.namespace, name: &key.name, ..super::target(context, call, dry_run) };
        match deletion::delete(context, target, &options).await {
            // Someone else was faster: that is as good.
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(respond::sent(present::list(resource, listed.items, &listed.head, form)?))
}
