//! Lets a client write only while its process leads.
//!
//! Losing an election ends the controllers' tasks, but not at the instant: a process that was stopped by a signal, or starved,
//! goes on where it was, with requests it was about to send. So each write asks the fence first.
//!
//! # Guarantees
//! * No write is begun after the time that was last granted.
//!
//! # Caveats
//! * A write that had passed the fence when the process was stopped is on its way. It carries, as all that controllers write, the
//!   uid or version it was decided on, or creates under a name that only one object can have.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use thiserror::Error;
use tokio::time::Instant;
use tower::BoxError;

/// Until when writes may pass. Cheap to clone; all clones are one fence.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    until: Arc<Mutex<Option<Instant>>>,
}

/// A write that came too late.
#[derive(Debug, Error)]
#[error("this process does not lead any more; the request was not sent")]
struct Deposed;

impl Fence {
    /// Lets writes pass until then.
    pub fn open_until(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Lets none pass.
    pub fn close(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_open(&self) -> bool {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    /// The client behind this fence.
    pub fn around(&self, client: Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let fence = self.clone();
        let pass = move |request: Request<Body>| {
            let (client, fence) = (client.clone(), fence.clone());
            async move {
                match fence.is_open() || request.method() == Method::GET {
                    true => client.send(request).await.map_err(BoxError::from),
                    false => Err(Deposed.into()),
                }
            }
        };
        Client::new(tower::service_fn(pass), namespace)
    }
}
