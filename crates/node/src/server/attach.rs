//! `attach`: joins a container's first process, beside its log and others who are attached.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use runtime::Runtime;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::channels::{self, Said};
use super::client::{self, Client, Wanted};
use super::process::{Input, Pumps};
use super::{Body, RequestError, running, upgrade};
use crate::{Running, Shared, operations};

/// In which an attempt's end is seen after that of its output.
const SEEN: Duration = Duration::from_secs(10);

/// Which container a client joins, and how.
struct Visit {
    runtime: Runtime,
    uid: String,
    container_id: String,
    running: watch::Receiver<Running>,
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
        running: shared.running.subscribe(),
        wanted: Wanted::of(request.uri().query().unwrap_or_default()),
        reads: spec.as_ref().is_some_and(|spec| is_set(spec.stdin)),
        once: spec.as_ref().is_some_and(|spec| is_set(spec.stdin_once) && !is_set(spec.tty)),
    };
    let accepted = upgrade::accept(&mut request, client::offer("attach"))?;
    let wanted = visit.wanted;
    Ok(Client::greet(accepted, wanted, async move |mut client| {
        let outcome = visit.stay(&mut client).await;
        client.conclude(outcome).await;
    }))
}

impl Visit {
    /// Carries both ways until the container ends. `None` if the client leaves first; then the shim sees that its ends are closed.
    async fn stay(&self, client: &mut Client) -> Result<Option<Value>, String> {
        let attached = self.runtime.attach(&self.uid, &self.container_id, self.wanted.input).await;
        let attachment = attached.map_err(|error| error.to_string())?;
        let mut input = Input::new(attachment.stdin, self.reads && self.wanted.input)?;
        let mut pumps = Pumps::begin(attachment.stdout, attachment.stderr, &client.outlets(), self.wanted)?;
        loop {
            let said = tokio::select! {
                () = pumps.drained() => break,
                said = input.next(client) => said,
            };
            match said {
                Said::Farewell => return Ok(None),
                Said::InputEnds if self.once => {
                    input.end();
                    let closed = self.runtime.close_stdin(&self.uid, &self.container_id).await;
                    closed.map_err(|error| error.to_string())?;
                }
                said => input.hear(said),
            }
        }
        let attempt = (self.uid.clone(), self.container_id.clone());
        match has_ended(self.running.clone(), &attempt).await {
            true => Ok(Some(channels::exit_status(0))),
            false => {
                Err("the output was not read for too long and is given up; the container still runs: attach again to see what comes"
                    .to_owned())
            }
        }
    }
}

/// Whether an attempt whose output has ended has ended itself. If not, it was only this client that got no more of it.
async fn has_ended(mut running: watch::Receiver<Running>, attempt: &(String, String)) -> bool {
    timeout(SEEN, running.wait_for(|running| !running.contains(attempt))).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_cut_off_is_not_told_that_the_container_has_ended() {
        let attempt = ("u".to_owned(), "main-0".to_owned());
        let (sender, running) = watch::channel(Running::from([attempt.clone()]));
        assert!(!has_ended(running.clone(), &attempt).await);
        let (ended, ()) = tokio::join!(has_ended(running, &attempt), async {
            tokio::task::yield_now().await;
            sender.send_modify(|running| running.clear());
        });
        assert!(ended);
    }
}
