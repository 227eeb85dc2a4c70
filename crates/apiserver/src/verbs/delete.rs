//! The end of an object, or its beginning.

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, StatusDetails};

use super::{form, success, target};
use crate::context::Context;
use crate::deletion::{self, Outcome};
use crate::error::ApiError;
use crate::query::{self, Query, WriteOptions};
use crate::respond::{self, Response};
use crate::route::Call;
use crate::{decode, present};

pub(super) async fn run(context: &Context<'_>, call: &Call, write: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    let form = form(context, call)?;
    let (options, dry_run) = options(context, call, write, body)?;
    let outcome = deletion::delete(context, target(context, call, dry_run), &options).await?;
    let resource = call.resource;
    match outcome {
        Outcome::Gone { uid, .. } if !resource.returns_deleted => {
            let details = StatusDetails {
                name: Some(call.name.clone()),
                group: Some(resource.group.to_owned()).filter(|group| !group.is_empty()),
                kind: Some(resource.plural.to_owned()),
                uid: Some(uid),
                ..StatusDetails::default()
            };
            Ok(success(StatusCode::OK, Some(details)))
        }
        Outcome::Gone { json, .. } | Outcome::Pending { json } => {
            Ok(respond::json(StatusCode::OK, present::object(resource, &json, form, true)?))
        }
    }
}

/// The options in the body, or those in the query when there is no body.
pub(super) fn options(context: &Context<'_>, call: &Call, write: WriteOptions, body: &[u8]) -> Result<(DeleteOptions, bool), ApiError> {
    let options = if body.is_empty() { from_query(&call.query)? } else { decode::plain("DeleteOptions", context.headers, body)? };
    deletion::check_policy(&options)?;
    let in_body = options.dry_run.iter().flatten().map(String::as_str);
    let dry_run = query::dry_run(in_body, "DeleteOptions")? || write.dry_run;
    Ok((options, dry_run))
}

fn from_query(query: &Query) -> Result<DeleteOptions, ApiError> {
    let number =
        |text: &str| text.parse().map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
    Ok(DeleteOptions {
        grace_period_seconds: query.get("gracePeriodSeconds").map(number).transpose()?,
        propagation_policy: query.get("propagationPolicy").map(str::to_owned),
        orphan_dependents: query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
        ..DeleteOptions::default()
    })
}
