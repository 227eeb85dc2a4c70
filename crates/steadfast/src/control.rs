//! The controllers of the control plane, each a client of the API server under a user of its own.

use std::sync::Arc;

use controllers::{
    Informers, Inventory, binding, disruption, endpoints, garbage, namespaces, nodes, quota, scheduler, service_accounts, statefulset,
};
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Whom the API server sees when controllers ask, the scheduler excepted.
pub(crate) const MANAGER: &str = "system:kube-controller-manager";

/// A controller, as `--disable-controllers` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    StatefulSet,
    Endpoints,
    Binding,
    Disruption,
    Garbage,
    Namespaces,
    ServiceAccounts,
    Nodes,
    Quota,
    Scheduler,
}

const ALL: [Controller; 10] = [
    Controller::StatefulSet,
    Controller::Endpoints,
    Controller::Binding,
    Controller::Disruption,
    Controller::Garbage,
    Controller::Namespaces,
    Controller::ServiceAccounts,
    Controller::Nodes,
    Controller::Quota,
    Controller::Scheduler,
];

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::StatefulSet => "statefulset",
            Self::Endpoints => "endpoints",
            Self::Binding => "binding",
            Self::Disruption => "disruption",
            Self::Garbage => "garbage",
            Self::Namespaces => "namespaces",
            Self::ServiceAccounts => "service-accounts",
            Self::Nodes => "nodes",
            Self::Quota => "quota",
            Self::Scheduler => "scheduler",
        }
    }

    /// Whom the API server sees.
    fn user(self) -> &'static str {
        match self {
            Self::Scheduler => "system:kube-scheduler",
            Self::StatefulSet => "system:controller:statefulset-controller",
            _ => MANAGER,
        }
    }
}

/// What the controllers work with.
pub(crate) struct Control {
    pub(crate) informers: Informers,
    pub(crate) inventory: Inventory,
    /// The authority's certificate, which every namespace is given.
    pub(crate) certificate: Arc<str>,
    pub(crate) shutdown: CancellationToken,
}

/// The controllers that are to run: all but those named. Unknown names are refused.
pub(crate) fn check(disabled: &[String]) -> Result<(), Failure> {
    match disabled.iter().find(|name| !ALL.iter().any(|controller| controller.name() == *name)) {
        Some(unknown) => {
            let known: Vec<_> = ALL.iter().map(|controller| controller.name()).collect();
            Err(Failure::Message(format!("no controller is called {unknown:?}; these are: {}", known.join(", "))))
        }
        None => Ok(()),
    }
}

/// Starts all controllers but those that are disabled.
pub(crate) fn start(tasks: &mut JoinSet<()>, control: Control, disabled: &[String], client: impl Fn(&str) -> Client) {
    let control = Arc::new(control);
    for controller in ALL {
        if !disabled.iter().any(|name| name == controller.name()) {
            tasks.spawn(run(controller, Arc::clone(&control), client(controller.user())));
        }
    }
}

async fn run(controller: Controller, control: Arc<Control>, client: Client) {
    let Control { informers, inventory, certificate, shutdown } = &*control;
    let ended = shutdown.cancelled();
    match controller {
        Controller::StatefulSet => statefulset::run(client, informers, ended).await,
        Controller::Endpoints => endpoints::run(client, informers, ended).await,
        Controller::Binding => binding::run(client, informers, ended).await,
        Controller::Disruption => disruption::run(client, informers, ended).await,
        Controller::Garbage => garbage::run(client, inventory, ended).await,
        Controller::Namespaces => namespaces::run(client, informers, inventory, ended).await,
        Controller::ServiceAccounts => service_accounts::run(client, informers, Arc::clone(certificate), ended).await,
        Controller::Nodes => nodes::run(client, informers, ended).await,
        Controller::Quota => quota::run(client, informers, inventory, ended).await,
        Controller::Scheduler => scheduler::run(client, informers, ended).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_controller_has_is_refused_with_those_there_are() {
        assert!(check(&["statefulset".to_owned(), "garbage".to_owned()]).is_ok());
        let error = check(&["deployment".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"deployment\"") && error.contains("statefulset, endpoints"), "{error}");
    }
}
