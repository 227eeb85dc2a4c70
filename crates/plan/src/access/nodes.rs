//! What a node's agent may do: what all agents need, but only with the node's own objects.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Ask, Asked, Reference, Target, Who, rules};

/// Agents of nodes are in this group.
pub const NODES: &str = "system:nodes";
const USER: &str = "system:node:";
/// Where nodes say that they live.
const LEASES: &str = "kube-node-lease";
const READ: [&str; 3] = ["get", "list", "watch"];

/// Whether an agent may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    Allowed,
    Denied(String),
    /// If a pod of the node refers to this object.
    IfReferred {
        namespace: &'a str,
        to: Reference<'a>,
    },
    /// If the pod is the node's.
    IfBound {
        namespace: &'a str,
        pod: &'a str,
    },
}

/// The node whose agent someone is.
pub fn node_of<'a>(who: Who<'a>) -> Option<&'a str> {
    who.user.strip_prefix(USER).filter(|node| !node.is_empty() && who.is_in(NODES))
}

/// The refusal of what no pod of the node has to do with.
pub fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// Judges a request of a node's agent; `general` is what all agents may do.
pub fn judge<'a>(node: &str, ask: &Ask<'a>, general: &[PolicyRule]) -> Verdict<'a> {
    let Target::Resource(asked) = ask.target else { return by_rules(ask, general) };
    match (asked.group, asked.resource, asked.subresource) {
        ("", "secrets", _) => read(ask.verb, &asked, Reference::Secret(asked.name)),
        ("", "configmaps", _) => read(ask.verb, &asked, Reference::ConfigMap(asked.name)),
        ("", "persistentvolumeclaims", "") => one(&["get"], ask.verb, &asked, Reference::Claim(asked.name)),
        ("", "persistentvolumeclaims", "status") => one(&["update", "patch"], ask.verb, &asked, Reference::Claim(asked.name)),
        ("", "persistentvolumes", "") if ask.verb == "get" => one(&["get"], ask.verb, &asked, Reference::Volume(asked.name)),
        ("", "serviceaccounts", "token") if ask.verb == "create" && !asked.name.is_empty() => {
            Verdict::IfReferred { namespace: asked.namespace, to: Reference::Account(asked.name) }
        }
        ("", "serviceaccounts", _) => denied("can only create tokens for individual service accounts"),
        ("", "pods", "") if READ.contains(&ask.verb) => pods(node, ask.verb, &asked),
        ("", "nodes", "") if READ.contains(&ask.verb) => match asked.name == node {
            true => Verdict::Allowed,
            false => denied(&format!("node '{node}' cannot read '{}', only its own Node object", asked.name)),
        },
        ("coordination.k8s.io", "leases", "") => lease(node, ask.verb, &asked),
        _ => by_rules(ask, general),
    }
}

fn by_rules<'a>(ask: &Ask<'_>, general: &[PolicyRule]) -> Verdict<'a> {
    if general.iter().any(|rule| rules::allows(rule, ask)) { Verdict::Allowed } else { Verdict::Denied(String::new()) }
}

fn denied<'a>(why: &str) -> Verdict<'a> {
    Verdict::Denied(why.to_owned())
}

fn read<'a>(verb: &str, asked: &Asked<'a>, to: Reference<'a>) -> Verdict<'a> {
    match (READ.contains(&verb), asked.subresource, asked.namespace, asked.name) {
        (false, ..) => denied("can only read resources of this type"),
        (_, "", "", _) => denied("can only read namespaced object of this type"),
        (_, "", _, "") => denied("No Object name found"),
        (_, "", namespace, _) => Verdict::IfReferred { namespace, to },
        _ => denied("cannot read subresource"),
    }
}

/// What is done to one object, if it is one of these verbs.
fn one<'a>(verbs: &[&str], verb: &str, asked: &Asked<'a>, to: Reference<'a>) -> Verdict<'a> {
    match (verbs.contains(&verb), asked.name) {
        (false, _) => denied(&format!("can only {} individual resources of this type", verbs.join(" or "))),
        (true, "") => denied("No Object name found"),
        (true, _) => Verdict::IfReferred { namespace: asked.namespace, to },
    }
}

fn pods<'a>(node: &str, verb: &str, asked: &Asked<'a>) -> Verdict<'a> {
    if verb == "get" || !asked.name.is_empty() {
        return Verdict::IfBound { namespace: asked.namespace, pod: asked.name };
    }
    if asked.on_node == node { Verdict::Allowed } else { denied("can only list/watch pods with spec.nodeName field selector") }
}

fn lease<'a>(node: &str, verb: &str, asked: &Asked<'_>) -> Verdict<'a> {
    match verb {
        "create" | "get" | "update" | "patch" | "delete" if asked.namespace != LEASES => {
            denied(&format!("can only access leases in the {LEASES:?} system namespace"))
        }
        "create" if asked.name.is_empty() => Verdict::Allowed,
        "create" | "get" | "update" | "patch" | "delete" if asked.name == node => Verdict::Allowed,
        "create" | "get" | "update" | "patch" | "delete" => denied("can only access node lease with the same name as the requesting node"),
        _ => denied("can only get, create, update, patch, or delete a node lease"),
    }
}
