//! One request, from its head to its response: who, what, whether, then the verb.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kinds::registry::Subresource;
use tokio_util::sync::CancellationToken;

use crate::audit::{self, Record};
use crate::auth::{Identity, impersonation};
use crate::context::{Context, Shared};
use crate::error::ApiError;
use crate::fairness::{self, Seat};
use crate::metrics::{Measured, Subject};
use crate::respond::{self, Response};
use crate::route::{self, Route, Verb};
use crate::streams::Takeover;
use crate::{decode, discovery, health, media, metrics, openapi, reviews, sending, streams, verbs};

/// Where a request comes from.
#[derive(Clone, Debug)]
pub enum Caller {
    /// This process.
    InProcess(Identity),
    /// The network.
    Network {
        certificate: Option<Identity>,
        peer: IpAddr,
        /// Ends the connection.
        ending: CancellationToken,
    },
}

/// What goes along with a request until it is answered.
struct Course {
    /// The seat that it has.
    seat: Option<Seat>,
    /// What is put on record of it.
    record: audit::Open,
    /// Whether its answer has begun and may go on for as long as the client likes.
    goes_on: bool,
}

impl Course {
    fn record(&mut self) -> Option<&mut Record> {
        self.record.0.as_mut()
    }

    fn refused(&mut self, error: &ApiError) -> Response {
        if let Some(record) = self.record() {
            record.refused(error.status());
        }
        respond::error(error)
    }

    /// Puts on record how it was answered.
    async fn audited(&mut self, mut response: Response) -> Response {
        let status = response.status();
        let Some(mut record) = self.record.0.take() else { return response };
        if self.goes_on {
            record.started(status).await;
            return sending::holding(response, audit::Open(Some(record)));
        }
        if record.wants_answer() {
            let (given_back, json) = respond::looked_at(response);
            response = given_back;
            record.answered(&json);
        }
        record.completed(status).await;
        response
    }
}

/// Serves requests; cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub shared: Arc<Shared>,
}

impl Service {
    /// Answers a request. A refusal is an answer, too.
    pub async fn handle<B>(&self, request: Request<B>, caller: Caller) -> Response
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<respond::BodyError>,
    {
        let (parts, body) = request.into_parts();
        let limits = self.shared.config.limits;
        let gzip = match &caller {
            Caller::InProcess(_) => false,
            Caller::Network { peer, .. } => (!peer.is_loopback() || limits.local_compression) && respond::accepts_gzip(&parts.headers),
        };
        let (protobuf, version) = (media::prefers_protobuf(&parts.headers), parts.version);
        let name = audit::name(&parts.headers);
        let record = self.shared.config.audit.as_ref().map(|auditor| Record::begin(auditor, &name, &parts, &caller));
        let mut course = Course { seat: None, record: audit::Open(record), goes_on: false };
        let response = self.answer(parts, body, &caller, &mut course).await.unwrap_or_else(|error| course.refused(&error));
        let response = course.audited(response).await;
        let mut response = respond::compressed(if protobuf { respond::in_protobuf(response) } else { response }, gzip);
        if let Ok(name) = name.try_into() {
            response.headers_mut().insert("audit-id", name);
        }
        match (caller, course.seat.take()) {
            // Whatever is large keeps its seat until the client has it.
            (Caller::Network { ending, .. }, Some(seat)) => {
                let ending = (version < http::Version::HTTP_2).then_some(ending);
                sending::paced(response, seat, limits.sending, ending)
            }
            _ => response,
        }
    }

    async fn answer<B>(&self, mut parts: Parts, body: B, caller: &Caller, course: &mut Course) -> Result<Response, ApiError>
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<respond::BodyError>,
    {
        let path = parts.uri.path();
        let route = route::parse(&parts.method, path, parts.uri.query().unwrap_or_default(), &parts.headers);
        if let Some(record) = course.record() {
            record.about(route.as_ref().ok());
        }
        let user = match caller {
            Caller::InProcess(identity) => identity.clone(),
            Caller::Network { certificate, .. } => self.shared.authenticator.identify(certificate.as_ref(), &parts.headers).await?,
        };
        if let Some(record) = course.record() {
            record.asks(&user).await;
        }
        let user = impersonation::effective(&self.shared.authority, user, &parts.headers).await?;
        if let Some(record) = course.record() {
            record.acts_as(&user);
        }
        let route = match route {
            Err(_) if user.is_in("system:unauthenticated") => {
                let verb = parts.method.as_str().to_lowercase();
                return Err(ApiError::ForbiddenPath { user: user.user, verb, path: path.to_owned() });
            }
            route => route?,
        };
        let mut measured = Measured::begin(&self.shared, Subject::of(&route, is_long(&route)));
        let served = self.serve(&mut parts, body, caller, &user, &route, course).await;
        let response = served.unwrap_or_else(|error| course.refused(&error));
        measured.answered(response.status());
        // A long request is under way for as long as its body is.
        Ok(if is_long(&route) { sending::holding(response, measured) } else { response })
    }

    /// Serves a request of a known user with a known route, if they may.
    async fn serve<B>(
        &self,
        parts: &mut Parts,
        body: B,
        caller: &Caller,
        user: &Identity,
        route: &Route,
        course: &mut Course,
    ) -> Result<Response, ApiError>
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<respond::BodyError>,
    {
        let authorized = self.shared.authority.authorize(user, route, parts.method.as_str(), parts.uri.path()).await;
        if let Some(record) = course.record() {
            match &authorized {
                Ok(reason) => record.decided("allow", reason),
                Err(error) => record.decided("forbid", &error.to_string()),
            }
        }
        authorized?;
        let mut seat = self.seat(caller, user, route, &parts.method).await?;
        if is_long(route) {
            let takeover = match caller {
                _ if !connects(route) => None,
                Caller::InProcess(_) => Some(Takeover::Direct),
                Caller::Network { .. } => parts.extensions.remove().map(|upgrade| Takeover::Connection(upgrade, seat.take())),
            };
            let response = self.dispatch(parts, user, route, Bytes::new(), takeover).await?;
            course.goes_on = true;
            return Ok(sending::holding(response, seat));
        }
        course.seat = seat;
        let limit = self.shared.config.limits.request;
        let answer = async {
            let body = self.read(&parts.headers, body).await?;
            if let Some(record) = course.record() {
                record.sent(|| decode::sent(route, &parts.headers, &body));
            }
            self.dispatch(parts, user, route, body, None).await
        };
        let late = |_| ApiError::Timeout { message: format!("request did not complete within {} s", limit.as_secs()) };
        tokio::time::timeout(limit, answer).await.map_err(late)?
    }

    /// The right to be served, when it is this request's turn. Some need none.
    async fn seat(&self, caller: &Caller, user: &Identity, route: &Route, method: &Method) -> Result<Option<Seat>, ApiError> {
        let Some(flow) = fairness::flow(caller, user, route) else { return Ok(None) };
        let gate = &self.shared.gate;
        let (pool, seats) = match route {
            route if is_long(route) => (&gate.long, 1),
            _ if matches!(*method, Method::GET | Method::HEAD) => (&gate.reading, fairness::width(&*self.shared.store, route).await),
            _ => (&gate.mutating, fairness::width(&*self.shared.store, route).await),
        };
        Ok(Some(pool.enter(flow, seats).await?))
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

/// Whether a long request takes its connection over.
fn connects(route: &Route) -> bool {
    matches!(route, Route::Object(call) if call.subresource.is_some_and(Subresource::connects))
}

/// Whether a request may go on for as long as the client likes.
fn is_long(route: &Route) -> bool {
    let Route::Object(call) = route else { return false };
    let streams = |subresource: Subresource| subresource.connects() || subresource == Subresource::Log;
    matches!(call.verb, Verb::Watch(_)) || call.subresource.is_some_and(streams)
}
