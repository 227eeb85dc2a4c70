//! Tokens of service accounts.

use http::StatusCode;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::registry;

use crate::auth::token::{Bound, Claims};
use crate::context::Context;
use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::query::WriteOptions;
use crate::respond::{self, Response};
use crate::route::Call;
use crate::{decode, deletion, stored};

/// Seconds a token is valid when the request does not say, at least, and at most.
const DEFAULT: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

pub(super) async fn run(context: &Context<'_>, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    let mut request: TokenRequest = decode::plain("TokenRequest", context.headers, body)?;
    let mut spec = request.spec.unwrap_or_default();
    let seconds = spec.expiration_seconds.unwrap_or(DEFAULT);
    check_expiration(call, seconds)?;
    let account = stored::current(&*context.shared.store, call.resource, &call.namespace, &call.name).await?;
    let audiences = spec.audiences.get_or_insert_default();
    if audiences.is_empty() {
        audiences.push(context.shared.config.issuer.clone());
    }
    let now = deletion::now();
    let expires = now.checked_add(jiff::SignedDuration::from_secs(seconds)).map_err(|error| ApiError::internal(error.to_string()))?;
    let account_ref = Bound { name: call.name.clone(), uid: account.object.meta().uid.clone().unwrap_or_default() };
    let bound = match &spec.bound_object_ref {
        Some(reference) => Some(bound(context, call, reference).await?),
        None => None,
    };
    let claims = Claims::new(&context.shared.config.issuer, &call.namespace, account_ref, bound)
        .valid(now.as_second(), expires.as_second())
        .for_audiences(spec.audiences.as_deref().unwrap_or_default());
    let token = if options.dry_run { String::new() } else { context.shared.config.token_key.sign(&claims) };
    request.status = Some(TokenRequestStatus { token: Some(token), expiration_timestamp: Some(Time(expires)) });
    spec.expiration_seconds = Some(seconds);
    request.spec = Some(spec);
    request.metadata.name = Some(call.name.clone());
    request.metadata.namespace = Some(call.namespace.clone());
    Ok(respond::value(StatusCode::CREATED, &request))
}

fn check_expiration(call: &Call, seconds: i64) -> Result<(), ApiError> {
    let path = Path::new("spec").child("expirationSeconds");
    let error = match seconds {
        ..SHORTEST => FieldError::invalid(path, seconds, "may not specify a duration less than 10 minutes"),
        seconds if seconds > LONGEST => FieldError::invalid(path, seconds, "may not specify a duration larger than 2^32 seconds"),
        _ => return Ok(()),
    };
    Err(ApiError::Invalid { resource: call.resource, name: call.name.clone(), errors: vec![error] })
}

/// The pod a token is to live and die with.
async fn bound(context: &Context<'_>, call: &Call, reference: &BoundObjectReference) -> Result<Bound, ApiError> {
    let (kind, name) = (reference.kind.as_deref().unwrap_or_default(), reference.name.clone().unwrap_or_default());
    let resource = match kind {
        "Pod" => registry::find_kind("", "v1", "Pod").ok_or(ApiError::NoRoute)?,
        other => return Err(ApiError::bad_request(format!("cannot bind token for serviceaccount {:?} to object of kind {other:?}", call.name))),
    };
    let pod = stored::current(&*context.shared.store, resource, &call.namespace, &name).await?;
    let uid = pod.object.meta().uid.clone().unwrap_or_default();
    match reference.uid.as_deref() {
        Some(wanted) if !wanted.is_empty() && wanted != uid => {
            let why = format!("the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated");
            Err(ApiError::Conflict { resource, name, why })
        }
        _ => Ok(Bound { name, uid }),
    }
}
