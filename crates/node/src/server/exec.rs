//! `exec`: runs a command in a container for a client.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use runtime::{ExecSpec, Exit, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Sender;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::channels::{self, STDERR, STDOUT, Said};
use super::client::{self, Client, Outlets, Wanted};
use super::upgrade::{self, Accepted};
use super::{Body, RequestError, is_true, last_values, parameters, running};
use crate::descriptor::{reader, resize, writer};
use crate::{Shared, operations};

/// What is read of a process's output at once.
const CHUNK: usize = 16 << 10;
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
    let Accepted { chosen, upgrade, response } = upgrade::accept(&mut request, client::offer("exec"))?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                if let Some(client) = Client::meet(upgraded, chosen, order.wanted).await {
                    order.carry_out(client).await;
                }
            }
            Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
        }
    });
    Ok(response)
}

fn order(shared: &Shared, pod: &Pod, container: &str, query: &str) -> Result<Order, RequestError> {
    let args: Vec<String> = parameters(query).into_iter().filter(|(name, _)| name == "command").map(|(_, value)| value).collect();
    if args.is_empty() {
        return Err(RequestError::Bad("you must specify at least one command for the container".to_owned()));
    }
    let container_id = running(shared, pod, container)?;
    let wanted = wanted(query);
    Ok(Order {
        runtime: shared.runtime.clone(),
        uid: operations::uid(pod).to_owned(),
        container_id,
        spec: ExecSpec { args, env: Vec::new(), terminal: wanted.terminal, stdin: wanted.input },
        wanted,
    })
}

/// Which streams a query asks for.
pub(super) fn wanted(query: &str) -> Wanted {
    let values = last_values(query);
    let flag = |name: &str| is_true(values.get(name));
    Wanted { input: flag("input"), output: flag("output"), error: flag("error"), terminal: flag("tty") }
}

impl Order {
    async fn carry_out(self, mut client: Client) {
        let status = match self.run(&mut client).await {
            Ok(Some(exit)) => channels::exit_status(exit.code),
            Ok(None) => return,
            Err(message) => channels::failure_status(&message),
        };
        client.end(&status).await;
    }

    /// Runs the command to its end. `None` if the client went away first.
    async fn run(self, client: &mut Client) -> Result<Option<Exit>, String> {
        let started = self.runtime.exec(&self.uid, &self.container_id, self.spec.clone()).await;
        let exec = started.map_err(|error| error.to_string())?;
        let mut stdin = exec.stdin.map(writer).transpose().map_err(|error| error.to_string())?;
        let mut pumps = Pumps::begin(exec.stdout, exec.stderr, &client.outlets(), self.wanted)?;
        let mut exit = exec.exit;
        tokio::select! {
            exit = &mut exit => {
                let _late = timeout(DRAIN, pumps.drained()).await;
                exit.map(Some).map_err(|_| "the command's end was not seen".to_owned())
            }
            () = feed(client, &mut stdin) => {
                // The client is gone, and nobody else can see the command's end.
                if let Err(error) = self.runtime.kill_exec(&self.uid, exec.id).await {
                    tracing::debug!(%error, "the command of a client that went away was not ended");
                }
                Ok(None)
            }
        }
    }
}

/// Carries a process's output to a client, as long as this lives.
pub(super) struct Pumps(Vec<JoinHandle<()>>);

impl Pumps {
    pub(super) fn begin(stdout: OwnedFd, stderr: Option<OwnedFd>, to: &Outlets, wanted: Wanted) -> Result<Self, String> {
        let mut pumps = Self(vec![pump(stdout, STDOUT, to.clone(), wanted.output)?]);
        if let Some(stderr) = stderr {
            pumps.0.push(pump(stderr, STDERR, to.clone(), wanted.error)?);
        }
        Ok(pumps)
    }

    /// Returns when all output has been carried.
    pub(super) async fn drained(&mut self) {
        for pump in &mut self.0 {
            let _ended = pump.await;
        }
        self.0.clear();
    }
}

impl Drop for Pumps {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Carries output to the client, or away if it is not wanted.
fn pump(from: OwnedFd, channel: u8, to: Outlets, wanted: bool) -> Result<JoinHandle<()>, String> {
    let mut from = reader(from).map_err(|error| error.to_string())?;
    Ok(tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if wanted && !to.send(channel, &buffer[..read]).await {
                return;
            }
        }
    }))
}

/// Carries input to a process until the client goes away.
async fn feed(client: &mut Client, stdin: &mut Option<Sender>) {
    loop {
        match client.next().await {
            Said::Farewell => return,
            Said::InputEnds => *stdin = None,
            said => hear(said, stdin).await,
        }
    }
}

/// Does what a client says to a process.
pub(super) async fn hear(said: Said, stdin: &mut Option<Sender>) {
    match said {
        Said::Input(bytes) => {
            let failed = match stdin {
                Some(stdin) => stdin.write_all(&bytes).await.is_err(),
                None => false,
            };
            if failed {
                *stdin = None;
            }
        }
        Said::Resize { width, height } => {
            if let Some(terminal) = stdin {
                resize(terminal, width, height);
            }
        }
        Said::InputEnds | Said::Nothing | Said::Farewell => {}
    }
}
