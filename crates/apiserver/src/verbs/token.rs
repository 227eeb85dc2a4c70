//! Tokens of service accounts.

use http::StatusCode;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::registry;
use plan::access::nodes;

use crate::auth::node::forbidden;
use crate::auth::token::{Bound, Claims, Private};
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
    let mut claims = Claims::new(&context.shared.config.issuer, &call.namespace, account_ref);
    bind(context, call, spec.bound_object_ref.as_ref(), &mut claims.private).await?;
    let claims = claims.valid(now.as_second(), expires.as_second()).for_audiences(spec.audiences.as_deref().unwrap_or_default());
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

/// Notes what the token is to live and die with. Agents of nodes get tokens for their own pods only.
async fn bind(context: &Context<'_>, call: &Call, reference: Option<&BoundObjectReference>, private: &mut Private) -> Result<(), ApiError> {
    let node = nodes::node_of(context.user.who());
    let refused = |why: &str| Err(forbidden(call.resource, &call.name, why));
    let Some(reference) = reference else {
        return if node.is_some() { refused("node requested token not bound to a pod") } else { Ok(()) };
    };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (kind, name, uid) = (text(&reference.kind), text(&reference.name), text(&reference.uid));
    let of_kind = match kind.as_str() {
        "Pod" | "Secret" | "Node" => registry::find_kind("", "v1", &kind),
        _ => None,
    };
    let Some(resource) = of_kind else {
        return Err(ApiError::bad_request(format!("cannot bind token for serviceaccount {:?} to object of kind {kind:?}", call.name)));
    };
    if node.is_some() && kind != "Pod" {
        return refused("node requested token not bound to a pod");
    }
    if node.is_some() && uid.is_empty() {
        return refused("node requested token with a pod binding without a uid");
    }
    let namespace = if kind == "Node" { "" } else { &call.namespace };
    let found = stored::current(&*context.shared.store, resource, namespace, &name).await?.object;
    let own = found.meta().uid.clone().unwrap_or_default();
    if !uid.is_empty() && uid != own {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::Conflict { resource, name, why });
    }
    let place = found.downcast_ref::<Pod>().and_then(|pod| pod.spec.as_ref()?.node_name.clone());
    if node.is_some() && place.as_deref() != node {
        return refused("node requested token bound to a pod scheduled on a different node");
    }
    if found.downcast_ref::<Pod>().is_some_and(|pod| account_of(pod) != call.name) {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            call.name
        )));
    }
    let bound = Some(Bound { name, uid: own });
    match kind.as_str() {
        "Pod" => (private.pod, private.node) = (bound, node_of(context, place).await?),
        "Secret" => private.secret = bound,
        _ => private.node = bound,
    }
    Ok(())
}

/// The account that a pod runs under.
fn account_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default()
}

/// The node of a pod, which its token tells.
async fn node_of(context: &Context<'_>, place: Option<String>) -> Result<Option<Bound>, ApiError> {
    let (Some(name), Some(resource)) = (place.filter(|name| !name.is_empty()), registry::find_kind("", "v1", "Node")) else {
        return Ok(None);
    };
    match stored::current(&*context.shared.store, resource, "", &name).await {
        Ok(node) => Ok(Some(Bound { name, uid: node.object.meta().uid.clone().unwrap_or_default() })),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
