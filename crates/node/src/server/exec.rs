//! `exec`: runs a command in a container for a client.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use runtime::{ExecSpec, Runtime};
use serde_json::Value;
use tokio::time::timeout;

use super::channels::{self, Said};
use super::client::{self, Client, Wanted};
use super::process::{Input, Pumps};
use super::{Body, RequestError, parameters, running, upgrade};
use crate::{Shared, operations};

/// What a command wrote is carried so long after its end, should a child of it keep the pipes open.
const DRAIN: Duration = Duration::from_secs(2);

/// What to run, and where.
struct Order {
    runtime: Runtime,
    uid: String,
    container_id: String,
    spec: ExecSpec,
    wanted: Wanted,
}

/// Accepts the upgrade and runs the command behind it.
pub(super) fn serve(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, RequestError> {
    let order = order(shared, pod, container, request.uri().query().unwrap_or_default())?;
    let accepted = upgrade::accept(&mut request, client::offer("exec"))?;
    let wanted = order.wanted;
    Ok(Client::greet(accepted, wanted, async move |mut client| {
        let outcome = order.run(&mut client).await;
        client.conclude(outcome).await;
    }))
}

fn order(shared: &Shared, pod: &Pod, container: &str, query: &str) -> Result<Order, RequestError> {
    let args: Vec<String> = parameters(query).into_iter().filter(|(name, _)| name == "command").map(|(_, value)| value).collect();
    if args.is_empty() {
        return Err(RequestError::Bad("you must specify at least one command for the container".to_owned()));
    }
    let container_id = running(shared, pod, container)?;
    let wanted = Wanted::of(query);
    Ok(Order {
        runtime: shared.runtime.clone(),
        uid: operations::uid(pod).to_owned(),
        container_id,
        spec: ExecSpec { args, env: Vec::new(), terminal: wanted.terminal, stdin: wanted.input },
        wanted,
    })
}

impl Order {
    /// Runs the command to its end, and tells how it ended. `None` if the client went away first.
    async fn run(self, client: &mut Client) -> Result<Option<Value>, String> {
        let started = self.runtime.exec(&self.uid, &self.container_id, self.spec.clone()).await;
        let exec = started.map_err(|error| error.to_string())?;
        let mut input = Input::new(exec.stdin, self.wanted.input)?;
        let mut pumps = Pumps::begin(exec.stdout, exec.stderr, &client.outlets(), self.wanted)?;
        let mut exit = exec.exit;
        tokio::select! {
            exit = &mut exit => {
                let _late = timeout(DRAIN, pumps.drained()).await;
                exit.map(|exit| Some(channels::exit_status(exit.code))).map_err(|_| "the command's end was not seen".to_owned())
            }
            () = feed(client, &mut input) => {
                // The client is gone, and nobody else can see the command's end.
                if let Err(error) = self.runtime.kill_exec(&self.uid, exec.id).await {
                    tracing::debug!(%error, "the command of a client that went away was not ended");
                }
                Ok(None)
            }
        }
    }
}

/// Carries input to a process until the client goes away.
async fn feed(client: &mut Client, input: &mut Input) {
    loop {
        match input.next(client).await {
            Said::Farewell => return,
            Said::InputEnds => input.end(),
            said => input.hear(said),
        }
    }
}
