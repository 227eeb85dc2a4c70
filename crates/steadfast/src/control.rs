//! The controllers of the control plane, each a client of the API server under a user of its own.

use std::sync::Arc;

use controllers::roster::{Controller, Parts};
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
        let (client, parts, ended) = (client(controller.user()), Arc::clone(&parts), shutdown.clone().cancelled_owned());
        tasks.spawn(async move { controller.run(client, &parts, ended).await });
    }
}
