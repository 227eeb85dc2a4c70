//! The API server as others hold it.

use std::convert::Infallible;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use kinds::KeptAnyway;
use store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admit::Admission;
use crate::auth::{self, Authenticator, Authority, Identity};
use crate::config::Config;
use crate::context::Shared;
use crate::error::ApiError;
use crate::expiry;
use crate::fairness::Gate;
use crate::metrics::Metrics;
use crate::respond::Response;
use crate::serve;
use crate::service::{Caller, Service};

/// The Kubernetes API over a store. Cheap to clone; watches and background work end when the last clone is dropped.
#[derive(Clone)]
pub struct Server {
    service: Service,
    _closes: Arc<DropGuard>,
}

impl Server {
    /// A server that answers at once. The roles that every cluster begins with are there.
    pub async fn new(config: Config, store: Arc<dyn Store>) -> Result<Self, ApiError> {
        let closing = CancellationToken::new();
        let admission = Admission::open(Arc::clone(&store), config.service_range).await?;
        let authenticator = Authenticator::new(Arc::clone(&store), Arc::clone(&config.token_key), config.issuer.clone());
        let kept = expiry::Kept { time: config.limits.event_time, count: config.limits.events };
        tokio::spawn(expiry::run(Arc::clone(&store), kept, closing.clone()));
        let closes = Arc::new(closing.clone().drop_guard());
        let authority = Authority::new(Arc::clone(&store));
        let (metrics, gate) = (Metrics::default(), Gate::new(&config.limits));
        let shared = Arc::new(Shared {
            store,
            config,
            admission,
            authenticator,
            authority,
            metrics,
            gate,
            peers: Arc::default(),
            closing: closing.clone(),
        });
        auth::begin(&shared, closing).await?;
        Ok(Self { service: Service { shared }, _closes: closes })
    }

    /// A client in this process that acts as a user. The same checks apply to it as to any other.
    pub fn client(&self, user: &str, groups: &[&str]) -> kube::Client {
        kube::Client::new(self.in_process(Identity::new(user, groups)), "default")
    }

    /// Requests of this process, as they are, on behalf of someone.
    pub fn in_process(&self, identity: Identity) -> InProcess {
        InProcess { service: self.service.clone(), identity }
    }

    /// Serves HTTPS until `shutdown` is done; then ends all watches and streams of this server, refuses new ones, lets requests
    /// under way finish, and returns.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, shutdown: impl Future<Output = ()> + Send) {
        serve::run(&self.service, listener, tls, shutdown).await;
    }
}

/// A tower service over the server, for one identity.
#[derive(Clone)]
pub struct InProcess {
    service: Service,
    identity: Identity,
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<crate::respond::BodyError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (service, caller) = (self.service.clone(), Caller::InProcess(self.identity.clone()));
        async move {
            let mut answer = service.handle(request, caller).await;
            answer.extensions_mut().insert(KeptAnyway);
            Ok(answer)
        }
        .boxed()
    }
}
