//! Who may do what: a small table, until roles decide.

use kinds::Resource;
use kinds::registry::Subresource;

use super::{Identity, unauthorized};
use crate::error::ApiError;
use crate::route::{Call, Route};

/// Members may do everything.
const MASTERS: &str = "system:masters";
/// Members are agents of nodes.
const NODES: &str = "system:nodes";
/// Users that are parts of the control plane and work on all resources.
const CONTROLLERS: [&str; 4] = ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver", "system:kube-proxy"];

/// The controller of StatefulSets, which alone of all controllers may run commands in containers: the hooks of sets.
pub const STATEFULSETS: &str = "system:controller:statefulset-controller";

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch", "delete"];

/// What agents of nodes may do besides reading: verbs on a resource, or on a subresource of it.
const NODE_WRITES: &[(&str, &[&str])] = &[
    ("nodes", WRITE),
    ("nodes/status", WRITE),
    ("pods", WRITE),
    ("pods/status", WRITE),
    ("events", WRITE),
    ("events.events.k8s.io", WRITE),
    ("leases.coordination.k8s.io", WRITE),
    ("persistentvolumes", WRITE),
    ("persistentvolumes/status", WRITE),
    ("persistentvolumeclaims/status", WRITE),
    ("serviceaccounts/token", WRITE),
];

/// What the controller of StatefulSets may do besides reading.
const STATEFULSET_WRITES: &[(&str, &[&str])] = &[
    ("statefulsets.apps", &["update", "patch"]),
    ("statefulsets.apps/status", &["update", "patch"]),
    ("controllerrevisions.apps", WRITE),
    ("pods", WRITE),
    ("pods/exec", &["get", "create"]),
    ("persistentvolumeclaims", &["create", "update", "patch"]),
    ("events", WRITE),
];

/// Lets a request pass, or refuses it in upstream's words.
pub fn authorize(user: &Identity, route: &Route, method: &str, path: &str) -> Result<(), ApiError> {
    let known = !user.is_in("system:unauthenticated");
    match route {
        Route::Health { .. } | Route::Version => Ok(()),
        _ if !known => Err(unauthorized()),
        _ if user.is_in(MASTERS) => Ok(()),
        Route::Object(call) if allows(user, call) => Ok(()),
        Route::Object(call) => Err(forbidden(user, call)),
        _ if matches!(method, "GET" | "HEAD") => Ok(()),
        _ => Err(ApiError::ForbiddenPath { user: user.user.clone(), verb: method.to_lowercase(), path: path.to_owned() }),
    }
}

fn allows(user: &Identity, call: &Call) -> bool {
    let verb = call.verb.name();
    if CONTROLLERS.contains(&user.user.as_str()) {
        return !matches!(call.subresource, Some(Subresource::Exec));
    }
    let writes = match user.user.as_str() {
        STATEFULSETS => STATEFULSET_WRITES,
        _ if user.is_in(NODES) => NODE_WRITES,
        _ => return false,
    };
    let name = named(call.resource, call.subresource);
    let reads = READ.contains(&verb) && call.subresource != Some(Subresource::Exec);
    reads || writes.iter().any(|(allowed, verbs)| *allowed == name && verbs.contains(&verb))
}

fn named(resource: &Resource, subresource: Option<Subresource>) -> String {
    match subresource {
        Some(subresource) => format!("{}/{}", resource.qualified(), subresource.name()),
        None => resource.qualified(),
    }
}

fn forbidden(user: &Identity, call: &Call) -> ApiError {
    let Call { resource, namespace, name, .. } = call;
    let place = match namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let own = match call.subresource {
        Some(subresource) => format!("{}/{}", resource.plural, subresource.name()),
        None => resource.plural.to_owned(),
    };
    let subject = if name.is_empty() { resource.qualified() } else { format!("{} {name:?}", resource.qualified()) };
    let message = format!(
        "{subject} is forbidden: User {:?} cannot {} resource {own:?} in API group {:?} {place}",
        user.user,
        call.verb.name(),
        resource.group
    );
    ApiError::Forbidden { resource, name: name.clone(), message }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::route;

    fn ask(user: &str, groups: &[&str], method: Method, path: &str) -> Result<(), String> {
        let route = route::parse(&method, path, "", &HeaderMap::new()).unwrap();
        authorize(&Identity::new(user, groups), &route, method.as_str(), path).map_err(|error| error.to_string())
    }

    #[test]
    fn everyone_has_their_place() {
        let pods = "/api/v1/namespaces/default/pods";
        assert!(ask("admin", &["system:masters"], Method::POST, pods).is_ok());
        assert!(ask("system:kube-controller-manager", &[], Method::DELETE, pods).is_ok());
        assert!(ask("system:node:n1", &["system:nodes"], Method::GET, "/api/v1/secrets").is_ok());
        assert!(ask("system:node:n1", &["system:nodes"], Method::POST, "/api/v1/namespaces/default/secrets").is_err());
        assert!(ask("system:serviceaccount:default:default", &["system:serviceaccounts"], Method::GET, "/apis").is_ok());
        assert!(ask("system:anonymous", &["system:unauthenticated"], Method::GET, "/readyz").is_ok());
        let exec = format!("{pods}/web-0/exec");
        assert!(
            ask(STATEFULSETS, &[], Method::GET, &exec).is_ok() && ask(STATEFULSETS, &[], Method::DELETE, &format!("{pods}/web-0")).is_ok()
        );
        assert!(ask(STATEFULSETS, &[], Method::POST, "/api/v1/namespaces/default/secrets").is_err());
        for other in ["system:kube-controller-manager", "system:node:n1"] {
            assert!(ask(other, &["system:nodes"], Method::GET, &exec).is_err());
        }
        assert_eq!(ask("system:anonymous", &["system:unauthenticated"], Method::GET, "/api").unwrap_err(), "Unauthorized");
    }

    #[test]
    fn a_refusal_names_user_verb_resource_and_place() {
        assert_eq!(
            ask("bob", &["system:authenticated"], Method::GET, "/api/v1/namespaces/default/pods/web-0/log").unwrap_err(),
            r#"pods "web-0" is forbidden: User "bob" cannot get resource "pods/log" in API group "" in the namespace "default""#
        );
        assert_eq!(
            ask("bob", &["system:authenticated"], Method::GET, "/apis/apps/v1/statefulsets").unwrap_err(),
            r#"statefulsets.apps is forbidden: User "bob" cannot list resource "statefulsets" in API group "apps" at the cluster scope"#
        );
    }
}
