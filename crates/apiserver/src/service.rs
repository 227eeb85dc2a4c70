//! One request, from its head to its response: who, what, whether, then the verb.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kinds::registry::Subresource;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::{Identity, impersonation};
use crate::context::{Context, Shared};
use crate::error::ApiError;
use crate::metrics::{Measured, Subject};
use crate::respond::{self, Response};
use crate::route::{self, Route, Verb};
use crate::streams::Takeover;
use crate::{discovery, health, media, metrics, openapi, reviews, streams, verbs};

/// Where a request comes from.
#[derive(Clone, Debug)]
pub enum Caller {
    /// This process.
    InProcess(Identity),
    /// The network.
    Network { certificate: Option<Identity>, loopback: bool },
}

/// Serves requests; cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub shared: Arc<Shared>,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Service {
    /// A service within the configured limits.
    pub fn new(shared: Arc<Shared>) -> Self {
        let limits = shared.config.limits;
        Self { shared, requests: Arc::new(Semaphore::new(limits.requests)), streams: Arc::new(Semaphore::new(limits.streams)) }
    }

    /// Answers a request. A refusal is an answer, too.
    pub async fn handle<B>(&self, request: Request<B>, caller: Caller) -> Response
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<respond::BodyError>,
    {
        let (parts, body) = request.into_parts();
        let gzip = match caller {
            Caller::InProcess(_) => false,
            Caller::Network { loopback, .. } => {
                (!loopback || self.shared.config.limits.local_compression) && respond::accepts_gzip(&parts.headers)
            }
        };
        let protobuf = media::prefers_protobuf(&parts.headers);
        let response = self.answer(parts, body, caller).await.unwrap_or_else(|error| respond::error(&error));
        respond::compressed(if protobuf { respond::in_protobuf(response) } else { response }, gzip)
    }

    async fn answer<B>(&self, mut parts: Parts, body: B, caller: Caller) -> Result<Response, ApiError>
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<respond::BodyError>,
    {
        let user = match &caller {
            Caller::InProcess(identity) => identity.clone(),
            Caller::Network { certificate, .. } => self.shared.authenticator.identify(certificate.as_ref(), &parts.headers).await?,
        };
        let user = impersonation::effective(&self.shared.authority, user, &parts.headers).await?;
        let path = parts.uri.path();
        let route = match route::parse(&parts.method, path, parts.uri.query().unwrap_or_default(), &parts.headers) {
            Err(_) if user.is_in("system:unauthenticated") => {
                let verb = parts.method.as_str().to_lowercase();
                return Err(ApiError::ForbiddenPath { user: user.user, verb, path: path.to_owned() });
            }
            route => route?,
        };
        let mut measured = Measured::begin(&self.shared, Subject::of(&route, is_long(&route)));
        let response = self.serve(&mut parts, body, &caller, &user, &route).await.unwrap_or_else(|error| respond::error(&error));
        measured.answered(response.status());
        // A long request is under way for as long as its body is.
        Ok(if is_long(&route) { holding(response, measured) } else { response })
    }

    /// Serves a request of a known user with a known route, if they may.
    async fn serve<B>(&self, parts: &mut Parts, body: B, caller: &Caller, user: &Identity, route: &Route) -> Result<Response, ApiError>
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<respond::BodyError>,
    {
        self.shared.authority.authorize(user, route, parts.method.as_str(), parts.uri.path()).await?;
        let takeover = match caller {
            Caller::InProcess(_) => Some(Takeover::Direct),
            Caller::Network { .. } => parts.extensions.remove().map(Takeover::Connection),
        };
        let permit = self.permit(route, caller).await?;
        if is_long(route) {
            let response = self.dispatch(parts, user, route, Bytes::new(), takeover).await?;
            return Ok(holding(response, permit));
        }
        let limit = self.shared.config.limits.request;
        let answer = async {
            let body = self.read(&parts.headers, body).await?;
            self.dispatch(parts, user, route, body, None).await
        };
        let late = |_| ApiError::Timeout { message: format!("request did not complete within {} s", limit.as_secs()) };
        tokio::time::timeout(limit, answer).await.map_err(late)?
    }

    /// The right to be served now. Clients in this process wait for it; they are few and known.
    async fn permit(&self, route: &Route, caller: &Caller) -> Result<OwnedSemaphorePermit, ApiError> {
        let semaphore = Arc::clone(if is_long(route) { &self.streams } else { &self.requests });
        let busy = || ApiError::TooManyRequests {
            message: "the server has received too many requests and has asked us to try again later".to_owned(),
            retry_after_seconds: 1,
        };
        match caller {
            Caller::InProcess(_) => semaphore.acquire_owned().await.map_err(|_| busy()),
            Caller::Network { .. } => semaphore.try_acquire_owned().map_err(|_| busy()),
        }
    }

    async fn read<B>(&self, headers: &HeaderMap, body: B) -> Result<Bytes, ApiError>
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<respond::BodyError>,
    {
        let limits = self.shared.config.limits;
        let too_large = || ApiError::TooLarge { message: format!("Request entity too large: limit is {}", limits.body) };
        let announced = headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > limits.body) {
            return Err(too_large());
        }
        let read = tokio::time::timeout(limits.arrival, Limited::new(body, limits.body).collect()).await;
        match read {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(ApiError::bad_request(format!("error reading the body: {error}"))),
            Err(_) => Err(ApiError::Timeout { message: "the body did not arrive in time".to_owned() }),
        }
    }

    async fn dispatch(
        &self,
        parts: &Parts,
        user: &Identity,
        route: &Route,
        body: Bytes,
        takeover: Option<Takeover>,
    ) -> Result<Response, ApiError> {
        let context = Context { shared: &self.shared, user, headers: &parts.headers };
        let query = parts.uri.query().unwrap_or_default();
        match route {
            Route::Health { question, check } => health::answer(&self.shared, *question, check, query).await,
            Route::Metrics => metrics::answer(&self.shared).await,
            Route::OpenApiWhole => Ok(openapi::whole(&parts.headers)),
            Route::Version => Ok(discovery::version()),
            Route::CoreVersions => discovery::core_versions(&parts.headers),
            Route::Groups => discovery::groups(&parts.headers),
            Route::Group(group) => discovery::group(group),
            Route::Resources { group, version } => discovery::resources(group, version),
            Route::OpenApiIndex => Ok(openapi::index()),
            Route::OpenApi { group, version } => openapi::document(group, version, query, &parts.headers),
            Route::Review { review, namespace } => reviews::run(&context, review, namespace, &body).await,
            Route::TokenKeys => Ok(self.token_keys(parts.uri.path())),
            Route::Object(call) => match call.subresource {
                Some(Subresource::Log) => streams::log(&context, call).await,
                Some(subresource) if subresource.connects() => streams::connect(&context, call, subresource, &parts.method, takeover).await,
                _ => {
                    media::check(&parts.headers, call.resource)?;
                    verbs::run(&context, call, body).await
                }
            },
        }
    }

    fn token_keys(&self, path: &str) -> Response {
        let issuer = &self.shared.config.issuer;
        let value = if path.ends_with("/jwks") {
            serde_json::json!({"keys": [self.shared.config.token_key.public()]})
        } else {
            serde_json::json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
            })
        };
        respond::value(StatusCode::OK, &value)
    }
}

/// Whether a request may go on for as long as the client likes.
fn is_long(route: &Route) -> bool {
    let Route::Object(call) = route else { return false };
    let streams = |subresource: Subresource| subresource.connects() || subresource == Subresource::Log;
    matches!(call.verb, Verb::Watch(_)) || call.subresource.is_some_and(streams)
}

/// Keeps something for as long as the response's body is there.
fn holding(response: Response, kept: impl Send + 'static) -> Response {
    response.map(|body| {
        let held = body.map_frame(move |frame| {
            let _held = &kept;
            frame
        });
        held.boxed_unsync()
    })
}
