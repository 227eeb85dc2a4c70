//! What an API server is told when it starts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::rbac::v1::PolicyRule;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::admit;
use crate::audit::Auditor;
use crate::certificates::TokenKey;

/// A connection, of whatever kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to the agent of a node by the node's name.
pub type NodeDialer = Arc<dyn Fn(&str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// What a user of the control plane may do, as a role of the same name that is there from the start.
#[derive(Clone, Debug)]
pub struct UserRole {
    pub user: String,
    pub rules: Vec<PolicyRule>,
}

/// What an API server is told when it starts.
#[derive(Clone)]
pub struct Config {
    /// Where services' addresses come from.
    pub service_range: admit::Range,
    /// Signs and verifies the tokens of service accounts.
    pub token_key: Arc<TokenKey>,
    /// `iss` and the default audience of those tokens.
    pub issuer: String,
    /// How logs and terminals are reached; without it they are refused.
    pub node_dialer: Option<NodeDialer>,
    pub limits: Limits,
    /// Puts requests on record; without it nothing is.
    pub audit: Option<Arc<Auditor>>,
    /// The parts of the control plane that are users like any other.
    pub user_roles: Vec<UserRole>,
}

/// How much the server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that only read and are served at one time, watches and streams excepted. Further ones wait for their turn.
    pub reading: u32,
    /// The same for those that change something.
    pub mutating: u32,
    /// Watches and streams open at one time; further ones are told to come again.
    pub streams: u32,
    /// How long a request waits for its turn before it is told to come again.
    pub patience: Duration,
    /// How long a client may take nothing of its answer, watches and streams excepted.
    pub sending: Duration,
    /// Connections open at one time; further ones wait to be accepted. One peer may have three quarters of them; further ones
    /// of it are closed.
    pub connections: usize,
    /// How long a request may take, watches and streams excepted.
    pub request: Duration,
    /// How long a request's head or body may take to arrive.
    pub arrival: Duration,
    /// The longest body of a request, in bytes.
    pub body: usize,
    /// How long a watch that asked for bookmarks waits for one, at most.
    pub bookmarks: Duration,
    /// How long events are kept after they were written last.
    pub event_time: Duration,
    /// How many events are kept; the oldest go first.
    pub events: usize,
    /// Whether large answers are compressed for peers on this machine, too. That costs more than it saves, unless they pass
    /// them on.
    pub local_compression: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reading: 400,
            mutating: 200,
            streams: 8192,
            patience: Duration::from_secs(15),
            sending: Duration::from_secs(30),
            connections: 4096,
            request: Duration::from_secs(60),
            arrival: Duration::from_secs(30),
            body: 3 << 20,
            bookmarks: Duration::from_secs(60),
            event_time: Duration::from_secs(3600),
            events: 50_000,
            local_compression: false,
        }
    }
}
