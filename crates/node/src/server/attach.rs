//! `attach`: joins a container's first process, beside its log and others who are attached.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use runtime::Runtime;
use serde_json::Value;

use super::channels::{self, Said};
use super::client::{self, Client, Wanted};
use super::exec::{Pumps, hear, wanted};
use super::upgrade::{self, Accepted};
use super::{Body, RequestError, running};
use crate::descriptor::writer;
use crate::{Shared, operations};

/// Which container a client joins, and how.
struct Visit {
    runtime: Runtime,
    uid: String,
    container_id: String,
    wanted: Wanted,
    /// The container reads input.
    reads: bool,
    /// Its input ends with that of the first who gives any.
    once: bool,
}

/// Accepts the upgrade and joins the container.
pub(super) fn serve(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, RequestError> {
    let container_id = running(shared, pod, container)?;
    let spec = operations::container(pod, container);
    let is_set = |flag: Option<bool>| flag == Some(true);
    let visit = Visit {
        runtime: shared.runtime.clone(),
        uid: operations::uid(pod).to_owned(),
        container_id,
        wanted: wanted(request.uri().query().unwrap_or_default()),
        reads: spec.as_ref().is_some_and(|spec| is_set(spec.stdin)),
        once: spec.as_ref().is_some_and(|spec| is_set(spec.stdin_once) && !is_set(spec.tty)),
    };
    let Accepted { chosen, upgrade, response } = upgrade::accept(&mut request, client::offer("attach"))?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                if let Some(client) = Client::meet(upgraded, chosen, visit.wanted).await {
                    visit.carry_out(client).await;
                }
            }
            Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
        }
    });
    Ok(response)
}

impl Visit {
    async fn carry_out(self, mut client: Client) {
        let status = match self.stay(&mut client).await {
            Ok(Some(status)) => status,
            Ok(None) => return,
            Err(message) => channels::failure_status(&message),
        };
        client.end(&status).await;
    }

    /// Carries both ways until the container ends. `None` if the client leaves first; then the shim sees that its ends are closed.
    async fn stay(&self, client: &mut Client) -> Result<Option<Value>, String> {
        let attached = self.runtime.attach(&self.uid, &self.container_id, self.wanted.input).await;
        let attachment = attached.map_err(|error| error.to_string())?;
        let mut stdin = attachment.stdin.map(writer).transpose().map_err(|error| error.to_string())?;
        let mut pumps = Pumps::begin(attachment.stdout, attachment.stderr, &client.outlets(), self.wanted)?;
        loop {
            let said = tokio::select! {
                () = pumps.drained() => return Ok(Some(channels::exit_status(0))),
                said = client.next() => said,
            };
            match said {
                Said::Farewell => return Ok(None),
                Said::Input(_) if !(self.reads && self.wanted.input) => {}
                Said::InputEnds if self.once => {
                    stdin = None;
                    let closed = self.runtime.close_stdin(&self.uid, &self.container_id).await;
                    closed.map_err(|error| error.to_string())?;
                }
                said => hear(said, &mut stdin).await,
            }
        }
    }
}
