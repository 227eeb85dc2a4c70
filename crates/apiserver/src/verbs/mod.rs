//! One verb a file: what each does with a request about objects.

use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};
use kinds::registry::Subresource;

use crate::context::Context;
use crate::error::ApiError;
use crate::media;
use crate::ownership;
use crate::present::{self, Form};
use crate::respond::{self, Response};
use crate::route::{Call, Verb};
use crate::writes::{Part, Target, Written};

mod apply;
mod binding;
mod create;
mod delete;
mod delete_collection;
mod eviction;
mod finalize;
mod get;
mod list;
mod patch;
mod scale;
mod status;
mod token;
mod update;
mod watch;

/// Carries out a request about objects, logs and terminals excepted.
pub async fn run(context: &Context<'_>, call: &Call, body: Bytes) -> Result<Response, ApiError> {
    match (&call.verb, call.subresource) {
        (Verb::Get, None | Some(Subresource::Status | Subresource::EphemeralContainers)) => get::run(context, call).await,
        (Verb::Get, Some(Subresource::Scale)) => scale::get(context, call).await,
        (Verb::List(options), _) => list::run(context, call, options).await,
        (Verb::Watch(options), _) => watch::run(context, call, options).await,
        (Verb::Create(options), None) => create::run(context, call, *options, &body).await,
        (Verb::Create(options), Some(Subresource::Binding)) => binding::run(context, call, *options, &body).await,
        (Verb::Create(options), Some(Subresource::Eviction)) => eviction::run(context, call, *options, &body).await,
        (Verb::Create(options), Some(Subresource::Token)) => token::run(context, call, *options, &body).await,
        (Verb::Update(options), None) => update::run(context, call, *options, &body).await,
        (Verb::Update(options), Some(Subresource::Status)) => status::update(context, call, *options, &body).await,
        (Verb::Update(options), Some(Subresource::EphemeralContainers)) => {
            update::replace(context, call, *options, &body, Part::Ephemeral).await
        }
        (Verb::Update(options), Some(Subresource::Scale)) => scale::update(context, call, *options, &body).await,
        (Verb::Update(options), Some(Subresource::Finalize)) => finalize::run(context, call, *options, &body).await,
        (Verb::Patch(patch_type, options), None) => patch::run(context, call, *patch_type, *options, &body).await,
        (Verb::Patch(patch_type, options), Some(Subresource::Status)) => status::patch(context, call, *patch_type, *options, &body).await,
        (Verb::Patch(patch_type, options), Some(Subresource::EphemeralContainers)) => {
            patch::apply(context, call, *patch_type, *options, &body, Part::Ephemeral).await
        }
        (Verb::Patch(patch_type, options), Some(Subresource::Scale)) => scale::patch(context, call, *patch_type, *options, &body).await,
        (Verb::Apply(options), None | Some(Subresource::Status | Subresource::EphemeralContainers)) => {
            apply::run(context, call, options, &body).await
        }
        (Verb::Apply(options), Some(Subresource::Scale)) => scale::apply(context, call, options, &body).await,
        (Verb::Delete(options), _) => delete::run(context, call, *options, &body).await,
        (Verb::DeleteCollection(list, options), _) => delete_collection::run(context, call, list, *options, &body).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

fn target<'a>(context: &Context<'a>, call: &'a Call, dry_run: bool) -> Target<'a> {
    Target {
        resource: call.resource,
        namespace: &call.namespace,
        name: &call.name,
        dry_run,
        repeatable: false,
        manager: ownership::manager(context, &call.query),
        subresource: call.subresource.map_or("", Subresource::name),
    }
}

fn form(context: &Context<'_>, call: &Call) -> Result<Form, ApiError> {
    Ok(Form::new(media::presentation(context.headers)?, &call.query))
}

/// The answer of a write: the object as it is now.
fn written(context: &Context<'_>, call: &Call, status: StatusCode, written: &Written) -> Result<Response, ApiError> {
    let json = present::object(call.resource, &written.json, form(context, call)?, true)?;
    let mut response = respond::json(status, json);
    respond::warn(&mut response, &written.warnings);
    Ok(response)
}

/// The answer that says no more than that it is done.
fn success(status: StatusCode, details: Option<StatusDetails>) -> Response {
    respond::value(status, &Status { status: Some("Success".to_owned()), details, ..Status::default() })
}

pub(crate) use watch::Begin;
