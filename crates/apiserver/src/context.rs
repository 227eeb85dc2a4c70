//! What every verb works with.

use std::sync::Arc;

use http::HeaderMap;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::admit::Admission;
use crate::auth::{Authenticator, Authority, Identity};
use crate::config::Config;
use crate::fairness::Gate;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// What all requests share.
pub struct Shared {
    pub store: Arc<dyn Store>,
    pub config: Config,
    pub admission: Admission,
    pub authenticator: Authenticator,
    pub metrics: Metrics,
    pub gate: Gate,
    pub peers: Arc<Peers>,
    pub(crate) authority: Authority,
    /// Ends watches and streams when the server stops.
    pub closing: CancellationToken,
}

/// One request, once it is known who makes it.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub shared: &'a Arc<Shared>,
    pub user: &'a Identity,
    pub headers: &'a HeaderMap,
}
