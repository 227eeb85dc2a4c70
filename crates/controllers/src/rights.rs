//! What each controller asks of the API server: the one table that roles for a foreign cluster are made from, and that says
//! which live views a controller needs. Tests record what controllers really ask for and compare.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;
use kinds::{SetKind, registry};

use crate::roster::Controller;

/// Verbs on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// `pods`, or `pods/status` for a subresource.
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
}

/// Whom the API server sees when most controllers ask, and when all look.
pub const MANAGER: &str = "system:kube-controller-manager";

const fn right(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Right {
    Right { group, resource, verbs }
}

const VIEW: &[&str] = &["list", "watch"];
const EVENTS: Right = right("", "events", &["create", "patch"]);
const NODES: Right = right("", "nodes", VIEW);
const PODS: Right = right("", "pods", VIEW);
const STORAGE_CLASSES: Right = right("storage.k8s.io", "storageclasses", VIEW);
const NAMESPACES: Right = right("", "namespaces", VIEW);

/// The sets stand here under Kubernetes' name.
const STATEFUL_SET: &[Right] = &[
    right("apps", "statefulsets", &["get", "list", "update", "watch"]),
    right("apps", "statefulsets/status", &["update"]),
    right("apps", "controllerrevisions", &["create", "delete", "list", "patch", "watch"]),
    right("", "pods", &["create", "delete", "list", "patch", "update", "watch"]),
    // Hooks before pods go.
    right("", "pods/exec", &["create", "get"]),
    right("", "persistentvolumeclaims", &["create", "list", "patch", "watch"]),
    EVENTS,
];

const ENDPOINTS: &[Right] = &[
    right("", "services", VIEW),
    right("discovery.k8s.io", "endpointslices", &["create", "delete", "list", "update", "watch"]),
    right("", "endpoints", &["create", "delete", "list", "update", "watch"]),
    PODS,
    NODES,
];

const BINDING: &[Right] = &[
    right("", "persistentvolumeclaims", &["get", "list", "update", "watch"]),
    right("", "persistentvolumeclaims/status", &["update"]),
    right("", "persistentvolumes", &["get", "list", "update", "watch"]),
    right("", "persistentvolumes/status", &["update"]),
    STORAGE_CLASSES,
    PODS,
    NODES,
    EVENTS,
];

const SERVICE_ACCOUNTS: &[Right] = &[
    NAMESPACES,
    right("", "serviceaccounts", &["create", "list", "watch"]),
    right("", "configmaps", &["create", "list", "update", "watch"]),
];

const NODE_HEALTH: &[Right] = &[
    right("", "nodes", &["get", "list", "update", "watch"]),
    right("", "nodes/status", &["update"]),
    right("coordination.k8s.io", "leases", VIEW),
    right("", "pods", &["delete", "list", "watch"]),
    right("", "pods/status", &["patch"]),
    EVENTS,
];

const SCHEDULER: &[Right] = &[
    NODES,
    NAMESPACES,
    PODS,
    right("", "pods/binding", &["create"]),
    right("", "pods/status", &["patch"]),
    right("", "persistentvolumeclaims", &["list", "patch", "watch"]),
    right("", "persistentvolumes", VIEW),
    STORAGE_CLASSES,
    EVENTS,
];

const UNDERTAKER: &[Right] = &[NAMESPACES, right("", "namespaces/status", &["update"]), right("", "namespaces/finalize", &["update"])];

const DISRUPTION: &[Right] = &[
    right("policy", "poddisruptionbudgets", VIEW),
    right("policy", "poddisruptionbudgets/status", &["update"]),
    right("apps", "statefulsets", VIEW),
    PODS,
    EVENTS,
];

const QUOTA: &[Right] = &[
    right("", "resourcequotas", VIEW),
    right("", "resourcequotas/status", &["update"]),
    PODS,
    right("", "persistentvolumeclaims", VIEW),
    right("", "services", VIEW),
];

/// What a candidate asks for about its Lease.
pub const ELECTION: Right = right("coordination.k8s.io", "leases", &["create", "get", "list", "update", "watch"]);

/// One rule per resource, with all verbs that these rights have on it.
pub fn rules(rights: impl Iterator<Item = Right>) -> Vec<PolicyRule> {
    let mut verbs: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for right in rights {
        verbs.entry((right.group, right.resource)).or_default().extend(right.verbs);
    }
    let one = |text: &str| Some(vec![text.to_owned()]);
    let rule = |((group, resource), verbs): ((&str, &str), BTreeSet<&str>)| PolicyRule {
        api_groups: one(group),
        resources: one(resource),
        verbs: verbs.into_iter().map(str::to_owned).collect(),
        ..PolicyRule::default()
    };
    verbs.into_iter().map(rule).collect()
}

/// The users that controllers act as in one process with the API server, and what each may do: what the table says.
pub fn of_users() -> Vec<(&'static str, Vec<PolicyRule>)> {
    let mut users: BTreeMap<&str, Vec<Right>> = BTreeMap::new();
    for controller in Controller::ALL {
        let rights = SetKind::ALL.into_iter().flat_map(|sets| controller.rights(sets));
        users.entry(controller.user()).or_default().extend(rights);
    }
    // Where several servers share a store, one of them runs the controllers.
    users.entry(MANAGER).or_default().push(ELECTION);
    users.into_iter().map(|(user, rights)| (user, rules(rights.into_iter()))).collect()
}

impl Controller {
    /// Whom the API server sees when the controller asks in its own process.
    pub const fn user(self) -> &'static str {
        match self {
            Self::StatefulSet => "system:controller:statefulset-controller",
            Self::Scheduler => "system:kube-scheduler",
            _ => MANAGER,
        }
    }

    /// All that the controller asks for, when it looks after sets of this kind.
    pub fn rights(self, sets: SetKind) -> Vec<Right> {
        let of_sets = |right: &Right| match right.resource {
            "statefulsets" | "statefulsets/status" => Right { group: sets.group(), ..*right },
            _ => *right,
        };
        self.own_rights().iter().map(of_sets).chain(self.rights_on_all()).collect()
    }

    /// Whether the controller looks at this resource through the shared views.
    pub(crate) fn watches(self, plural: &str) -> bool {
        self.own_rights().iter().any(|right| right.resource == plural && right.verbs.contains(&"watch"))
    }

    fn own_rights(self) -> &'static [Right] {
        match self {
            Self::StatefulSet => STATEFUL_SET,
            Self::Endpoints => ENDPOINTS,
            Self::Binding => BINDING,
            Self::Disruption => DISRUPTION,
            Self::Garbage => &[EVENTS],
            Self::Namespaces => UNDERTAKER,
            Self::ServiceAccounts => SERVICE_ACCOUNTS,
            Self::Nodes => NODE_HEALTH,
            Self::Quota => QUOTA,
            Self::Scheduler => SCHEDULER,
        }
    }

    /// The rights on objects of every kind that is known.
    fn rights_on_all(self) -> Vec<Right> {
        let stored = registry::RESOURCES.iter().filter(|resource| resource.group != "events.k8s.io");
        let on = |resource: &registry::Resource, verbs| right(resource.group, resource.plural, verbs);
        match self {
            Self::Garbage => {
                let followed = stored.filter(|resource| resource.storage != "events");
                followed.map(|resource| on(resource, &["delete", "get", "list", "patch", "watch"])).collect()
            }
            Self::Namespaces => stored
                .map(|resource| match (resource.storage, resource.is_namespaced()) {
                    ("events", _) => on(resource, &["deletecollection", "list"]),
                    (_, true) => on(resource, &["deletecollection", "list", "watch"]),
                    (_, false) => on(resource, VIEW),
                })
                .collect(),
            // It counts objects of whatever kind a quota names.
            Self::Quota => stored.map(|resource| on(resource, VIEW)).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
