//! The controllers of the control plane, each a client of the API server under a user of its own.

use std::sync::Arc;

use controllers::roster::{Controller, Parts};
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Whom the API server sees when controllers ask, the scheduler excepted.
pub(crate) const MANAGER: &str = "system:kube-controller-manager";

/// Whom the API server sees.
fn user(controller: Controller) -> &'static str {
    match controller {
        Controller::Scheduler => "system:kube-scheduler",
        Controller::StatefulSet => "system:controller:statefulset-controller",
        _ => MANAGER,
    }
}

/// Starts all controllers but those that are disabled.
pub(crate) fn start(
    tasks: &mut JoinSet<()>,
    parts: Parts,
    shutdown: &CancellationToken,
    disabled: &[Controller],
    client: impl Fn(&str) -> Client,
) {
    let parts = Arc::new(parts);
    for controller in Controller::ALL.into_iter().filter(|controller| !disabled.contains(controller)) {
        let (client, parts, ended) = (client(user(controller)), Arc::clone(&parts), shutdown.clone().cancelled_owned());
        tasks.spawn(async move { controller.run(client, &parts, ended).await });
    }
}
