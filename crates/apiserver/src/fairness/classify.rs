//! Whose requests wait together.

use plan::access::MASTERS;
use plan::fairness::{Flow, Level};

use crate::auth::Identity;
use crate::route::Route;
use crate::service::Caller;

/// Whose requests a request waits behind. `None` if it never waits: the server's own, and questions about its health.
pub fn flow(caller: &Caller, user: &Identity, route: &Route) -> Option<Flow> {
    let level = match (caller, route) {
        (_, Route::Health { .. }) => return None,
        (Caller::InProcess(own), _) if own.is_in(MASTERS) => return None,
        (Caller::InProcess(_), _) => Level::System,
        (Caller::Network { .. }, _) => of_user(user),
    };
    Some(Flow { level, client: user.user.as_str().into() })
}

fn of_user(user: &Identity) -> Level {
    let is_cluster = || user.is_in(MASTERS) || user.is_in("system:serviceaccounts:kube-system");
    match user {
        user if user.is_in("system:nodes") => Level::System,
        _ if is_cluster() => Level::WorkloadHigh,
        user if user.is_in("system:unauthenticated") => Level::CatchAll,
        _ => Level::WorkloadLow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_last_and_nodes_first() {
        for (groups, level) in [
            (["system:nodes", "system:authenticated"], Level::System),
            ([MASTERS, "system:authenticated"], Level::WorkloadHigh),
            (["system:serviceaccounts:kube-system", "system:authenticated"], Level::WorkloadHigh),
            (["system:serviceaccounts:default", "system:authenticated"], Level::WorkloadLow),
            (["", "system:unauthenticated"], Level::CatchAll),
        ] {
            assert_eq!(of_user(&Identity::new("someone", &groups)), level);
        }
    }
}
