//! The controllers there are, by the names users know them by, and what each needs.

use std::sync::Arc;

use kinds::SetKind;
use kube::Client;
use thiserror::Error;

use crate::{
    Informers, Inventory, binding, disruption, endpoints, garbage, namespaces, nodes, quota, scheduler, service_accounts, statefulset,
};

/// One of the controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
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

/// A name that no controller has.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no controller is called {name:?}; these are: {}", Controller::ALL.map(Controller::name).join(", "))]
pub struct UnknownController {
    name: String,
}

/// What the controllers work with, shared by all that run in one process.
#[derive(Clone)]
pub struct Parts {
    pub informers: Informers,
    pub inventory: Inventory,
    /// The cluster authority's certificate in PEM, which every namespace is given.
    pub certificate: Arc<str>,
}

impl Parts {
    /// Begins to watch all that any controller looks at.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(client: &Client, certificate: Arc<str>) -> Self {
        Self { informers: Informers::start(client), inventory: Inventory::start_here(client), certificate }
    }

    /// Begins to watch what these controllers look at, and nothing else.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_for(chosen: &[Controller], client: &Client, sets: SetKind, certificate: Arc<str>) -> Self {
        let watched = |plural: &str| chosen.iter().any(|controller| controller.watches(plural));
        let inventory = match chosen.iter().any(|controller| controller.takes_inventory()) {
            true => Inventory::start(client),
            false => Inventory::idle(),
        };
        Self { informers: Informers::start_some(client, sets, watched), inventory, certificate }
    }
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::StatefulSet,
        Self::Endpoints,
        Self::Binding,
        Self::Disruption,
        Self::Garbage,
        Self::Namespaces,
        Self::ServiceAccounts,
        Self::Nodes,
        Self::Quota,
        Self::Scheduler,
    ];

    /// What users call it.
    pub const fn name(self) -> &'static str {
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

    /// The controllers of these names, each once.
    pub fn chosen(names: &[String]) -> Result<Vec<Self>, UnknownController> {
        let mut chosen = Vec::new();
        for name in names {
            let found = Self::ALL.into_iter().find(|controller| controller.name() == name);
            let controller = found.ok_or_else(|| UnknownController { name: name.clone() })?;
            if !chosen.contains(&controller) {
                chosen.push(controller);
            }
        }
        Ok(chosen)
    }

    /// Whether it follows the objects of all kinds.
    pub(crate) fn takes_inventory(self) -> bool {
        matches!(self, Self::Garbage | Self::Namespaces | Self::Quota)
    }

    /// Runs it until `shutdown`.
    pub async fn run(self, client: Client, parts: &Parts, shutdown: impl Future<Output = ()> + Send) {
        let Parts { informers, inventory, certificate } = parts;
        match self {
            Self::StatefulSet => statefulset::run(client, informers, shutdown).await,
            Self::Endpoints => endpoints::run(client, informers, shutdown).await,
            Self::Binding => binding::run(client, informers, shutdown).await,
            Self::Disruption => disruption::run(client, informers, shutdown).await,
            Self::Garbage => garbage::run(client, inventory, shutdown).await,
            Self::Namespaces => namespaces::run(client, informers, inventory, shutdown).await,
            Self::ServiceAccounts => service_accounts::run(client, informers, Arc::clone(certificate), shutdown).await,
            Self::Nodes => nodes::run(client, informers, shutdown).await,
            Self::Quota => quota::run(client, informers, inventory, shutdown).await,
            Self::Scheduler => scheduler::run(client, informers, shutdown).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_controller_has_is_refused_with_those_there_are() {
        let chosen = |names: &[&str]| Controller::chosen(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(chosen(&["garbage", "statefulset", "garbage"]), Ok(vec![Controller::Garbage, Controller::StatefulSet]));
        let error = chosen(&["statefulset", "deployment"]).unwrap_err().to_string();
        assert!(error.contains("\"deployment\"") && error.contains("statefulset, endpoints"), "{error}");
    }
}
