//! The controllers of the control plane, each a client of the API server under a user of its own.
//!
//! Where this is the only server, they run for as long as it does. Where several share a store, those of the elected one run.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apiserver::Server;
use controllers::election::{self, Candidacy};
use controllers::fence::Fence;
use controllers::rights::MANAGER;
use controllers::roster::{Controller, Parts};
use kube::Client;
use node::simulated;
use plan::election::Timing;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// The Lease that the servers of one store stand for.
const LEASE: (&str, &str) = ("kube-system", "steadfast-control-plane");

/// Where that Lease is in the store.
pub(crate) fn lease_key() -> Option<String> {
    kinds::registry::find("coordination.k8s.io", "v1", "leases").map(|leases| apiserver::keys::object(leases, LEASE.0, LEASE.1))
}

/// Before nodes that could not be registered are tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What one server of a cluster runs.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) server: Server,
    pub(crate) parts: Arc<Parts>,
    pub(crate) chosen: Vec<Controller>,
    /// Nodes that only pretend to run their pods.
    pub(crate) simulated: Option<simulated::Options>,
}

impl Control {
    /// Runs all of it until `shutdown`.
    pub(crate) fn start(&self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        self.spawn(tasks, &|client| client, &|| Box::pin(shutdown.clone().cancelled_owned()));
    }

    /// Runs all of it whenever this server is elected, until `shutdown`.
    pub(crate) fn stand(self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken, lease_seconds: u32) -> Result<(), Failure> {
        let (namespace, name) = LEASE;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let candidacy = Candidacy { namespace, name, identity: identity()?, timing: Timing::of_lease(lease_seconds) };
        let (client, ended) = (self.server.client(MANAGER, &[]), shutdown.clone().cancelled_owned());
        tasks.spawn(async move {
            let tell = |news: election::News| tracing::info!("control plane: {news}");
            let work = |fence, end| self.clone().lead(fence, end);
            election::run(client, candidacy, tell, work, ended).await;
        });
        Ok(())
    }

    /// What the elected server does until it is told to end. Dropped, all of it stops.
    async fn lead(self, fence: Fence, end: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        let ended = || -> End {
            let mut end = end.clone();
            // That the sender is gone means the end as well.
            Box::pin(async move { drop(end.wait_for(|end| *end).await) })
        };
        self.spawn(&mut tasks, &|client| fence.around(client), &ended);
        while tasks.join_next().await.is_some() {}
    }

    fn spawn(&self, tasks: &mut JoinSet<()>, fenced: &dyn Fn(Client) -> Client, ended: &dyn Fn() -> End) {
        for controller in self.chosen.iter().copied() {
            let (client, parts, ended) = (fenced(self.server.client(controller.user(), &[])), Arc::clone(&self.parts), ended());
            tasks.spawn(async move { controller.run(client, &parts, ended).await });
        }
        if let Some(options) = self.simulated.clone() {
            let (client, ended, views) = (fenced(self.server.client(simulated::USER, &[])), ended(), self.views());
            tasks.spawn(async move { simulate(client, options, views, ended).await });
        }
    }

    fn views(&self) -> simulated::Views {
        let informers = &self.parts.informers;
        simulated::Views {
            pods: informers.pods.clone(),
            claims: informers.claims.clone(),
            volumes: informers.volumes.clone(),
            storage_classes: informers.storage_classes.clone(),
        }
    }
}

/// Completes when what runs is to end.
type End = futures::future::BoxFuture<'static, ()>;

/// Runs the pods of the nodes, which are there already unless somebody removed them.
async fn simulate(client: Client, options: simulated::Options, views: simulated::Views, mut ended: End) {
    loop {
        match simulated::register(&client, &options).await {
            Ok(nodes) => return nodes.run(client, views, ended).await,
            Err(error) => tracing::warn!("the simulated nodes are not there: {error}; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = &mut ended => return,
        }
    }
}

/// A name that no other process has, nor this one after it was started again.
pub(crate) fn identity() -> Result<String, Failure> {
    let host = nix::unistd::gethostname().map_err(|error| Failure::Message(format!("the host has no name: {error}")))?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{}_{}_{:x}", host.to_string_lossy(), std::process::id(), started.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_candidates_are_called_the_same() {
        assert_ne!(identity().expect("a name"), identity().expect("a name"));
    }
}
